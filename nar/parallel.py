"""The parts of an operation on all cores, each part on one.

Parts that fit into a core's cache are computed much faster than the whole by all cores together.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")
Result = TypeVar("Result")


def in_parallel(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """What `function` makes of each part, in order, by as many threads as torch computes with; without gradients."""
    num_threads = torch.get_num_threads()
    is_inference = torch.is_inference_mode_enabled()

    def without_gradients(part: Part) -> Result:
        with torch.inference_mode(is_inference), torch.no_grad():
            return function(part)

    if num_threads == 1 or len(parts) == 1:
        return [without_gradients(part) for part in parts]
    return list(_threads(num_threads, os.getpid()).map(without_gradients, parts))


def arrays(*tensors: Tensor) -> list[Any]:
    """The tensors as NumPy's arrays, on the same memory."""
    return [tensor.numpy() for tensor in tensors]


@cache
def _threads(number: int, process: int) -> ThreadPoolExecutor:
    """Threads, in each of which torch uses no others; a forked process has none of its parent's."""
    return ThreadPoolExecutor(number, "nar", initializer=torch.set_num_threads, initargs=(1,))
