from mmbeit3.utils.errors import InputError, compare_classes, listed, warn

__all__ = ["InputError", "compare_classes", "listed", "warn"]
