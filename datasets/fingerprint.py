"""What tells an algorithm of a user's own from what it was before it was changed, or with other settings."""

import hashlib
import json
from collections.abc import Mapping
from importlib.util import decode_source
from typing import Any

import numpy as np

from nar.sources import find_module, sources_of


def code_of(module: str) -> str | None:
    """The source of a module and of what it imports, directly or not; None if it has no file.

    Installed packages are left out, unless it is the module's own, and so is this library.
    """
    start = find_module(module)
    if start is None:
        return None
    sources = sources_of(start, lambda found: not found.is_of("nar") and found.may_change_with(start))
    return repr(sorted(map(decode_source, sources.values()))) if start in sources else None


def digest(code: str | None, attributes: Mapping[str, Any]) -> str | None:
    """Of the code and of attributes; None without code, or if an attribute is no number, text, list, dict or array."""
    try:
        values = json.dumps(attributes, sort_keys=True, default=_as_list)
    except (TypeError, ValueError):
        return None
    return None if code is None else hashlib.sha256(f"{code}\n{values}".encode()).hexdigest()


def _as_list(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"expected an array, given {type(value).__name__}")
