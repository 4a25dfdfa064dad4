"""Where numba keeps what it has compiled of this library, and how it knows that it is no longer right.

By itself numba compiles a function again if the function's own file has changed, but not if one has that it calls; and
without a folder in which it can write, none of its files could even be imported. Importing this module, before anything
is defined that numba compiles, changes that for the files of :data:`FOLDERS` and for no others.
"""

import hashlib
import re
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numba import config
from numba.core.caching import InTreeCacheLocator, UserProvidedCacheLocator, UserWideCacheLocator

PACKAGES = ("nar", "nar.datasets")
FOLDERS = {Path(folder) for name in PACKAGES for folder in getattr(find_spec(name), "submodule_search_locations", ())}
NUMBAS_OWN = "UserProvidedCacheLocator,InTreeCacheLocator,UserWideCacheLocator,IPythonCacheLocator,ZipCacheLocator"
IMPORTS_NUMBA = re.compile(rb"^(?:from|import) numba\b", re.MULTILINE)
IMPORTED = re.compile(rb"^(?:from|import) (?:\w+\.)*(\w+)", re.MULTILINE)
"""The last part of a module's dotted name."""
ROOM = 2**20
"""Bytes that a folder must have room for; an algorithm has some 10⁵."""


class Locator:
    """What numba asks where to keep a function, and for a stamp of its source."""

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> Any:
        """One of numba's own with another stamp, the first whose folder has room; None for a function of other folders.

        These are, in turn, the folder ``NUMBA_CACHE_DIR``, ``__pycache__`` beside the file, one for all of a user's
        programs, and one that is gone with this process.
        """
        if Path(file).parent not in FOLDERS:
            return None
        kinds: list[Any] = [UserProvidedCacheLocator, InTreeCacheLocator, UserWideCacheLocator, InTemporaryFolder]
        for kind in kinds:
            locator = kind.from_function(function, file)
            if locator is not None and has_room(locator.get_cache_path()):
                locator.get_source_stamp = lambda: stamp(Path(file))
                return locator
        return None


class InTemporaryFolder(InTreeCacheLocator):
    """Keeps functions for this process and those that are forked from it."""

    def get_cache_path(self) -> str:
        """The folder, which is removed when this process ends."""
        return temporary_folder().name


def stamp(file: Path) -> bytes:
    """A digest of a file, and of those beside it that import numba too and that it imports, directly or not.

    A constant from any other file is not looked at.
    """
    sources: dict[Path, bytes] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        source = path.read_bytes() if path.exists() and path not in sources else b""
        if IMPORTS_NUMBA.search(source):
            sources[path] = source
            waiting += [file.with_name(f"{name.decode()}.py") for name in IMPORTED.findall(source)]
    return hashlib.sha256(b"".join(hashlib.sha256(sources[path]).digest() for path in sorted(sources))).digest()


@cache
def has_room(folder: str) -> bool:
    """Whether files can be written there."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
            file.flush()
    except OSError:
        return False
    return True


@cache
def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """The same one at every call."""
    return tempfile.TemporaryDirectory(prefix="nar-numba-")


_settings: Any = config
# Older releases of numba have no such setting, and go on by themselves.
_others = getattr(_settings, "CACHE_LOCATOR_CLASSES", "") or NUMBAS_OWN
_settings.CACHE_LOCATOR_CLASSES = f"{__name__}.{Locator.__name__},{_others}"
