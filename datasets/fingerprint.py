"""What tells an algorithm of a user's own from what it was before it was changed, or with other settings."""

import ast
import hashlib
import json
import sys
import sysconfig
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

import numpy as np

STANDARD_LIBRARY = sysconfig.get_path("stdlib")
INSTALLED = ("site-packages", "dist-packages")


def code_of(module: str) -> str | None:
    """The source of a module and of what it imports, directly or not; None if it has no file.

    Installed packages are left out, unless it is the module's own, and so is this library.
    """
    sources: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = getattr(sys.modules.get(name), "__file__", None)
        if name in sources or path is None or not path.endswith(".py") or not _is_own(name, path, module):
            continue
        with suppress(OSError, SyntaxError), tokenize.open(path) as file:
            sources[name] = file.read()
            waiting += _imported(sources[name], sys.modules[name].__package__)
    return repr(sorted(sources.values())) if module in sources else None


def _is_own(name: str, path: str, module: str) -> bool:
    """Whether a module may change together with `module`."""
    package = name.partition(".")[0]
    is_installed = path.startswith(STANDARD_LIBRARY) or not set(INSTALLED).isdisjoint(Path(path).parts)
    return package != "nar" and (package == module.partition(".")[0] or not is_installed)


def _imported(source: str, package: str | None) -> Iterator[str]:
    """The dotted name of everything that a module may import."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                origin = resolve_name("." * level + (module or ""), package) if level else str(module)
                yield from (origin, *(f"{origin}.{alias.name}" for alias in names))


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
