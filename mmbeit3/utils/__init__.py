from mmbeit3.utils.errors import InputError, listed, warn

__all__ = ["InputError", "listed", "warn"]
