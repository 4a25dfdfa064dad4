"""Loops over pairs of nodes, compiled by numba: logits of a tile of pairs at a time, as many as a core's cache holds.

As in :mod:`nar.ops.max_message.loops`, pairs lie in the order graph, sender, receiver, and a tile is some whole lines,
each one sender of one graph with all receivers. States of edges and channels stand side by side in a tile, so that one
product of matrices makes all columns of all probes, and two their gradients.

Of every first and second argument of a maximum a byte is kept for the gradient: twice the second's share in it. The
gradient of w needs no more: logits without biases are linear in all of sender, receiver, We and Ws together, as long as
the same arguments win, so ``w_h`` has the sum of what these have by ``h``, each times its own gradient, without
``w_h``.
"""
# Axes: B graphs, N nodes, P pointers, H hidden, C columns, K channels, F features and W width of states, D = W + K.

import numpy as np

from nar.ops.loops import TILE, Arrays, product, reordering_njit, strict_njit


@strict_njit
def _states_and_channels(
    data: Arrays, first_weight: Arrays, first_bias: Arrays, x: Arrays, first: Arrays, out: Arrays
) -> None:
    """Write ``ReLU(Wf data + bf)`` and x side by side, [rows, D]; `first` is for the product, [rows, W]."""
    width = len(first_bias)
    if width > 0:
        product(data, first_weight, first)
    for row in range(x.shape[0]):
        for h in range(width):
            total = first[row, h] + first_bias[h]
            out[row, h] = 0 if total < 0 else total
        for k in range(x.shape[1]):
            out[row, width + k] = x[row, k]


@strict_njit
def _as_rows(pairs: Arrays) -> Arrays:
    """What belongs to pairs, [B, N, N, ...], one pair after the other, [B · N · N, ...], on the same memory."""
    return pairs.reshape(pairs.shape[0] * pairs.shape[1] * pairs.shape[2], pairs.shape[3])


