"""How the parts of an operation are shared out among cores, and functions side by side among halves of them.

Threads are enough, as compiled functions run without holding Python's lock; what stays serial is Python's part in each
call, which is why parts are not small.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache
from threading import local
from typing import Any, TypeVar

import scipy.linalg.cython_blas  # noqa: F401 (what numba multiplies matrices with, to be found by `_blas`)
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

Given = TypeVar("Given")
Result = TypeVar("Result")
Part = tuple[slice, slice]  # some graphs, some rows of each

PAIRS = 2048
"""The pairs that a thread takes at a time: so many that Python's part is small, so few that they go out evenly."""

num_threads = torch.get_num_threads()
"""How many cores there are to use, as torch found them or was told by ``OMP_NUM_THREADS``."""

_here = local()  # its `num_threads` is how many cores a thread may use, if it is to leave some to others


def side_by_side(function: Callable[[Given], Result], parts: Sequence[Given]) -> list[Result]:
    """What `function` makes of each part, in order, all at a time and each on its share of the cores; with gradients.

    Outside of operations that share their parts out, one core waits for the other: so it does not.
    """
    share = max(1, num_threads // len(parts))

    def call(part: Given) -> Result:
        _here.num_threads = share
        try:
            with torch.enable_grad():
                return function(part)
        finally:
            del _here.num_threads

    return in_parallel(call, parts)


def in_parallel(function: Callable[[Given], Result], parts: Sequence[Given]) -> list[Result]:
    """What `function` makes of each part, in order, by as many threads as there are cores; without gradients."""
    number, is_alone = min(_num_threads(), len(parts)), not hasattr(_here, "num_threads")
    is_inference = torch.is_inference_mode_enabled()
    made: list[Any] = [None] * len(parts)
    left = iter(range(len(parts)))  # a thread that wakes late takes fewer

    def take() -> None:
        with torch.inference_mode(is_inference), torch.no_grad():
            for index in left:
                made[index] = function(parts[index])

    with _blas().limit(limits=1) if is_alone else nullcontext():  # which others rely on
        others = [_threads(num_threads, os.getpid()).submit(take) for _ in range(1, number)]
        with _torch_on_one_core() if others else nullcontext():
            take()
        for other in others:
            other.result()
    return made


def parts_of(num_graphs: int, num_rows: int, num_columns: int, pairs: int = 0) -> list[Part]:
    """The parts of a batch: some graphs and rows of each, with as many pairs as a thread takes at a time.

    They are whole graphs, or rows of a single one, so a part of a tensor [B, rows, columns, ...] lies in one piece.

    Args:
        num_graphs: B.
        num_rows: Of each graph.
        num_columns: Of each row.
        pairs: How many a thread takes at a time, if it is not the usual number.
    """
    pairs = pairs or (PAIRS if _num_threads() > 1 else 4 * PAIRS)  # one thread has nobody to share with
    at_once, step = max(1, pairs // (num_rows * num_columns)), max(1, pairs // num_columns)
    return [
        (slice(graph, graph + at_once), slice(row, row + step))
        for graph in range(0, num_graphs, at_once)
        for row in range(0, num_rows, step)
    ]


def summed(like: Tensor, parts: Sequence[Part], gradients: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """The gradients of a batch from those of its parts.

    Args:
        like: What the first gradient of each part belongs to some graphs of, [B, ...].
        parts: Of the batch.
        gradients: Of each part, the first of some graphs, the others of weights that all parts share.
    """
    if len(parts) == 1:
        return list(gradients[0])
    total = torch.zeros_like(like)
    for (graphs, _), (of_graphs, *_) in zip(parts, gradients, strict=True):
        total[graphs] += of_graphs
    return [total, *(torch.stack(of_parts).sum(dim=0) for of_parts in list(zip(*gradients, strict=True))[1:])]


def arrays(*tensors: Tensor) -> list[Any]:
    """The tensors as NumPy's arrays, on the same memory."""
    return [tensor.numpy() for tensor in tensors]


def _num_threads() -> int:
    """How many threads the calling one may use for an operation."""
    number: int = getattr(_here, "num_threads", num_threads)
    return number


@contextmanager
def _torch_on_one_core() -> Iterator[None]:
    """Where torch's operations in this thread use one core, as in the others, which are at work on theirs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _threads(number: int, process: int) -> ThreadPoolExecutor:
    """Threads, in each of which torch uses no others; a forked process has none of its parent's."""
    return ThreadPoolExecutor(number, "nar", initializer=torch.set_num_threads, initargs=(1,))


@cache
def _blas() -> ThreadpoolController:
    """The library that multiplies matrices for numba, with threads of its own."""
    return ThreadpoolController().select(internal_api="openblas")
