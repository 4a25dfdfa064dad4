"""How much memory is left, and what is refused because it takes more."""

import resource
from collections.abc import Iterator
from pathlib import Path

import psutil

from nar.errors import UserError

NEVER_ASKED = 2**24
"""Bytes of which it is not asked whether they are free, which takes longer than to draw a small trajectory."""

OWN_CGROUPS = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
LIMIT_AND_USE = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""Of the second version of Linux's control groups and of the first."""


class Memory:
    """What trajectories take at once.

    Args:
        trajectories: What they are, for messages.
    """

    def __init__(self, trajectories: str) -> None:
        self.trajectories = trajectories
        self.num_bytes = 0

    def take(self, num_bytes: int, what: str, remedy: str) -> None:
        """Raise a :class:`UserError` if so many bytes are not free."""
        self.num_bytes = max(self.num_bytes, num_bytes)
        if num_bytes < NEVER_ASKED:
            return
        free = num_free_bytes()
        if num_bytes > free:
            raise UserError(f"{what} would take {_gib(num_bytes)}, and {_gib(free)} are free: {remedy}")

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Say how much was taken where the system refused it nevertheless."""
        if isinstance(error, MemoryError):
            raise UserError(
                f"{self.trajectories} take {_gib(self.num_bytes)} or more, which do not fit into memory: "
                "ask for fewer at a time, or for smaller ones"
            ) from error


def num_free_bytes() -> int:
    """What this process can still have: of the machine, of its control groups and of its own address space."""
    free = [psutil.virtual_memory().available, *_free_in_cgroups()]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        free.append(limit - psutil.Process().memory_info().vms)
    return max(0, min(free))


def _free_in_cgroups() -> Iterator[int]:
    """What is left of each limit, such as a container's; what is cached of files can be had."""
    for folder in _cgroups():
        for limit, use in LIMIT_AND_USE:
            try:
                most = int((folder / limit).read_text())
                used = int((folder / use).read_text())
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # there is none, or it is "max"
                continue
            yield most - used + int(stat.get("active_file", 0)) + int(stat.get("inactive_file", 0))


def _cgroups() -> Iterator[Path]:
    """The folders of the control groups of this process, where they are mounted, and of all that these are in."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
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
