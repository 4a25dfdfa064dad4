"""Loops over every three nodes, compiled by numba: of all features at a time, which are vector instructions.

The backward passes compute all sums again: to read a sum that was kept would take as long.
"""
# Axes: B graphs, N nodes, J or I some of them, K channels, F features.

import numpy as np

from nar.ops.loops import Arrays, reordering_njit, strict_njit


@strict_njit
def triplet_max(ij: Arrays, ik: Arrays, x: Arrays, x_weight: Arrays, top: Arrays, start: int, stop: int) -> None:
    """Write ``max_i ij_ij + ik_ik + Wx x_ijk`` for j from `start` to `stop`.

    Args:
        ij: [B, N, N, F].
        ik: [B, N, N, F].
        x: [B, N, N, N, K].
        x_weight: Wx transposed, [K, F].
        top: Written, [B, N, N, F].
        start: The first j.
        stop: The last j is before it.
    """
    num_graphs, num_nodes, _, num_features = ij.shape
    total = np.empty(num_features, top.dtype)
    top[:, start:stop] = -np.inf
    for b in range(num_graphs):
        for j in range(start, stop):
            for i in range(num_nodes):
                for k in range(num_nodes):
                    for f in range(num_features):
                        total[f] = ij[b, i, j, f] + ik[b, i, k, f]
                    for q in range(x.shape[4]):
                        channel = x[b, i, j, k, q]
                        for f in range(num_features):
                            total[f] += channel * x_weight[q, f]
                    for f in range(num_features):
                        top[b, j, k, f] = np.maximum(top[b, j, k, f], total[f])


@strict_njit
def triplet_max_backward(
    gradient: Arrays,
    ij: Arrays,
    ik: Arrays,
    x: Arrays,
    x_weight: Arrays,
    top: Arrays,
    start: int,
    stop: int,
    grad_ij: Arrays,
    grad_ik: Arrays,
    grad_x: Arrays,
    grad_x_weight: Arrays,
) -> None:
    """Add to the gradients of what :func:`triplet_max` was given, evenly among all i that have the maximum."""
    num_graphs, num_nodes, _, num_features = ij.shape
    num_channels = x.shape[4]
    total = np.empty(num_features, top.dtype)
    # As in nar.ops.max_plus.loops: both are sums without branches, and of one i alone the second is that i.
    number = np.empty((num_nodes, num_features), np.int32)
    which = np.empty((num_nodes, num_features), np.int32)
    for b in range(num_graphs):
        for j in range(start, stop):
            number[:] = 0
            which[:] = 0
            for i in range(num_nodes):
                for k in range(num_nodes):
                    for f in range(num_features):
                        total[f] = ij[b, i, j, f] + ik[b, i, k, f]
                    for q in range(num_channels):
                        channel = x[b, i, j, k, q]
                        for f in range(num_features):
                            total[f] += channel * x_weight[q, f]
                    for f in range(num_features):
                        is_top = np.int32(total[f] == top[b, j, k, f])
                        number[k, f] += is_top
                        which[k, f] += is_top * np.int32(i)
            for k in range(num_nodes):
                for f in range(num_features):
                    part = gradient[b, j, k, f] / number[k, f]
                    first, last = (which[k, f], which[k, f] + 1) if number[k, f] == 1 else (0, num_nodes)
                    for i in range(first, last):
                        again = ij[b, i, j, f] + ik[b, i, k, f]
                        for q in range(num_channels):
                            again += x[b, i, j, k, q] * x_weight[q, f]
                        if again == top[b, j, k, f]:
                            grad_ij[b, i, j, f] += part
                            grad_ik[b, i, k, f] += part
                            for q in range(num_channels):
                                grad_x[b, i, j, k, q] += part * x_weight[q, f]
                                grad_x_weight[q, f] += part * x[b, i, j, k, q]


@reordering_njit
def triplet_logits(
    ij: Arrays, ik: Arrays, jk: Arrays, x: Arrays, x_weight: Arrays, weight: Arrays, logits: Arrays
) -> None:
    """Write ``w · ReLU(ij_ij + ik_ik + jk_jk + Wx x_ijk)``.

    Args:
        ij: [B, I, N, F].
        ik: [B, I, N, F].
        jk: [B, N, N, F].
        x: [B, I, N, N, K].
        x_weight: Wx transposed, [K, F].
        weight: w, [F].
        logits: Written, [B, I, N, N].
    """
    num_graphs, num_rows, num_nodes, num_features = ij.shape
    total = np.empty(num_features, logits.dtype)
    for b in range(num_graphs):
        for i in range(num_rows):
            for j in range(num_nodes):
                for k in range(num_nodes):
                    for f in range(num_features):
                        total[f] = ij[b, i, j, f] + ik[b, i, k, f] + jk[b, j, k, f]
                    for q in range(x.shape[4]):
                        channel = x[b, i, j, k, q]
                        for f in range(num_features):
                            total[f] += channel * x_weight[q, f]
                    logit = weight[0] * 0
                    for f in range(num_features):
                        logit += weight[f] * (0 if total[f] < 0 else total[f])
                    logits[b, i, j, k] = logit


@reordering_njit
def triplet_logits_backward(
    gradient: Arrays,
    ij: Arrays,
    ik: Arrays,
    jk: Arrays,
    x: Arrays,
    x_weight: Arrays,
    weight: Arrays,
    grad_ij: Arrays,
    grad_ik: Arrays,
    grad_jk: Arrays,
    grad_x: Arrays,
    grad_x_weight: Arrays,
    grad_weight: Arrays,
) -> None:
    """Add to the gradients of what :func:`triplet_logits` was given; where a sum is 0, nothing is passed."""
    num_graphs, num_rows, num_nodes, num_features = ij.shape
    zero = weight[0] * 0
    total = np.empty(num_features, weight.dtype)
    for b in range(num_graphs):
        for i in range(num_rows):
            for j in range(num_nodes):
                for k in range(num_nodes):
                    g = gradient[b, i, j, k]
                    for f in range(num_features):
                        total[f] = ij[b, i, j, f] + ik[b, i, k, f] + jk[b, j, k, f]
                    for q in range(x.shape[4]):
                        channel = x[b, i, j, k, q]
                        for f in range(num_features):
                            total[f] += channel * x_weight[q, f]
                    for f in range(num_features):
                        grad_weight[f] += g * (zero if total[f] < 0 else total[f])
                    # From here on `total` is the gradient of the sum that it was.
                    for f in range(num_features):
                        total[f] = zero if total[f] <= 0 else g * weight[f]
                    for f in range(num_features):
                        grad_ij[b, i, j, f] += total[f]
                    for f in range(num_features):
                        grad_ik[b, i, k, f] += total[f]
                    for f in range(num_features):
                        grad_jk[b, j, k, f] += total[f]
                    for q in range(x.shape[4]):
                        channel, of_channel = x[b, i, j, k, q], zero
                        for f in range(num_features):
                            of_channel += total[f] * x_weight[q, f]
                        for f in range(num_features):
                            grad_x_weight[q, f] += total[f] * channel
                        grad_x[b, i, j, k, q] = of_channel
