"""Cache folders for people: what is in them, whether it is sound, and how to be rid of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nar.datasets.splits.cache import FILE_NAME, FORMAT, Cache, CacheError, read, read_key
from nar.datasets.splits.splits import VERSION

_MEGABYTE = 1e6
_TEMPORARY = re.compile(r"\w{8}\.tmp")
"""What :func:`nar.files.whole` puts after a file's name."""


def print_files(cache: Cache) -> None:
    """Print a row for each file of a cache, and how much room they take.

    Raises:
        CacheError: If the folder cannot be read.
    """
    with _refusals_named(cache):
        paths = data_files(cache)
        table = Table()
        table.add_column("algorithm", no_wrap=True)
        table.add_column("n", justify="right")
        table.add_column("split")
        table.add_column("trajectories", justify="right")
        table.add_column("MB", justify="right")
        table.add_column("created", no_wrap=True)
        for path in paths:
            algorithm, num_nodes, _ = path.stem.rsplit("-", 2)
            key = read_key(path) or {}
            created = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
            size = f"{path.stat().st_size / _MEGABYTE:.2f}"
            table.add_row(algorithm, num_nodes, _kind(key), str(key.get("num_samples", "?")), size, created)
        summary = f"{cache.folder}: {_count(paths, 'file')}, {_megabytes(paths)}"
    console = Console()
    if not console.is_terminal:
        console.width = 120  # no line is broken that another program may read
    if paths:
        console.print(table)
    print(summary)


def verify(cache: Cache) -> bool:
    """Read every file of a cache, and print which are damaged, and which were left by processes that were killed.

    Returns:
        Whether none is damaged.

    Raises:
        CacheError: If the folder cannot be read.
    """
    with _refusals_named(cache):
        paths = data_files(cache)
        damaged = [path for path in track(paths, "verifying", disable=not Console().is_terminal) if read(path) is None]
        left = leftovers(cache)
    for path in damaged:
        print(f"damaged: {path}")
    for path in left:
        print(f"left by a process that was killed: {path}")
    print(f"{cache.folder}: {_count(paths, 'file')} read, {len(damaged)} damaged, {len(left)} left over")
    if damaged:
        print("what is damaged is generated again when it is needed")
    if left:
        print("nar data clear removes what is left over, and all else of the cache")
    return not damaged


def clear(cache: Cache) -> None:
    """Remove the files of a cache, and nothing else in its folder, and print how much room that made.

    Raises:
        CacheError: If the folder cannot be written.
    """
    with _refusals_named(cache):
        data = data_files(cache)
        doomed = [*data, *leftovers(cache)]
        freed = _megabytes(doomed)
        for path in doomed:
            path.unlink(missing_ok=True)
    print(f"{cache.folder}: {_count(data, 'file')} and {len(doomed) - len(data)} left over removed, {freed} freed")


def data_files(cache: Cache) -> list[Path]:
    """The files of a cache, sound or not, by algorithm and size."""
    paths = [path for path in _entries(cache) if FILE_NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (path.name.rsplit("-", 2)[0], int(path.name.rsplit("-", 2)[1]), path.name))


def leftovers(cache: Cache) -> list[Path]:
    """Temporary files and locks of which no process makes use any more."""
    left: list[Path] = []
    for path in sorted(_entries(cache)):
        name, extension, rest = path.name.partition(".safetensors")
        is_ours = FILE_NAME.fullmatch(name + extension) and (rest == ".lock" or _TEMPORARY.fullmatch(rest))
        if is_ours and not _is_held(cache.folder / f"{name}{extension}.lock") and path.exists():
            left.append(path)
    return left


def _entries(cache: Cache) -> list[Path]:
    """All plain files of a folder, whosever they are."""
    try:
        return [path for path in cache.folder.iterdir() if path.is_file()]
    except FileNotFoundError:
        return []


def _is_held(lock: Path) -> bool:
    """Whether a lock is some process's, as far as can be told."""
    try:
        if lock.exists():
            with FileLock(lock, timeout=0):
                pass
    except (OSError, Timeout):
        return True
    return False


@contextmanager
def _refusals_named(cache: Cache) -> Iterator[None]:
    """Turn what the file system refuses into one line."""
    try:
        yield
    except OSError as error:
        raise CacheError.of(cache.folder, error) from error


def _kind(key: dict[str, Any]) -> str:
    """The kind of split that a file of the cache holds, in words, from its key."""
    if not key:
        return "damaged"
    notes = ["test" if key.get("is_test") else "validation"]
    notes += [key["graphs"]] if key.get("graphs") else []
    notes += ["positions i/n"] if key.get("random_pos") is False else []
    notes += ["dm-clrs"] if key.get("source") == "dm-clrs" else []
    notes += ["outdated"] if (key.get("format"), key.get("version")) != (FORMAT, VERSION) else []
    return ", ".join(notes)


def _count(paths: list[Path], noun: str) -> str:
    return f"{len(paths)} {noun}{'' if len(paths) == 1 else 's'}"


def _megabytes(paths: list[Path]) -> str:
    return f"{sum(path.stat().st_size for path in paths) / _MEGABYTE:.2f} MB"
