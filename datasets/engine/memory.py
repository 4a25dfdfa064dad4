"""How much memory is left, and what is refused because it takes more."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil

from nar.datasets.engine.trace import NoRoomError
from nar.errors import UserError

resource: ModuleType | None
try:
    import resource
except ImportError:  # as on Windows, which has no such limits
    resource = None

UNCHECKED_BYTES = 2**24
"""How many bytes are taken to be free without asking, which takes longer than to draw a small trajectory."""

OWN_CGROUPS = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
_LIMIT_AND_USE_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""The files with the limit and the use of memory, of the second version of Linux's control groups and of the first."""


class Memory:
    """The memory that trajectories take at once, counted as they come to need it.

    Args:
        num_samples: How many there are.
        which: What they are, for messages.
    """

    def __init__(self, num_samples: int, which: str) -> None:
        self.trajectories = "1 trajectory" if num_samples == 1 else f"{num_samples} trajectories"
        self.which = which
        self.fewer = "" if num_samples == 1 else "fewer at a time, or for "
        self.instead = "smaller ones"
        self.num_bytes = 0
        self.too_many = 0

    def take(self, num_bytes: int, which: str, instead: str) -> None:
        """Raise a :class:`UserError` that says what to ask for instead if so many bytes are not free."""
        self.num_bytes, self.instead = max(self.num_bytes, num_bytes), instead
        if num_bytes < UNCHECKED_BYTES:
            return
        free = num_free_bytes()
        if num_bytes > free:
            raise UserError(
                f"{self.trajectories} {which} would take {_gib(num_bytes)}, and {_gib(free)} are free: "
                f"ask for {self.fewer}{instead}"
            )

    def most(self, num_bytes: int, expected: int) -> int:
        """How many times so many bytes are free; without a limit where as many as are expected take little."""
        if num_bytes * expected < UNCHECKED_BYTES:
            return sys.maxsize
        number = num_free_bytes() // num_bytes
        self.too_many = (number + 1) * num_bytes
        return number

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Say how much was asked for where the system refused it nevertheless, or hints became too many."""
        if isinstance(error, MemoryError):
            needed = self.too_many if isinstance(error, NoRoomError) else self.num_bytes
            raise UserError(
                f"{self.trajectories} {self.which} would take {_gib(needed)} or more, which do not fit into "
                f"memory: ask for {self.fewer}{self.instead}"
            ) from error


def num_free_bytes() -> int:
    """What this process can still have: of the machine, of its control groups and of its own address space."""
    free = [psutil.virtual_memory().available, *_free_in_cgroups()]
    if resource is not None:
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            free.append(limit - psutil.Process().memory_info().vms)
    return max(0, min(free))


def _free_in_cgroups() -> Iterator[int]:
    """What is left of each limit, such as a container's; what is cached of files can be had."""
    for folder in _cgroups():
        for limit, use in _LIMIT_AND_USE_FILES:
            try:
                most = int((folder / limit).read_text(encoding="utf-8"))
                used = int((folder / use).read_text(encoding="utf-8"))
                stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
            except (OSError, ValueError):  # there is none, or it is "max"
                continue
            yield most - used + int(stat.get("active_file", 0)) + int(stat.get("inactive_file", 0))


def _cgroups() -> Iterator[Path]:
    """The folders of the control groups of this process, where they are mounted, and of all that these are in."""
    try:
        lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = CGROUPS / controllers
            group = root / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
