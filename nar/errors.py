"""The one exception for what only the user can put right, and what a misspelt name may stand for."""

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST_MISSPELT = 100
"""Characters of a name that may be a misspelt one; to compare longer ones takes too long."""


class UserError(ValueError):
    """What was given, or where the run is to happen, does not allow it to go on.

    The message is one line that names what was found and what was expected; the command line prints it without a
    traceback and ends with a non-zero status.
    """


def meant(given: str, known: Iterable[str]) -> str:
    """What to put after a message about a name: which known one may be meant; nothing if none is like it."""
    close = get_close_matches(given[:_LONGEST_MISSPELT], [name for name in known if name != given], n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def one_line(error: BaseException) -> str:
    """What an error says, or its kind if it says nothing, as one line that is not too long to read."""
    return " ".join((str(error) or type(error).__name__).split())[:400]
