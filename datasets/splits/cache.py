"""Feedback on disk: written whole or not at all, verified when read, and done without where there is no room."""

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nar.batch import Features, Feedback, NumpyArray
from nar.datasets.engine.arguments import shown
from nar.errors import UserError
from nar.files import check_file, whole

FORMAT = 2
"""The version of the files' format; in the first, choices were one-hot rows."""
FILE_NAME = re.compile(r".+-\d+-(?P<digest>[0-9a-f]{16})\.safetensors")
_READ_ERRORS = (SafetensorError, OSError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""The errors that reading a file may raise which is damaged, or another program's."""
_log = logging.getLogger(__name__)
_warned_of: set[Path] = set()
"""Folders of which this process has said that it goes on without them."""


class CacheError(UserError):
    """The folder of a cache cannot be read or written."""

    @classmethod
    def of(cls, folder: Path, error: OSError) -> "CacheError":
        """An error that says in one line what the file system refuses, and for which folder."""
        return cls(
            f"cannot use the cache folder {folder}: {error.strerror or error}; "
            "make room or name a writable one with --data.cache_dir"
        )


class Cache:
    """A folder of files, each named after everything that determines its content.

    Args:
        folder: Created when something is first written.
    """

    def __init__(self, folder: str | Path) -> None:
        if not isinstance(folder, str | os.PathLike) or not os.fspath(folder) or "\0" in os.fspath(folder):
            raise UserError(f"expected the name of a folder as cache, given {shown(folder)}")
        try:
            self.folder = Path(folder).expanduser()
        except RuntimeError as error:
            own, *inner = Path(folder).parts
            if own != "~":
                raise UserError(f"cannot use the cache folder {folder}: {error}") from error
            # Who has no home, as in some containers, has a folder among the temporary ones.
            self.folder = Path(tempfile.gettempdir(), f"nar-{getattr(os, 'getuid', int)()}", *inner)
        self._unsaved: dict[Path, Feedback[NumpyArray]] = {}  # what could not be written

    def path(self, key: Mapping[str, Any]) -> Path:
        """Where the feedback of `key` is kept."""
        return self.folder / f"{key['algorithm']}-{key['num_nodes']}-{_digest(_canonical(key))}.safetensors"

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether there is a file for `key`, sound or not."""
        path = self.path(key)
        return path in self._unsaved or os.path.exists(path)

    def get(self, key: Mapping[str, Any], generate: Callable[[], Feedback[NumpyArray]]) -> Feedback[NumpyArray]:
        """The feedback of `key`: read, or generated and written if it is missing or damaged.

        Of several processes that ask at once one generates and the others wait. If the folder cannot be used, each
        generates for itself, after one warning.

        Args:
            key: Everything that determines the feedback, JSON-serialisable; with `algorithm` and `num_nodes`.
            generate: Makes it.
        """
        path = self.path(key)
        # What has its name is whole: no lock is needed, which could not be had in a folder that is read-only.
        feedback = self._unsaved[path] if path in self._unsaved else read(path)
        if feedback is not None:
            return feedback
        try:
            return self.fill(key, generate)
        except CacheError as error:
            self.go_on_without(error)
            if path not in self._unsaved:
                self._unsaved[path] = generate()
            return self._unsaved[path]

    def fill(self, key: Mapping[str, Any], generate: Callable[[], Feedback[NumpyArray]]) -> Feedback[NumpyArray]:
        """The feedback of `key` as by :meth:`get`, from a folder that is to have it afterwards.

        Raises:
            CacheError: If the folder cannot be written or the disk is full.
        """
        path = self.path(key)
        with self._locked(path):
            feedback = read(path)
            if feedback is None:
                if os.path.exists(path):
                    _log.warning("the cache file %s is damaged: generating it again", path)
                feedback = generate()
                try:
                    self._write(path, key, feedback)
                except OSError as error:
                    self._unsaved[path] = feedback
                    raise CacheError.of(self.folder, error) from error
            return feedback

    def go_on_without(self, error: CacheError) -> None:
        """Warn of a folder that cannot be used, once in a process."""
        if self.folder not in _warned_of:
            _warned_of.add(self.folder)
            _log.warning("going on without a cache: %s", error)

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Be the only process that is about to write `path`."""
        lock = FileLock(f"{path}.lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()  # where this fails, a lock may be waited for without end
            lock.acquire()
        except OSError as error:
            raise CacheError.of(self.folder, error) from error
        try:
            yield
        finally:
            with suppress(OSError):  # before it is released: who waits for it sees that it is gone, and makes another
                os.unlink(lock.lock_file)
            lock.release()

    def _write(self, path: Path, key: Mapping[str, Any], feedback: Feedback[NumpyArray]) -> None:
        (inputs, hints, lengths), outputs = feedback
        stages = {"inputs": inputs, "hints": hints, "outputs": outputs}
        probes = {f"{stage}/{name}": data for stage, by_name in stages.items() for name, data in by_name.items()}
        arrays = {name: data.copy(order="C") for name, data in {**probes, "lengths": lengths}.items()}
        order = json.dumps(list(probes))
        metadata = {"key": _canonical(key), "order": order, "checksum": _checksum(order, arrays)}
        with whole(path) as file:
            file.write(save(arrays, metadata))


def read(path: Path) -> Feedback[NumpyArray] | None:
    """The feedback in a file; None if there is none, or it is damaged, or under another file's name."""
    try:
        check_file(path)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        order = metadata.get("order", "")
        if _key(path, metadata) is None or not order or metadata.get("checksum") != _checksum(order, arrays):
            return None
        stages: dict[str, dict[str, NumpyArray]] = {"inputs": {}, "hints": {}, "outputs": {}}
        for stage_and_probe in json.loads(order):
            stage, probe = stage_and_probe.split("/")
            stages[stage][probe] = arrays[stage_and_probe]
        return Feedback(Features(stages["inputs"], stages["hints"], arrays["lengths"]), stages["outputs"])
    except _READ_ERRORS:
        return None


def read_key(path: Path) -> dict[str, Any] | None:
    """What determined the content of a file, and its ``format``; None if that is damaged."""
    try:
        check_file(path)
        with safe_open(path, framework="numpy") as file:
            return _key(path, file.metadata() or {})
    except _READ_ERRORS:
        return None


def _key(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The key in a file's header, if it is the one of the file's name."""
    name, text = FILE_NAME.fullmatch(path.name), metadata.get("key", "")
    if not name or name["digest"] != _digest(text):
        return None
    key: dict[str, Any] = json.loads(text)
    return key if isinstance(key, dict) else None


def _canonical(key: Mapping[str, Any]) -> str:
    return json.dumps({**key, "format": FORMAT}, sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _checksum(order: str, arrays: Mapping[str, NumpyArray]) -> str:
    digest = hashlib.sha256(order.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
