"""Loops over pairs of nodes, compiled by numba: logits of a tile of pairs at a time, as many as a core's cache holds.

As in :mod:`nar.ops.max_message.loops`, pairs lie in the order graph, sender, receiver, and a tile is some whole lines,
each one sender of one graph with all receivers.

Of edges the second argument of the maximum is held for the gradient, [B · S · R, H]: it has two products of matrices in
it. Of ``product_logits`` nothing is held, as a sum of two arguments that are there anyway costs nothing to redo.
"""
# Axes: B graphs, S sender, R receiver, H hidden, K channels, F features and W width of states, M rows, N columns.

import numpy as np

from nar.ops.loops import TILE, Arrays, product, product_backward, rectify, rectify_backward, reordering_njit


@reordering_njit
def edge_logits(
    source: Arrays,
    target: Arrays,
    weight: Arrays,
    edge: Arrays,
    edge_weight: Arrays,
    data: Arrays,
    first_weight: Arrays,
    first_bias: Arrays,
    states_weight: Arrays,
    second: Arrays,
    logits: Arrays,
) -> None:
    """Write ``w · max(source_j, second_ij)`` and ``second_ij = target_i + We edge_ij + Ws ReLU(Wf data_ij + bf)``.

    Args:
        source: [B, R, H].
        target: [B, S, H].
        weight: w, [H].
        edge: [B · S · R, K].
        edge_weight: We transposed, [K, H].
        data: [B · S · R, F]; of size 0 if there are no states.
        first_weight: Wf transposed, [F, W].
        first_bias: bf, [W].
        states_weight: Ws transposed, [W, H].
        second: Written, [B · S · R, H].
        logits: Written, [B, S, R].
    """
    num_senders, num_receivers, width = target.shape[1], source.shape[1], second.shape[1]
    num_lines, step = source.shape[0] * num_senders, max(1, TILE // num_receivers)
    firsts = np.empty((step * num_receivers, len(first_bias)), second.dtype)
    sums = np.empty((step * num_receivers, width), second.dtype)
    for line in range(0, num_lines, step):
        begin, end = line * num_receivers, min(line + step, num_lines) * num_receivers
        some, first, states = second[begin:end], firsts[: end - begin], sums[: end - begin]
        product(edge[begin:end], edge_weight, some)
        if data.size > 0:
            np.dot(data[begin:end], first_weight, first)
            rectify(first, first_bias)
            np.dot(first, states_weight, states)
        else:
            states[:] = 0
        for row in range(end - begin):
            b, s = divmod(line + row // num_receivers, num_senders)
            r = row % num_receivers
            # The maximum and its product with w are never written: of H entries one number is left.
            total = weight[0] * 0
            for h in range(width):
                x, y = source[b, r, h], some[row, h] + states[row, h] + target[b, s, h]
                some[row, h] = y
                total += weight[h] * (x if (x > y) | (x != x) else y)
            logits[b, s, r] = total


@reordering_njit
def edge_logits_backward(
    gradient: Arrays,
    source: Arrays,
    weight: Arrays,
    edge: Arrays,
    edge_weight: Arrays,
    data: Arrays,
    first_weight: Arrays,
    first_bias: Arrays,
    states_weight: Arrays,
    second: Arrays,
    grad_source: Arrays,
    grad_target: Arrays,
    grad_weight: Arrays,
    grad_edge: Arrays,
    grad_edge_weight: Arrays,
    grad_data: Arrays,
    grad_first_weight: Arrays,
    grad_first_bias: Arrays,
    grad_states_weight: Arrays,
) -> None:
    """Add the gradients of what :func:`edge_logits` was given to zeros; where both are equal, half goes to each."""
    zero, half, one = second.dtype.type(0), second.dtype.type(0.5), second.dtype.type(1)
    num_senders, num_receivers, width = grad_target.shape[1], source.shape[1], second.shape[1]
    num_lines, step = source.shape[0] * num_senders, max(1, TILE // num_receivers)
    tile = np.empty((step * num_receivers, width), second.dtype)
    firsts = np.empty((2, step * num_receivers, len(first_bias)), second.dtype)
    for line in range(0, num_lines, step):
        begin, end = line * num_receivers, min(line + step, num_lines) * num_receivers
        grad_second, first, grad_first = tile[: end - begin], firsts[0, : end - begin], firsts[1, : end - begin]
        for row in range(end - begin):
            b, s = divmod(line + row // num_receivers, num_senders)
            r = row % num_receivers
            g = gradient[b, s, r]
            # Four loops: compilers give up on as many arrays as there are in all.
            for h in range(width):
                x, y = source[b, r, h], second[begin + row, h]
                grad_second[row, h] = g * weight[h] * (zero if x > y else (one if x < y else half))
            for h in range(width):
                grad_source[b, r, h] += g * weight[h] - grad_second[row, h]
            for h in range(width):
                grad_target[b, s, h] += grad_second[row, h]
            for h in range(width):
                x, y = source[b, r, h], second[begin + row, h]
                grad_weight[h] += g * (x if x > y else y)
        product_backward(grad_second, edge[begin:end], edge_weight, grad_edge[begin:end], grad_edge_weight)
        if data.size > 0:
            np.dot(data[begin:end], first_weight, first)
            rectify(first, first_bias)
            product_backward(grad_second, first, states_weight, grad_first, grad_states_weight)
            rectify_backward(grad_first, first, grad_first_bias)
            product_backward(grad_first, data[begin:end], first_weight, grad_data[begin:end], grad_first_weight)


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
