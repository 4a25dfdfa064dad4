"""Loops over edges, compiled by numba: messages of a few receivers at a time, as many as a core's cache holds.

See :mod:`nar.ops.loops`, of whose functions these are made.
"""
# Axes: N nodes, E edges, H hidden, K edge features, P edges of a part, in the order of their receivers.

import numpy as np

from nar.ops.loops import Arrays, product, rectify, rectify_backward, reordering_njit, strict_njit

_NOBODY = -2  # hears no one
_SEVERAL = -1  # have the maximum


@strict_njit
def _affine(x: Arrays, weight: Arrays, bias: Arrays, out: Arrays) -> None:
    """Write ``weight x + bias`` for rows x."""
    np.dot(x, weight.T, out)
    for row in range(out.shape[0]):
        for h in range(out.shape[1]):
            out[row, h] += bias[h]


@strict_njit
def _end_of_part(ptr: Arrays, begin: int, last: int, at_once: int) -> int:
    """The receiver behind those from `begin` that have no more than `at_once` edges together; one at least."""
    end = begin + 1
    while end < last and ptr[end + 1] - ptr[begin] <= at_once:
        end += 1
    return end


@strict_njit
def _most_edges(ptr: Arrays, first: int, last: int, at_once: int) -> int:
    """How many edges the largest part of the receivers from `first` to `last` has at most."""
    most = min(at_once, int(ptr[last] - ptr[first]))
    for r in range(first, last):
        most = max(most, int(ptr[r + 1] - ptr[r]))
    return most


@strict_njit
def first_layer(
    sent: Arrays,
    heard: Arrays,
    edge: Arrays,
    edge_weight: Arrays,
    senders: Arrays,
    order: Arrays,
    ptr: Arrays,
    begin: int,
    end: int,
    rows: Arrays,
    out: Arrays,
) -> None:
    """Write the features of a part's edges, [P, K], and ``ReLU(sent_i + heard_j + We edge_ij)``, [P, H]."""
    start = ptr[begin]
    for row in range(rows.shape[0]):
        rows[row] = edge[order[start + row]]
    product(rows, edge_weight.T, out)
    for r in range(begin, end):
        for row in range(ptr[r] - start, ptr[r + 1] - start):
            s = senders[start + row]
            for h in range(out.shape[1]):
                x = out[row, h] + sent[s, h] + heard[r, h]
                out[row, h] = 0 if x < 0 else x


@strict_njit
def edge_max_message(
    sent: Arrays,
    heard: Arrays,
    edge: Arrays,
    edge_weight: Arrays,
    weight_1: Arrays,
    bias_1: Arrays,
    weight_2: Arrays,
    bias_2: Arrays,
    senders: Arrays,
    order: Arrays,
    ptr: Arrays,
    first: int,
    last: int,
    at_once: int,
    received: Arrays,
    winner: Arrays,
) -> None:
    """Write ``max_i W2 ReLU(W1 ReLU(sent_i + heard_j + We edge_ij) + b1) + b2`` of receivers from `first` to `last`.

    Args:
        sent: [N, H].
        heard: [N, H].
        edge: [E, K].
        edge_weight: We, [H, K].
        weight_1: W1, [H, H].
        bias_1: b1, [H].
        weight_2: W2, [H, H].
        bias_2: b2, [H].
        senders: Of the edges in the order of their receivers, [E].
        order: Where each of these edges is in `edge`, [E].
        ptr: Where each receiver's edges begin in this order, and E, [N + 1].
        first: A receiver.
        last: The receiver behind the last.
        at_once: How many edges a part has, unless they are one receiver's.
        received: Written, [N, H]; 0 of a node that hears no one.
        winner: Written, [N, H]: which edge in this order has the maximum, or :data:`_SEVERAL` or :data:`_NOBODY`.
    """
    width = sent.shape[1]
    room = _most_edges(ptr, first, last, at_once)
    all_rows = np.empty((room, edge.shape[1]), sent.dtype)
    all_1, all_2 = np.empty((room, width), sent.dtype), np.empty((room, width), sent.dtype)
    begin = first
    while begin < last:
        end = _end_of_part(ptr, begin, last, at_once)
        start, number = ptr[begin], ptr[end] - ptr[begin]
        layer_1, layer_2 = all_1[:number], all_2[:number]
        first_layer(sent, heard, edge, edge_weight, senders, order, ptr, begin, end, all_rows[:number], layer_1)
        np.dot(layer_1, weight_1.T, layer_2)
        rectify(layer_2, bias_1)
        messages = layer_1  # in its place: the first layer is not needed any more
        _affine(layer_2, weight_2, bias_2, messages)
        for r in range(begin, end):
            if ptr[r] == ptr[r + 1]:
                received[r] = 0
                winner[r] = _NOBODY
                continue
            received[r] = messages[ptr[r] - start]
            winner[r] = ptr[r]
            for e in range(ptr[r] + 1, ptr[r + 1]):
                for h in range(width):
                    message, best = messages[e - start, h], received[r, h]
                    wins = (message > best) | (message != message)
                    received[r, h] = message if wins else best
                    winner[r, h] = e if wins else (_SEVERAL if message == best else winner[r, h])
        begin = end


