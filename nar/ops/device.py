"""Whether an operation is to be computed by the library's own kernels for GPUs."""

from functools import cache
from importlib.util import find_spec

from torch import Tensor


def is_for_triton(x: Tensor) -> bool:
    """Whether `x` is on a GPU and there is Triton, which comes with torch for NVIDIA's and AMD's, to compile for it."""
    return x.is_cuda and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
