"""Loops over matrices, compiled by numba, each small enough to stay in a core's cache.

Features come first here, [B · F, N, N], so that a row of b and of the product lies in order in memory: the innermost
loop, over k, is one of vector instructions. What :mod:`nar.ops.max_plus.cpu` pads b's rows with, -inf, never wins.
"""
# Axes: M matrices, N nodes, K columns.

import numpy as np

from nar.ops.loops import Arrays, strict_njit


@strict_njit
def max_plus(a: Arrays, b: Arrays, top: Arrays) -> None:
    """Write ``max_i a_ij + b_ik`` for a [M, N, N] and b [M, N, K]."""
    num_matrices, num_nodes, num_columns = b.shape
    top[:] = -np.inf
    # i before k: one entry of a meets a whole row of b, and row j of the product stays in the first cache.
    for m in range(num_matrices):
        for j in range(num_nodes):
            for i in range(num_nodes):
                for k in range(num_columns):
                    top[m, j, k] = np.maximum(top[m, j, k], a[m, i, j] + b[m, i, k])


@strict_njit
def max_plus_backward(gradient: Arrays, a: Arrays, b: Arrays, top: Arrays, grad_a: Arrays, grad_b: Arrays) -> None:
    """Add to the gradients of a and b, evenly among all i that have the maximum."""
    num_matrices, num_nodes, num_columns = b.shape
    # Which i has a maximum is found again: to keep it would be another array as large as the product. A row's two
    # numbers are sums without branches, so they too are vector instructions; of one i alone the second is that i.
    number, which = np.empty(num_columns, np.int32), np.empty(num_columns, np.int32)
    for m in range(num_matrices):
        for j in range(num_nodes):
            number[:] = 0
            which[:] = 0
            for i in range(num_nodes):
                for k in range(num_columns):
                    is_top = np.int32(a[m, i, j] + b[m, i, k] == top[m, j, k])
                    number[k] += is_top
                    which[k] += is_top * np.int32(i)
            for k in range(num_nodes):
                part = gradient[m, j, k] / number[k]
                if number[k] == 1:
                    grad_a[m, which[k], j] += part
                    grad_b[m, which[k], k] += part
                    continue
                for i in range(num_nodes):
                    if a[m, i, j] + b[m, i, k] == top[m, j, k]:
                        grad_a[m, i, j] += part
                        grad_b[m, i, k] += part
