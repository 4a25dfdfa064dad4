"""How loops are compiled by numba, and those that several operations share.

PyTorch has no fast form of what an operation's `loops.py` computes on a CPU: maxima of many rows of which only the
maximum is wanted. A call of a compiled function computes one part of an operation on one core, without holding Python's
lock. Every maximum is NaN if one of its arguments is, as torch's are.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from nar.ops import numba_cache  # noqa: F401 (before anything is defined that numba compiles)

Arrays = Any  # NumPy's, of one dtype, in C order
_Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]

strict_njit: _Compiler = njit(cache=True, nogil=True, error_model="numpy")
"""Compile as it is written: what is added up is so in the order of the loops, and NaN stays NaN."""

# Not `fast`, which would take NaN for impossible: what diverged would look fine.
reordering_njit: _Compiler = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
"""Compile with sums in any order, without which a sum over one row would be no vector instructions."""

TILE = 256
"""Rows that are computed at a time: at H = 128 and float32 they are 128 kB, so a tile and what is made of it stay in a
core's second cache from one step to the next, and no step waits for memory."""


@strict_njit
def product(a: Arrays, b: Arrays, out: Arrays) -> None:
    """Write ``a @ b``, which is 0 if there is nothing to add up."""
    if a.shape[1] == 0:
        out[:] = 0
    else:
        np.dot(a, b, out)


@reordering_njit
def product_backward(gradient: Arrays, a: Arrays, b: Arrays, grad_a: Arrays, grad_b: Arrays) -> None:
    """Write the gradient of a and add to that of b."""
    if a.shape[1] > 0:
        np.dot(gradient, b.T, grad_a)
        grad_b += np.dot(a.T, gradient)


@strict_njit
def rectify(x: Arrays, bias: Arrays) -> None:
    """Write ``ReLU(x + bias)`` in the place of rows x."""
    for row in range(x.shape[0]):
        for h in range(x.shape[1]):
            total = x[row, h] + bias[h]
            x[row, h] = 0 if total < 0 else total


@reordering_njit
def rectify_backward(gradient: Arrays, rectified: Arrays, grad_bias: Arrays) -> None:
    """Write the gradient of ``x + bias`` in place of that of ``ReLU(x + bias)``, and add to the gradient of bias."""
    for row in range(gradient.shape[0]):
        for h in range(gradient.shape[1]):
            g = gradient[row, h] * (rectified[row, h] > 0)
            gradient[row, h] = g
            grad_bias[h] += g
