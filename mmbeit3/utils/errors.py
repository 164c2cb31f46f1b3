"""The error that tells a user what to change."""


class InputError(ValueError):
    """Something the user gave cannot work: a file, a config key, an argument.

    The message says what was found, what was expected, and what to do. The tools print it
    without a traceback and exit with status 2.
    """
