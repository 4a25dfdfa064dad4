"""Feedback on disk: written whole or not at all, verified when read."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nar.batch import Features, Feedback, NumpyArray
from nar.errors import UserError

_FORMAT = 1
_log = logging.getLogger(__name__)


class Cache:
    """A folder of files, each named after everything that determines its content.

    Args:
        folder: Created when something is first written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()

    def path(self, key: Mapping[str, Any]) -> Path:
        """Where the feedback of `key` is kept."""
        digest = hashlib.sha256(_canonical(key).encode()).hexdigest()[:16]
        return self.folder / f"{key['algorithm']}-{key['num_nodes']}-{digest}.safetensors"

    def get(self, key: Mapping[str, Any], generate: Callable[[], Feedback[NumpyArray]]) -> Feedback[NumpyArray]:
        """The feedback of `key`: read, or generated and written if it is missing or damaged.

        Of several processes that ask at once one generates and the others wait.

        Args:
            key: Everything that determines the feedback, JSON-serialisable; with `algorithm` and `num_nodes`.
            generate: Makes it.

        Raises:
            UserError: If the folder cannot be written or the disk is full.
        """
        path = self.path(key)
        with self._names_folder():
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{path}.lock").acquire()
        with lock:  # released at its end
            with self._names_folder():
                feedback = self._read(path)
            if feedback is None:
                feedback = generate()
                with self._names_folder():
                    self._write(path, key, feedback)
            return feedback

    @contextmanager
    def _names_folder(self) -> Iterator[None]:
        """Turn what the file system refuses into a :class:`UserError`."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot use the cache folder {self.folder}: {error.strerror or error}; "
                "make room or name a writable one with --data.cache_dir"
            ) from error

    def _read(self, path: Path) -> Feedback[NumpyArray] | None:
        """The feedback in a file; None if there is none or it is damaged."""
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError:
            arrays, metadata = {}, {}
        order = metadata.get("order", "")
        if not order or metadata.get("checksum") != _checksum(order, arrays):
            _log.warning("the cache file %s is damaged: generating it again", path)
            return None
        stages: dict[str, dict[str, NumpyArray]] = {"inputs": {}, "hints": {}, "outputs": {}}
        for name in json.loads(order):
            stage, probe = name.split("/")
            stages[stage][probe] = arrays[name]
        return Feedback(Features(stages["inputs"], stages["hints"], arrays["lengths"]), stages["outputs"])

    def _write(self, path: Path, key: Mapping[str, Any], feedback: Feedback[NumpyArray]) -> None:
        (inputs, hints, lengths), outputs = feedback
        stages = {"inputs": inputs, "hints": hints, "outputs": outputs}
        probes = {f"{stage}/{name}": data for stage, by_name in stages.items() for name, data in by_name.items()}
        arrays = {name: data.copy(order="C") for name, data in {**probes, "lengths": lengths}.items()}
        order = json.dumps(list(probes))
        metadata = {"key": _canonical(key), "order": order, "checksum": _checksum(order, arrays)}
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
        try:
            with open(descriptor, "wb") as file:
                file.write(save(arrays, metadata))
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def _canonical(key: Mapping[str, Any]) -> str:
    return json.dumps({**key, "format": _FORMAT}, sort_keys=True)


def _checksum(order: str, arrays: Mapping[str, NumpyArray]) -> str:
    digest = hashlib.sha256(order.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
