"""A process that lacks what Linux alone has."""

import builtins
import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
from types import SimpleNamespace
from typing import Any

MODULES = ("fcntl", "grp", "posix", "pwd", "resource", "termios", "triton")
FUNCTIONS = ("fork", "getuid", "killpg", "nice", "sched_getaffinity", "sched_setaffinity", "sysconf")
SIGNALS = ("SIGALRM", "SIGHUP", "SIGPIPE", "SIGUSR1", "SIGUSR2", "setitimer", "sigwait")


def plant(*libraries: str) -> None:
    """Take from this process what other systems lack, as far as other libraries do without it, and fork no more.

    Args:
        libraries: Others that have to be imported before: made for this system, they need what it has.
    """
    for library in ("lightning.pytorch", "torch._dynamo", "psutil", *libraries):
        importlib.import_module(library)
    theirs: Any = importlib.import_module("lightning.pytorch.trainer.connectors.signal_connector")
    theirs.signal = SimpleNamespace(**vars(signal))
    load_module, load_file = builtins.__import__, ctypes.CDLL.__init__

    def import_theirs(name: str, names: Any = None, *args: Any, **kwargs: Any) -> Any:
        is_ours = (names or {}).get("__name__", "").startswith("nar")
        if is_ours and name.partition(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load_module(name, names, *args, **kwargs)

    def load_theirs(self: Any, name: Any, *args: Any, **kwargs: Any) -> None:
        is_ours = sys._getframe(1).f_globals["__name__"].startswith("nar")
        if is_ours and (name is None or str(name).startswith("libc.")):
            raise OSError(f"{name} is not there")
        load_file(self, name, *args, **kwargs)

    builtins.__import__ = import_theirs
    ctypes.CDLL.__init__ = load_theirs  # type: ignore[method-assign]
    for module, names in ((os, FUNCTIONS), (signal, SIGNALS)):
        for name in names:
            vars(module).pop(name, None)
    multiprocessing.set_start_method("spawn")
