"""Where numba keeps what it has compiled, how it knows that this is no longer right, and that it is damaged.

By itself numba compiles a function again if the function's own file has changed, but not if one has that it calls; it
ends in errors where a file of its cache is damaged, and runs machine code of which a bit has changed; and without a
folder in which it can write, none of this library's files could even be imported. Importing this module, before
anything is defined that numba compiles, changes that for this library and for what a user writes, but not for installed
packages that know nothing of this library.
"""

import hashlib
import io
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

import llvmlite  # type: ignore[import-untyped]
from numba import config
from numba.core import caching
from numba.core.caching import (
    IndexDataCacheFile,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)

from nar.sources import Module, sources_of

_ROOM = 2**20
"""Bytes that a folder must have room for; an algorithm has some 10⁵."""
STAMP = b"nar 1 "
"""What every stamp that :func:`stamp` makes begins with."""
SUM_LENGTH = hashlib.sha256().digest_size


class Locator:
    """Finds the folder in which numba keeps a function, and a stamp of the function's source."""

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> Any:
        """A locator of numba's own with our stamp, the first whose folder has room; None for what is left to numba.

        These are, in turn, the folder ``NUMBA_CACHE_DIR``, ``__pycache__`` beside the file, one for all of a user's
        programs, and one that is gone with this process.
        """
        module = Module(function.__module__, file, function.__globals__.get("__package__") or "")
        if not _is_ours(module):
            return None
        kinds: list[Any] = [UserProvidedCacheLocator, InTreeCacheLocator, UserWideCacheLocator, InTemporaryFolder]
        for kind in kinds:
            locator = kind.from_function(function, file)
            if locator is not None and _has_room(locator.get_cache_path()):
                locator.get_source_stamp = lambda: stamp(module)
                return locator
        return None


class InTemporaryFolder(InTreeCacheLocator):
    """Keeps functions for this process and those that are forked from it."""

    def get_cache_path(self) -> str:
        """The folder, which is removed when this process ends."""
        return temporary_folder().name


def _is_ours(module: Module) -> bool:
    """Whether what numba compiles of a module is kept by the rules of this file.

    It is if the module is of this library, or a user's own, or an installed one that imports this library.
    """
    if not module.path.endswith(".py") or not os.path.isfile(module.path):
        return False
    return module.is_of("nar") or not module.is_installed or any(found.is_of("nar") for found in module.imports())


def stamp(module: Module) -> bytes:
    """A digest of a module's source and of all that may be part of its machine code: what it imports, directly or not.

    Installed packages are left out, but for this library and for the module's own. Of LLVM there is the version, of
    which numba's own keys, with numba's version and the processor, say nothing.
    """
    sources = sources_of(
        module,
        lambda found: found.is_of("nar") or (not module.is_of("nar") and found.may_change_with(module)),
    )
    digests = sorted((found.name, hashlib.sha256(source).hexdigest()) for found, source in sources.items())
    return STAMP + hashlib.sha256(repr((llvmlite.__version__, digests)).encode()).digest()


class SummedCacheFile(IndexDataCacheFile):
    """The files of a function, each with a sum: what is damaged, or was written for another, is as good as not there.

    The sum stands behind what numba writes and is of the file's name and the stamp too. Data have a name of their key,
    so that of several processes that write at once, even with different sources, none is given another's code.
    """

    def load(self, key: Any) -> Any:
        """What is kept under `key`; None if nothing is, or it is damaged."""
        if not self._is_stamped:
            return super().load(key)  # type: ignore[no-untyped-call]
        name = self._load_index().get(key)
        content = None if name is None else self._verified(os.path.join(self._cache_path, name))
        return None if content is None else pickle.loads(content)

    def save(self, key: Any, data: Any) -> None:
        """Keep `data` under `key`, unless there is no room, or something that is no file has the file's name."""
        if not self._is_stamped:
            super().save(key, data)  # type: ignore[no-untyped-call]
            return
        others = {other: name for other, name in self._load_index().items() if other != key}
        number = int.from_bytes(hashlib.sha256(str(key).encode()).digest()[:4])
        files: Any = self  # numba's methods have no types
        while (name := files._data_name(number)) in others.values():
            number += 1
        with suppress(OSError):
            files._save_data(name, data)
            files._save_index({**others, key: name})

    @property
    def _is_stamped(self) -> bool:
        return isinstance(self._source_stamp, bytes) and self._source_stamp.startswith(STAMP)

    def _load_index(self) -> Any:
        if not self._is_stamped:
            return super()._load_index()  # type: ignore[no-untyped-call]
        content = self._verified(self._index_path)
        if content is None:
            return {}
        file = io.BytesIO(content)
        pickle.load(file)  # numba's version, of which the sum is too
        return pickle.load(file)[1]

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[IO[bytes]]:
        content = io.BytesIO()
        yield content
        with super()._open_for_write(filepath) as file:
            file.write(content.getvalue())
            if self._is_stamped:
                file.write(self._sum(filepath, content.getvalue()))

    def _verified(self, path: str) -> bytes | None:
        """The content of a file without its sum; None if that is not the one it should have."""
        content = b""
        with suppress(OSError):
            if os.path.isfile(path):  # for a pipe one would wait without end
                content = Path(path).read_bytes()
        kept, given = content[:-SUM_LENGTH], content[-SUM_LENGTH:]
        return kept if given == self._sum(path, kept) else None

    def _sum(self, path: str, content: bytes) -> bytes:
        about = repr((self._version, self._source_stamp, os.path.basename(path)))
        return hashlib.sha256(about.encode() + content).digest()


@cache
def _has_room(folder: str) -> bool:
    """Whether files of as many bytes as an algorithm takes can be written into a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
            file.flush()
    except OSError:
        return False
    return True


@cache
def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that is removed when this process ends; the same at every call."""
    return tempfile.TemporaryDirectory(prefix="nar-numba-")


_chosen = getattr(config, "CACHE_LOCATOR_CLASSES", "")  # which older releases of numba have not
if _chosen:
    setattr(config, "CACHE_LOCATOR_CLASSES", f"{__name__}.{Locator.__name__},{_chosen}")  # noqa: B010 (has no types)
_caching: Any = caching
_caching.CacheImpl._locator_classes = [Locator, *_caching.CacheImpl._locator_classes]
_caching.IndexDataCacheFile = SummedCacheFile
