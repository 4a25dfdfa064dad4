"""What tells an algorithm of a user's own from what it was before it was changed, or with other settings."""

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from importlib.util import decode_source
from typing import Any

import numpy as np

from nar.sources import Module, find_module, sources_of

_KNOWN = {"nar", *sys.stdlib_module_names}


def code_of(cls: type) -> str | None:
    """The source of a class and of what it uses; None if some of it is in no file.

    It is that of the modules of the class and of those that it inherits from, and of what they import, directly or not.
    Installed packages are left out, unless one is the class's own, and so is this library.
    """
    sources: dict[Module, bytes] = {}
    for name in dict.fromkeys(base.__module__ for base in _own_classes(cls)):
        start = find_module(name)
        if start is None:
            return None
        sources |= sources_of(start, partial(_may_change_with, start))
        if start not in sources:
            return None
    return repr(sorted(set(map(decode_source, sources.values()))))


def state_of(instance: object) -> list[Any]:
    """What an object has besides its code: its attributes, those of its classes, and what is around their functions.

    An attribute of a class that is no data is left out: it is what the code says that it is.
    """
    members = [(name, value) for cls in _own_classes(type(instance)) for name, value in vars(cls).items()]
    data = [(name, value) for name, value in members if not name.startswith("_") and _as_text(value)]
    return [object.__getstate__(instance), data, list(_around([value for _, value in members]))]


def digest(code: str | None, state: Any) -> str | None:
    """A digest of code and state; None without code, or if the state is not of numbers, texts, lists, dicts, arrays."""
    values = _as_text(state)
    return None if code is None or values is None else hashlib.sha256(f"{code}\n{values}".encode()).hexdigest()


def _own_classes(cls: type) -> list[type]:
    """A class and those that it inherits from, but for this library's and Python's."""
    return [base for base in cls.__mro__ if not (base.__module__.split(".")[0] in _KNOWN and _is_defined(base))]


def _is_defined(cls: type) -> bool:
    """Whether its module has it; of classes that are made by a call, that may be the module of what is called."""
    return vars(sys.modules[cls.__module__]).get(cls.__name__) is cls


def _may_change_with(start: Module, found: Module) -> bool:
    return not found.is_of("nar") and found.may_change_with(start)


def _around(values: list[Any]) -> Iterator[Any]:
    """What the functions among some values were defined with: the variables around them, and default arguments."""
    seen = []
    while values:
        value = values.pop()
        function = getattr(value, "__func__", value)  # of a static or a class method
        function = getattr(function, "py_func", function)  # that numba compiles
        if isinstance(value, property):
            values += [value.fget, value.fset]
        if not inspect.isfunction(function) or function in seen:
            continue
        seen.append(function)
        given = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # of what is defined later
                given.append(cell.cell_contents)
        values += given
        yield from (value for value in given if not _is_code(value))


def _is_code(value: object) -> bool:
    """Whether an object is code, of which its source says all."""
    return inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value) or hasattr(value, "py_func")


def _as_text(value: Any) -> str | None:
    """Data as JSON; None for what is no data."""
    with suppress(TypeError, ValueError, RecursionError):
        return json.dumps(value, sort_keys=True, default=_plain)
    return None


def _plain(value: Any) -> Any:
    match value:
        case np.ndarray() | np.generic():
            return value.tolist()
        case Mapping():
            return dict(value)
    raise TypeError(f"expected data, given {type(value).__name__}")