@reordering_njit
def pair_logits(
    first_line: int,
    last_line: int,
    receiver: Arrays,
    sender: Arrays,
    weight: Arrays,
    bias: Arrays,
    x: Arrays,
    joined: Arrays,
    data: Arrays,
    first_weight: Arrays,
    first_bias: Arrays,
    winner: Arrays,
    logits: Arrays,
) -> None:
    """Write the logits of some senders.

    Args:
        first_line: The first of the senders, counted over all graphs.
        last_line: The one after the last.
        receiver: [B, N, C].
        sender: [B, N, C].
        weight: w of all pointers, one after the other, [P · H].
        bias: b, [P].
        x: [B, N, N, K].
        joined: Ws and We beside it, transposed, [D, C].
        data: [B, N, N, F]; of size 0 if there are no states.
        first_weight: Wf transposed, [F, W].
        first_bias: bf, [W].
        winner: Written, [B, N, N, P · H]: 2 where the second argument of a maximum is larger, 1 where both are equal.
        logits: Written, [P + C - P · H, B, N, N].
    """
    num_nodes, num_columns, num_pointers = receiver.shape[1], receiver.shape[2], len(bias)
    width = len(weight) // max(1, num_pointers)
    step = max(1, TILE // num_nodes)
    firsts = np.empty((step * num_nodes, len(first_bias)), x.dtype)
    features = np.empty((step * num_nodes, len(joined)), x.dtype)
    columns = np.empty((step * num_nodes, num_columns), x.dtype)
    pairs, datas, winners = _as_rows(x), _as_rows(data), _as_rows(winner)
    for line in range(first_line, last_line, step):
        begin, end = line * num_nodes, min(line + step, last_line) * num_nodes
        first, some, z = firsts[: end - begin], features[: end - begin], columns[: end - begin]
        _states_and_channels(datas[begin:end], first_weight, first_bias, pairs[begin:end], first, some)
        product(some, joined, z)
        for row in range(end - begin):
            b, s = divmod(line + row // num_nodes, num_nodes)
            r = row % num_nodes
            for p in range(num_pointers):
                total = bias[p]
                for h in range(width):
                    c = p * width + h
                    one, other = receiver[b, r, c], z[row, c] + sender[b, s, c]
                    winners[begin + row, c] = np.uint8(1) + np.uint8(other > one) - np.uint8(one > other)
                    total += weight[c] * (one if (one > other) | (one != one) else other)
                logits[p, b, r, s] = total
            for c in range(len(weight), num_columns):
                logits[c - num_pointers * (width - 1), b, s, r] = receiver[b, r, c] + z[row, c] + sender[b, s, c]


@reordering_njit
def pair_logits_backward(
    first_line: int,
    last_line: int,
    gradient: Arrays,
    receiver: Arrays,
    sender: Arrays,
    weight: Arrays,
    bias: Arrays,
    x: Arrays,
    joined: Arrays,
    data: Arrays,
    first_weight: Arrays,
    first_bias: Arrays,
    winner: Arrays,
    grad_receiver: Arrays,
    grad_sender: Arrays,
    grad_x: Arrays,
    grad_data: Arrays,
    grad_weight: Arrays,
    grad_joined: Arrays,
    grad_first_weight: Arrays,
    grad_first_bias: Arrays,
) -> None:
    """Add the gradients of what :func:`pair_logits` was given to zeros; where both are equal, half goes to each.

    That of the receivers is of the graphs of these senders alone.
    """
    num_nodes, num_columns, num_pointers = receiver.shape[1], receiver.shape[2], len(bias)
    width = len(weight) // max(1, num_pointers)
    half, first_graph = x.dtype.type(0.5), first_line // num_nodes
    # Of each column the factor of its gradient, which is left out until all is added up.
    factor = np.ones(num_columns, x.dtype)
    factor[: len(weight)] = weight
    weighted = joined * factor
    step = max(1, TILE // num_nodes)
    firsts = np.empty((step * num_nodes, len(first_bias)), x.dtype)
    features = np.empty((2, step * num_nodes, len(joined)), x.dtype)
    columns = np.empty((step * num_nodes, num_columns), x.dtype)
    pairs, datas, winners = _as_rows(x), _as_rows(data), _as_rows(winner)
    grad_pairs, grad_datas = _as_rows(grad_x), _as_rows(grad_data)
    for line in range(first_line, last_line, step):
        begin, end = line * num_nodes, min(line + step, last_line) * num_nodes
        first, some, grad_some = firsts[: end - begin], features[0, : end - begin], features[1, : end - begin]
        grad_z = columns[: end - begin]
        for row in range(end - begin):
            b, s = divmod(line + row // num_nodes, num_nodes)
            r = row % num_nodes
            for p in range(num_pointers):
                g = gradient[p, b, r, s]
                for c in range(p * width, (p + 1) * width):
                    of_second = half * g * winners[begin + row, c]
                    grad_z[row, c] = of_second
                    grad_sender[b, s, c] += of_second
                    grad_receiver[b - first_graph, r, c] += g - of_second
            for c in range(len(weight), num_columns):
                g = gradient[c - num_pointers * (width - 1), b, s, r]
                grad_z[row, c] = g
                grad_sender[b, s, c] += g
                grad_receiver[b - first_graph, r, c] += g
        if len(joined) == 0:
            continue
        _states_and_channels(datas[begin:end], first_weight, first_bias, pairs[begin:end], first, some)
        grad_joined += np.dot(some.T, grad_z)
        np.dot(grad_z, weighted.T, grad_some)
        for row in range(end - begin):
            for k in range(x.shape[3]):
                grad_pairs[begin + row, k] = grad_some[row, len(first_bias) + k]
            for h in range(len(first_bias)):
                g = grad_some[row, h] * (some[row, h] > 0)
                first[row, h] = g
                grad_first_bias[h] += g
        if len(first_bias) > 0:
            np.dot(first, first_weight.T, grad_datas[begin:end])
            grad_first_weight += np.dot(datas[begin:end].T, first)
    sums = (joined * grad_joined).sum(axis=0)
    grad_joined *= factor
    for line in range(first_line, last_line):
        b, s = divmod(line, num_nodes)
        for c in range(num_columns):
            sums[c] += sender[b, s, c] * grad_sender[b, s, c]
            grad_sender[b, s, c] *= factor[c]
    for b in range(len(grad_receiver)):
        for r in range(num_nodes):
            for c in range(num_columns):
                sums[c] += receiver[first_graph + b, r, c] * grad_receiver[b, r, c]
                grad_receiver[b, r, c] *= factor[c]
    grad_weight += sums[: len(weight)]
