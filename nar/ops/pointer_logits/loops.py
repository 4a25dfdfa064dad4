"""Loops over rows and nodes, compiled by numba.

Nothing is held for the gradient, as a maximum of two arguments that are there anyway costs nothing to redo.
"""
# Axes: B graphs, H hidden, M rows, K columns.

from nar.ops.loops import Arrays, reordering_njit


@reordering_njit
def product_logits(source: Arrays, target: Arrays, weight: Arrays, logits: Arrays) -> None:
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


@reordering_njit
def product_logits_backward(
    gradient: Arrays,
    source: Arrays,
    target: Arrays,
    weight: Arrays,
    grad_source: Arrays,
    grad_target: Arrays,
    grad_weight: Arrays,
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
                    grad_source[b, m, h] += part
                    grad_target[b, k, h] += passed - part
                    grad_weight[h] += g * (x if x > y else y)
