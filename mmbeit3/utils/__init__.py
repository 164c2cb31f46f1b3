from mmbeit3.utils.errors import InputError

__all__ = ["InputError"]
