"""The source files that a module depends on: its own and those of what it imports, found without importing anything."""

import ast
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib.util import decode_source, resolve_name
from pathlib import Path
from typing import NamedTuple

_STANDARD_LIBRARY = os.path.join(sysconfig.get_path("stdlib"), "")
_INSTALLED = {"site-packages", "dist-packages"}


class Module(NamedTuple):
    """Where a module's source is, and what its relative imports start from."""

    name: str
    path: str
    package: str

    def is_of(self, package: str) -> bool:
        """Whether the module is `package` or in it; the name of `package` has no dot."""
        return self.name.partition(".")[0] == package

    @property
    def is_installed(self) -> bool:
        """Whether it is of the standard library or an installed package, and so not one that a user works on."""
        return self.path.startswith(_STANDARD_LIBRARY) or not _INSTALLED.isdisjoint(Path(self.path).parts)

    def may_change_with(self, other: "Module") -> bool:
        """Whether who changes `other` may change it too: it is of the same package, or of none that is installed."""
        return self.is_of(other.name.partition(".")[0]) or not self.is_installed

    def source(self) -> bytes:
        """The content of the module's file as it is now."""
        stat = os.stat(self.path)
        return _read(self.path, stat.st_mtime_ns, stat.st_size)

    def imports(self) -> list["Module"]:
        """Every module that this one imports itself, wherever in its file, and whether or not it has done so yet."""
        found = map(find_module, _names(self.source(), self.package))
        return [module for module in found if module is not None]


def sources_of(module: Module, is_part: Callable[[Module], bool]) -> dict[Module, bytes]:
    """The source of `module` and of every module that it imports, directly or not, and of which `is_part` holds."""
    sources: dict[Module, bytes] = {}
    waiting = [module]
    while waiting:
        importer = waiting.pop()
        if importer not in sources:
            with suppress(OSError):
                sources[importer] = importer.source()
                waiting += filter(is_part, importer.imports())
    return sources


def find_module(name: str) -> Module | None:
    """A module, imported or not, by its dotted name; None if it is not written in Python or there is none."""
    if name in sys.modules:
        loaded = sys.modules[name]
        path, is_package = getattr(loaded, "__file__", None), hasattr(loaded, "__path__")
    else:
        path, folders = _found(name)
        is_package = folders is not None
    if path is None or not path.endswith(".py"):
        return None
    return Module(name, path, name if is_package else name.rpartition(".")[0])


@cache
def _read(path: str, modified: int, size: int) -> bytes:
    """The content of a file, read again only if it has been written since."""
    return Path(path).read_bytes()


@cache
def _names(source: bytes, package: str) -> tuple[str, ...]:
    """The dotted name of everything that a source imports: of packages, modules, and what may be a module or not."""
    names: dict[str, None] = {}
    with suppress(SyntaxError, ValueError):  # of a file that Python could not import either
        for statement in _statements(ast.parse(decode_source(source))):
            match statement:
                case ast.Import(aliases):  # after `import a.b.c`, a.x and a.b.x can be used as well
                    for alias in aliases:
                        parts = alias.name.split(".")
                        names |= {".".join(parts[:end]): None for end in range(1, len(parts) + 1)}
                case ast.ImportFrom(origin, aliases, level):
                    with suppress(ImportError):  # a relative import outside of any package
                        start = resolve_name("." * level + (origin or ""), package) if level else str(origin)
                        names |= {start: None} | {f"{start}.{alias.name}": None for alias in aliases}
    return tuple(names)


def _statements(block: ast.AST) -> Iterator[ast.AST]:
    """Every statement in a block and in its blocks."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(block, field, ()):
            yield inner
            yield from _statements(inner)


def _found(name: str) -> tuple[str | None, list[str] | None]:
    """The file of a module that has not been imported, and the folders of a package; None for what it has not."""
    parent = name.rpartition(".")[0]
    folders: list[str] | None = None
    if parent:
        loaded = sys.modules.get(parent)
        folders = _found(parent)[1] if loaded is None else getattr(loaded, "__path__", None)
        if folders is None:
            return None, None
    for finder in sys.meta_path:
        with suppress(Exception):  # finders are anyone's
            spec = finder.find_spec(name, folders)
            if spec is not None:
                origin = spec.origin if spec.has_location else None
                return origin, spec.submodule_search_locations
    return None, None
