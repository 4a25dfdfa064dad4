"""The parts of an operation on all cores, each part on one.

Parts that fit into a core's cache are computed much faster than the whole is by all cores together, and calls of
compiled functions that take long keep Python's threads out of each other's way.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import scipy.linalg.cython_blas  # noqa: F401 (what numba multiplies matrices with, to be found by `_blas`)
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

Part = TypeVar("Part")
Result = TypeVar("Result")

num_threads = torch.get_num_threads()
"""How many cores there are to use, as torch found them or was told by ``OMP_NUM_THREADS``."""


def in_parallel(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """What `function` makes of each part, in order, by :data:`num_threads` threads; without gradients."""
    number = min(num_threads, len(parts))
    is_inference = torch.is_inference_mode_enabled()

    def every_so_many(first: int) -> list[Result]:
        with torch.inference_mode(is_inference), torch.no_grad():
            return [function(part) for part in parts[first::number]]

    with _blas().limit(limits=1):
        others = [_threads(num_threads, os.getpid()).submit(every_so_many, first) for first in range(1, number)]
        made = [every_so_many(0), *(other.result() for other in others)] if parts else []
    return [made[index % number][index // number] for index in range(len(parts))]


def arrays(*tensors: Tensor) -> list[Any]:
    """The tensors as NumPy's arrays, on the same memory."""
    return [tensor.numpy() for tensor in tensors]


@cache
def _threads(number: int, process: int) -> ThreadPoolExecutor:
    """Threads, in each of which torch uses no others; a forked process has none of its parent's."""
    return ThreadPoolExecutor(number, "nar", initializer=torch.set_num_threads, initargs=(1,))


@cache
def _blas() -> ThreadpoolController:
    """The library that multiplies matrices for numba, with threads of its own."""
    return ThreadpoolController().select(internal_api="openblas")
