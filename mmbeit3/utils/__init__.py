from mmbeit3.utils.errors import InputError, listed

__all__ = ["InputError", "listed"]
