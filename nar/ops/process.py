"""How a process is set up for training on a CPU, where a step is thousands of small operations.

The command line calls each function where it helps:

* :func:`wait_passively` in every command that runs a model (by :mod:`nar.cli.startup`);
* :func:`keep_freed_memory` in ``nar fit``, ``validate``, ``test`` and ``predict``, whatever the model;
* :func:`tune_process` in ``nar fit`` of reasoners, of dense and of sparse graphs, and in ``nar evaluate`` and ``nar
  run``; not for language models, nor in ``nar validate``, ``test`` and ``predict``.

A script that trains a reasoner with Lightning's ``Trainer`` does what ``nar fit`` does in two places::

    from nar.ops.process import tune_process, wait_passively

    wait_passively()  # before torch is imported
    import torch
    ...
    tune_process()  # when the model and the data are made, before trainer.fit

Nothing here changes what is computed. It is of the process and not of a model, so no part of the library but the
command line does it unasked.
"""

import atexit
import ctypes
import gc
import os
from contextlib import suppress

# The parameters of mallopt and what glibc takes, as its malloc.h has them.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MOST_TRIM_THRESHOLD, MOST_MMAP_THRESHOLD = 2**31 - 1, 2**25


def wait_passively() -> None:
    """Have OpenMP's threads sleep while they wait, unless the environment says how they are to wait.

    Threads that spin would take the cores of data workers, which run beside them. OpenMP reads this where torch loads
    it: once torch is imported it is too late. To undo it, set ``OMP_WAIT_POLICY=ACTIVE`` in the environment.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> None:
    """Have glibc give the memory of freed tensors to the next ones; with another C library, do nothing.

    It would give it back to the system at every training step, and each page that comes back has to be cleared first.
    The process stays as large as it once was; only its end undoes that.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_THRESHOLD, MOST_MMAP_THRESHOLD)
        libc.mallopt(TRIM_THRESHOLD, MOST_TRIM_THRESHOLD)


def tune_process() -> None:
    """Have each operation of torch use one core, freed memory kept, and what is there now left to itself by the
    garbage collector.

    Small operations lose more by waking other cores than they gain. The large ones of this library use all cores all
    the same (see :mod:`nar.ops.parallel`), as many as torch would have used at the first call. A large language model,
    whose operations are all large, is better off with torch's own threads: for it call :func:`keep_freed_memory` alone.

    To undo it: ``torch.set_num_threads(nar.ops.parallel.num_threads)`` and ``gc.unfreeze()``.
    """
    import torch  # here, as `wait_passively` comes before

    from nar.ops import parallel  # noqa: F401 (which looks how many threads torch has when it is imported)

    torch.set_num_threads(1)
    keep_freed_memory()
    gc.collect()
    gc.freeze()
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)  # or libraries would complain, when Python ends, that some of theirs is left
