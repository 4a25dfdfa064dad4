"""Whether an operation is to be computed by the library's own kernels for GPUs, and what these are given."""

from functools import cache
from importlib.util import find_spec

from torch import Tensor


def is_for_triton(x: Tensor) -> bool:
    """Whether `x` is on a GPU and there is Triton, which comes with torch for NVIDIA's and AMD's, to compile for it."""
    return x.is_cuda and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def in_rows(x: Tensor) -> Tensor:
    """The rows of `x` [..., W] as a matrix [M, W], a copy only if they do not lie at one distance from each other.

    The parts of what a product made side by side are rows at a distance that is wider than they are.
    """
    rows = x.flatten(0, -2)
    return rows if rows.stride(-1) == 1 else rows.contiguous()