@reordering_njit
def edge_max_message_backward(
    gradient: Arrays,
    sent: Arrays,
    heard: Arrays,
    edge: Arrays,
    edge_weight: Arrays,
    weight_1: Arrays,
    bias_1: Arrays,
    weight_2: Arrays,
    bias_2: Arrays,
    senders: Arrays,
    order: Arrays,
    ptr: Arrays,
    first: int,
    last: int,
    at_once: int,
    winner: Arrays,
    first_sender: int,
    grad_sent: Arrays,
    grad_heard: Arrays,
    grad_edge: Arrays,
    grad_edge_weight: Arrays,
    grad_weight_1: Arrays,
    grad_bias_1: Arrays,
    grad_weight_2: Arrays,
    grad_bias_2: Arrays,
) -> None:
    """Write the gradients of what :func:`edge_max_message` was given, from that of `received`.

    Only the gradient of a maximum's edge is computed; if several have it, they share it evenly. Gradients of the
    senders from `first_sender` on and of weights are what these receivers add to them.
    """
    width = sent.shape[1]
    room = _most_edges(ptr, first, last, at_once)
    all_rows = np.empty((room, edge.shape[1]), sent.dtype)
    all_1, all_2 = np.empty((room, width), sent.dtype), np.empty((room, width), sent.dtype)
    all_grad_1, all_grad_2 = np.empty((room, width), sent.dtype), np.empty((room, width), sent.dtype)
    square, unused = np.empty_like(weight_1), np.empty_like(bias_1)
    of_edges = np.empty_like(edge_weight)
    grad_sent[:] = 0  # parts of one thread may share senders; those of another have arrays of their own
    for total in (grad_edge_weight, grad_weight_1, grad_weight_2):
        total[:] = 0
    for total in (grad_bias_1, grad_bias_2):
        total[:] = 0
    begin = first
    while begin < last:
        end = _end_of_part(ptr, begin, last, at_once)
        start, number = ptr[begin], ptr[end] - ptr[begin]
        rows, layer_1, layer_2 = all_rows[:number], all_1[:number], all_2[:number]
        grad_1, grad_2 = all_grad_1[:number], all_grad_2[:number]
        first_layer(sent, heard, edge, edge_weight, senders, order, ptr, begin, end, rows, layer_1)
        np.dot(layer_1, weight_1.T, layer_2)
        rectify(layer_2, bias_1)
        messages = grad_1  # before gradients are written there
        if (winner[begin:end] == _SEVERAL).any():  # else messages themselves are not asked for
            _affine(layer_2, weight_2, bias_2, messages)
        grad_2[:] = 0
        for r in range(begin, end):
            for h in range(width):
                g, e = gradient[r, h], winner[r, h]
                if e == _NOBODY:
                    continue
                grad_bias_2[h] += g
                if e != _SEVERAL:
                    _entry_backward(g, h, e - start, layer_2, weight_2, grad_2, grad_weight_2)
                    continue
                low, high = ptr[r] - start, ptr[r + 1] - start
                best = messages[low:high, h].max()
                share = g / (messages[low:high, h] == best).sum()
                for row in range(low, high):
                    if messages[row, h] == best:
                        _entry_backward(share, h, row, layer_2, weight_2, grad_2, grad_weight_2)
        rectify_backward(grad_2, layer_2, grad_bias_1)
        np.dot(grad_2.T, layer_1, square)
        grad_weight_1 += square
        np.dot(grad_2, weight_1, grad_1)
        rectify_backward(grad_1, layer_1, unused)
        for r in range(begin, end):
            grad_heard[r] = 0
            for row in range(ptr[r] - start, ptr[r + 1] - start):
                s = senders[start + row] - first_sender
                for h in range(width):
                    grad_heard[r, h] += grad_1[row, h]
                    grad_sent[s, h] += grad_1[row, h]
        if edge.shape[1] > 0:
            np.dot(grad_1.T, rows, of_edges)
            grad_edge_weight += of_edges
            np.dot(grad_1, edge_weight, rows)
            for row in range(number):
                grad_edge[order[start + row]] = rows[row]
        begin = end


@reordering_njit
def _entry_backward(
    gradient: float, h: int, row: int, layer_2: Arrays, weight_2: Arrays, grad_2: Arrays, grad_weight_2: Arrays
) -> None:
    """Add what entry h of one message, ``W2 layer_2 + b2``, gives to the gradients of layer 2 and of W2."""
    # Two loops: compilers give up on as many arrays as there are in both.
    for k in range(layer_2.shape[1]):
        grad_2[row, k] += gradient * weight_2[h, k]
    for k in range(layer_2.shape[1]):
        grad_weight_2[h, k] += gradient * layer_2[row, k]
