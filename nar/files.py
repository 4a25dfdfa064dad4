"""Files that matter: whole under their names however a writer ends, and looked at before they are read."""

import errno
import io
import logging
import os
import re
import secrets
import stat
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from nar.errors import UserError

LEFT_OVER = 3600.0
"""Seconds after which a file that nobody has finished is taken for one of a writer that was killed."""

_IS_FOLDER = 0x10  # the attribute of MS-DOS
_TEMPORARY = "{name}{token}.tmp"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_log = logging.getLogger(__name__)


def check_file(path: str | Path) -> None:
    """Raise an OSError with the reason if there is no file to read, as where there is a folder, a pipe or a device."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def check_archive(path: str | Path) -> None:
    """Raise an exception, of any kind, if an archive is damaged, or what torch makes of it is not as large as the file.

    ``torch.save`` compresses nothing and writes no ``bytearray``, of which a pickle may ask for any number of bytes. It
    writes the sum of every member, at which ``torch.load`` does not look.
    """
    check_file(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("compressed")
        if any(member.external_attr & _IS_FOLDER for member in members):
            raise ValueError("folders, of whose content torch reads nothing")
        if sum(member.file_size for member in members) > os.path.getsize(path):
            raise ValueError("members that are larger than the file")
        pickles = [member for member in members if member.filename.endswith("data.pkl")]
        if any(b"\nbytearray\n" in archive.read(member) for member in pickles):
            raise ValueError("bytes out of nothing")
        if archive.testzip() is not None:
            raise ValueError("a member of another sum")


@contextmanager
def whole(path: str | Path) -> Iterator[IO[bytes]]:
    """A file beside `path` to write, which takes its place when it is whole and on the disk, and is gone if that fails.

    Raises:
        OSError: If the file cannot be written.
    """
    path = Path(path)
    remove_leftovers(path, LEFT_OVER)
    temporary = path.with_name(_TEMPORARY.format(name=path.name, token=secrets.token_hex(4)))
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path`, where a user says, when it is whole (see :func:`whole`).

    What a link leads to is replaced, and nothing that is no file.

    Raises:
        UserError: If the file cannot be written, in one line that names it.
    """
    path = Path(path).resolve()
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EEXIST, "it is there already and is no file")
        with whole(path) as file:
            yield file
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def replacing_text(path: str | Path) -> Iterator[IO[str]]:
    """A text file to write, in UTF-8 with the ends of lines that are written (see :func:`replacing`).

    Raises:
        UserError: If the file cannot be written, in one line that names it.
    """
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.detach()


def unused(folder: Path, name: str, kinds: Sequence[str]) -> list[Path]:
    """Paths ``<name>.<kind>`` in a folder of which there is none yet; else ``<name>_2.<kind>``, or the next number.

    Args:
        folder: Which need not be there.
        name: Of the files, without what tells their kind.
        kinds: Such as ``csv``.
    """
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    every = ([folder / f"{one}.{kind}" for kind in kinds] for one in names)
    return next(paths for paths in every if not any(path.exists() for path in paths))


def newest(folder: Path, pattern: str) -> Path:
    """The file of a folder that was written last of those that a pattern is of, such as ``answers*.csv``.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = max(folder.glob(pattern), key=lambda path: path.stat().st_mtime_ns, default=None)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder / pattern))
    return found


def remove_leftovers(path: Path, age: float = 0.0) -> None:
    """Remove what killed writers of `path` have left beside it, if nothing was written to it for so many seconds."""
    pattern = re.compile(re.escape(path.name) + r"[0-9a-f]{8}\.tmp")
    with suppress(OSError):
        for other in path.parent.iterdir():
            if pattern.fullmatch(other.name):
                with suppress(OSError):
                    if time.time() - other.stat().st_mtime >= age:
                        other.unlink()


def lock_folder(folder: Path) -> FileLock | None:
    """A lock by which this process is the only one that writes into a folder, until it ends or the lock is released.

    None, after a warning, where the file system has no locks: then it is for the user to see to it.

    Raises:
        UserError: If another process holds it, or the folder cannot be written.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"another run is writing into {folder}: wait for its end, or choose another --trainer.default_root_dir"
        ) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            _log.warning("%s is on a file system without locks: see to it that no other run writes there", folder)
            return None
        raise UserError(f"cannot write into {folder}: {error.strerror or error}") from error
    return lock


def release(lock: FileLock) -> None:
    """Let others write into the folder."""
    with suppress(OSError):  # before it is released: who waits for it sees that it is gone, and makes another
        os.unlink(lock.lock_file)
    lock.release()


def _sync_folder(folder: Path) -> None:
    """Have the disk know the names in a folder; a system that opens no folders writes them in time."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
