"""The one exception for what only the user can put right."""


class UserError(ValueError):
    """What was given, or where the run is to happen, does not allow it to go on.

    The message is one line that names what was found and what was expected; the command line prints it without a
    traceback and ends with a non-zero status.
    """
