"""What live objects are made of, as the plain values that YAML and checkpoints hold."""

import copy
import enum
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import nn

_PLAIN = (bool, int, float, str, type(None))
UNKNOWN = "no plain value"
"""The key of what stands for an object that cannot be written as plain values; there with its type."""


class Made(NamedTuple):
    """The arguments that an object was made with, and the attributes that it had then.

    Attributes:
        arguments: Of its constructor by name, defaults included.
        attributes: Of it and of its modules by their name in it, as its constructor left them.
    """

    arguments: dict[str, Any]
    attributes: dict[str, dict[str, Any]]


class KeepsArguments:
    """Base of classes whose objects know the arguments that they were made with, and what changed afterwards."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _keeping(cls.__init__)  # type: ignore[method-assign]

    def when_made(self) -> None:
        """Called at the end of the constructor; subclasses may do something here."""


def _keeping(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor; the outermost of an object keeps its arguments."""
    signature = inspect.signature(init)
    has_settings = any(x.kind is inspect.Parameter.VAR_KEYWORD for x in signature.parameters.values())

    @functools.wraps(init)
    def keeping(self: Any, *args: Any, **kwargs: Any) -> None:
        is_outermost = "_made" not in vars(self)
        if is_outermost:
            self.__dict__["_made"] = {}
        # What an inner constructor was left to choose, the outer one's ``**settings`` could have said.
        defaults: dict[str, Any] | None = self.__dict__["_made"]
        if not has_settings:
            self.__dict__["_made"] = None
        init(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        given = set(bound.arguments)
        bound.apply_defaults()
        arguments = _by_name(signature, bound.arguments)
        if is_outermost:
            self.__dict__["_made"] = Made({**(defaults or {}), **arguments}, _attributes(self))
            self.when_made()
        elif defaults is not None:
            defaults |= {name: value for name, value in arguments.items() if name not in given}

    return keeping


def _by_name(signature: inspect.Signature, bound: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments but for the object itself, those of ``**kwargs`` by their own names."""
    _, *names = bound
    arguments: dict[str, Any] = {}
    for name in names:
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= bound[name]
        else:
            arguments[name] = bound[name]
    return arguments


def plain(value: Any) -> Any:
    """A value as YAML holds it: an object by its class and the arguments it was made with, or by its `plain_value`.

    A dict with the key :data:`UNKNOWN` stands for what cannot be written so.
    """
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, _PLAIN) or (hasattr(value, "item") and getattr(value, "shape", None) == ()):
        return _as_builtin(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if not isinstance(value, type) and hasattr(value, "plain_value"):
        return plain(value.plain_value)
    own = getattr(value, "__dict__", {}).get("_made")
    arguments = _arguments_by_attributes(value) if own is None else own.arguments
    if arguments is None:
        return {UNKNOWN: type(value).__qualname__}
    return {"class_path": import_path(type(value)), "init_args": {name: plain(x) for name, x in arguments.items()}}


def _arguments_by_attributes(value: Any) -> dict[str, Any] | None:
    """The attributes that are called as the arguments of the constructor; None if that does not tell all.

    Of a module of another library some may be left out: what then is another gives other weights, which are refused.
    """
    if type(value).__module__ == "builtins" or isinstance(value, type) or hasattr(value, "__array__"):
        return None
    try:
        parameters = inspect.signature(type(value)).parameters
    except (TypeError, ValueError):
        return None
    arguments: dict[str, Any] = {}
    for name, parameter in parameters.items():
        is_named = parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if is_named and hasattr(value, name):
            found = getattr(value, name)
            is_part = isinstance(parameter.default, bool) and not isinstance(found, bool)  # as the bias of a layer
            arguments[name] = found is not None if is_part else found
        elif not isinstance(value, nn.Module):
            return None
    return arguments


def import_path(cls: type) -> str:
    """The path by which a class is imported, through the shortest of its packages that has it."""
    parts = cls.__module__.split(".")
    packages = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    has_it = (name for name in packages if getattr(sys.modules.get(name), cls.__qualname__, None) is cls)
    return f"{next(has_it, cls.__module__)}.{cls.__qualname__}"


def changes(value: nn.Module) -> dict[str, Any]:
    """What was changed in an object after it was made, and in what it is made of, by its name in the object.

    These are attributes that are numbers, texts or lists and dicts of such, and modules that took another's place.
    """
    return dict(_changes(value, "", Made({}, {}), ""))


def _changes(module: nn.Module, path: str, owner: Made, place: str) -> Iterator[tuple[str, Any]]:
    """Changes of a module that is at `path` in the whole and at `place` in the object that knows how it was made."""
    made = vars(module).get("_made")
    owner, place = (owner, place) if made is None else (made, "")
    before, now = owner.attributes.get(place, {}), dict(_of_module(module))
    is_root = isinstance(made, Made) and hasattr(
        type(module), "trainer"
    )  # a module of Lightning's, with much of its own
    for name in {**before, **now}:
        full = f"{path}.{name}" if path else name
        old, new = before.get(name, UNKNOWN), now.get(name, getattr(module, name, None))
        if isinstance(new, nn.Module) and new is old:
            yield from _changes(new, full, owner, f"{place}.{name}" if place else name)
        elif isinstance(new, nn.Module) or (not _is_same(old, new) and (not is_root or name in owner.arguments)):
            yield full, plain(new)


def _is_same(old: Any, new: Any) -> bool:
    return bool(type(old) is type(new) and (old == new or (old != old and new != new)))


def made(value: Any, kind: Any) -> Any:
    """The object of which :func:`plain` made a value, whose class is imported.

    Raises:
        ValueError: If there is something in it that is no plain value, or it is of no such kind.
    """
    check_plain(value)
    from jsonargparse import ArgumentParser  # here: to draw trajectories it is not needed

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--made", type=kind)
    # Of a copy: the parser puts objects of its own into lists.
    return parser.instantiate(parser.parse_object({"made": copy.deepcopy(value)})).made


def check_plain(value: Any) -> None:
    """Raise a ValueError that names what in a value of :func:`plain` could not be written, if anything."""
    for name, unknown in _unknown(value, ""):
        raise ValueError(f"{name.removeprefix('.')} was given as {unknown}, which no checkpoint holds")


def _unknown(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """The parts of a value that are no plain values: their names, and what they are."""
    if isinstance(value, Mapping) and UNKNOWN in value:
        yield path, str(value[UNKNOWN])
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _unknown(item, path if name == "init_args" else f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, f"{path}.{index}")


def change(module: nn.Module, changed: Mapping[str, Any]) -> None:
    """Make what :func:`changes` found of another object of the same arguments true of this one.

    Raises:
        ValueError: If something cannot be made, or there is no place for it.
    """
    for path, value in changed.items():
        parent, _, name = path.rpartition(".")
        try:
            owner = module.get_submodule(parent)
        except AttributeError as error:
            raise ValueError(f"there is no {parent} to have {name} {value}") from error
        old = getattr(owner, name, None)
        is_object = isinstance(value, Mapping) and ("class_path" in value or UNKNOWN in value)
        setattr(owner, name, made(value, nn.Module) if is_object else tuple(value) if isinstance(old, tuple) else value)


def _attributes(value: Any) -> dict[str, dict[str, Any]]:
    """The attributes that are plain, and the modules in it, of an object and of its modules by their name in it."""
    if not isinstance(value, nn.Module):
        return {}
    return {path: dict(_of_module(module)) for path, module in value.named_modules()}


def _of_module(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in {**vars(module), **module._modules}.items():
        if name.startswith("_") or name == "training":
            continue
        if isinstance(value, (*_PLAIN, nn.Module)):
            yield name, value
        elif isinstance(value, list | tuple) and all(isinstance(item, _PLAIN) for item in value):
            yield name, type(value)(value) if type(value) in (list, tuple) else value
        elif type(value) is dict and all(isinstance(item, _PLAIN) for pair in value.items() for item in pair):
            yield name, dict(value)


def _as_builtin(value: Any) -> Any:
    """A number or a text of NumPy, or of a class of its own, as one of Python's, which any file can hold."""
    value = value.item() if hasattr(value, "item") else value
    return next(
        (kind(value) for kind in (int, float, str) if isinstance(value, kind) and type(value) is not bool), value
    )
