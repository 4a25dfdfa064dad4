"""The loops of the operations that PyTorch has no fast form of on a CPU, compiled by numba.

Every maximum is NaN if one of its arguments is, as torch's are.
"""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, M rows, K columns.

from typing import Any

from numba import njit

from nar import numba_cache  # noqa: F401 (before anything is defined that numba compiles)

Arrays = Any  # NumPy's, of one dtype
exact = njit(cache=True, nogil=True, error_model="numpy")
sums = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})  # in any order


@exact
def highest(messages: Arrays, top: Arrays, sender: Arrays) -> bool:
    """Write the maximum of messages [B, S, R, H] over senders, [B, R, H], and whose it is, or -1 if several have it.

    Returns:
        Whether there is such a -1.
    """
    num_graphs, num_senders, num_receivers, width = messages.shape
    shared = False
    for b in range(num_graphs):
        for r in range(num_receivers):
            for h in range(width):
                top[b, r, h] = messages[b, 0, r, h]
                sender[b, r, h] = 0
            for s in range(1, num_senders):
                for h in range(width):
                    message, best = messages[b, s, r, h], top[b, r, h]
                    wins = (message > best) | (message != message)
                    top[b, r, h] = message if wins else best
                    sender[b, r, h] = s if wins else (-1 if message == best else sender[b, r, h])
            for h in range(width):
                shared |= sender[b, r, h] < 0
    return shared


@sums
def highest_backward(
    gradient: Arrays, sender: Arrays, rows: Arrays, weight: Arrays, to_rows: Arrays, to_weight: Arrays
) -> None:
    """Add to the gradients of rows [B, S, R, H] and weight [H, H] of messages ``rows @ weightᵀ``, given that of their
    maximum over senders, [B, R, H], and whose it was.
    """
    num_graphs, num_receivers, width = gradient.shape
    for b in range(num_graphs):
        for r in range(num_receivers):
            for h in range(width):
                g, s = gradient[b, r, h], sender[b, r, h]
                for k in range(width):
                    to_rows[b, s, r, k] += g * weight[h, k]
                    to_weight[h, k] += g * rows[b, s, r, k]


@exact
def max_plus(a: Arrays, b: Arrays, top: Arrays, which: Arrays) -> None:
    """Write ``max_i a_ij + b_ik`` for a and b [M, N, N], and which i has it, or -1 if several have."""
    num_matrices, num_nodes, _ = a.shape
    for m in range(num_matrices):
        for j in range(num_nodes):
            for k in range(num_nodes):
                top[m, j, k] = a[m, 0, j] + b[m, 0, k]
                which[m, j, k] = 0
            for i in range(1, num_nodes):
                first = a[m, i, j]
                for k in range(num_nodes):
                    total, best = first + b[m, i, k], top[m, j, k]
                    wins = (total > best) | (total != total)
                    top[m, j, k] = total if wins else best
                    which[m, j, k] = i if wins else (-1 if total == best else which[m, j, k])


@exact
def max_plus_backward(
    gradient: Arrays, a: Arrays, b: Arrays, top: Arrays, which: Arrays, to_a: Arrays, to_b: Arrays
) -> None:
    """Add to the gradients of a and b, evenly among all i that have the maximum."""
    num_matrices, num_nodes, _ = a.shape
    for m in range(num_matrices):
        for j in range(num_nodes):
            for k in range(num_nodes):
                g, i = gradient[m, j, k], which[m, j, k]
                if i >= 0:
                    to_a[m, i, j] += g
                    to_b[m, i, k] += g
                    continue
                number = 0
                for i in range(num_nodes):
                    number += a[m, i, j] + b[m, i, k] == top[m, j, k]
                for i in range(num_nodes):
                    if a[m, i, j] + b[m, i, k] == top[m, j, k]:
                        to_a[m, i, j] += g / number
                        to_b[m, i, k] += g / number


@sums
def max_dot(source: Arrays, target: Arrays, weight: Arrays, logits: Arrays) -> None:
    """Write ``weight · max(source_m, target_k)`` for source [B, M, H] and target [B, K, H], to [B, M, K]."""
    num_graphs, num_rows, num_columns = logits.shape
    for b in range(num_graphs):
        for m in range(num_rows):
            for k in range(num_columns):
                total = weight[0] * 0
                for h in range(weight.shape[0]):
                    x, y = source[b, m, h], target[b, k, h]
                    total += weight[h] * (x if (x > y) | (x != x) else y)
                logits[b, m, k] = total


@sums
def max_dot_backward(
    gradient: Arrays,
    source: Arrays,
    target: Arrays,
    weight: Arrays,
    to_source: Arrays,
    to_target: Arrays,
    to_weight: Arrays,
) -> None:
    """Add to the gradients of all three; where source and target are equal, half goes to each."""
    zero = weight[0] * 0
    half = zero + 0.5
    num_graphs, num_rows, num_columns = gradient.shape
    for b in range(num_graphs):
        for m in range(num_rows):
            for k in range(num_columns):
                g = gradient[b, m, k]
                for h in range(weight.shape[0]):
                    x, y, passed = source[b, m, h], target[b, k, h], g * weight[h]
                    part = zero if x < y else (passed if x > y else passed * half)
                    to_source[b, m, h] += part
                    to_target[b, k, h] += passed - part
                    to_weight[h] += g * (x if x > y else y)


@sums
def max_dot_of_pairs(source: Arrays, target: Arrays, weight: Arrays, logits: Arrays) -> None:
    """Write ``weight · max(source_k, target_mk)`` for source [B, K, H] and target [B, M, K, H], to [B, M, K]."""
    num_graphs, num_rows, num_columns = logits.shape
    for b in range(num_graphs):
        for m in range(num_rows):
            for k in range(num_columns):
                total = weight[0] * 0
                for h in range(weight.shape[0]):
                    x, y = source[b, k, h], target[b, m, k, h]
                    total += weight[h] * (x if (x > y) | (x != x) else y)
                logits[b, m, k] = total


@sums
def max_dot_of_pairs_backward(
    gradient: Arrays,
    source: Arrays,
    target: Arrays,
    weight: Arrays,
    to_source: Arrays,
    to_target: Arrays,
    to_weight: Arrays,
) -> None:
    """Write the gradient of target, and add to the others; where source and target are equal, half goes to each."""
    zero = weight[0] * 0
    half = zero + 0.5
    num_graphs, num_rows, num_columns = gradient.shape
    for b in range(num_graphs):
        for m in range(num_rows):
            for k in range(num_columns):
                g = gradient[b, m, k]
                for h in range(weight.shape[0]):
                    x, y, passed = source[b, k, h], target[b, m, k, h], g * weight[h]
                    part = zero if x < y else (passed if x > y else passed * half)
                    to_source[b, k, h] += part
                    to_target[b, m, k, h] = passed - part
                    to_weight[h] += g * (x if x > y else y)
