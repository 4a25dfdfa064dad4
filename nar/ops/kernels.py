"""What PyTorch has no fast form of on a CPU: loops around products of matrices, compiled by numba.

A call computes one part of an operation on one core, without holding Python's lock. Every maximum is NaN if one of its
arguments is, as torch's are.
"""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, K channels, F features of states, M matrices or rows.

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from nar.ops import numba_cache  # noqa: F401 (before anything is defined that numba compiles)

Arrays = Any  # NumPy's, of one dtype, in C order
Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]
exact: Compiler = njit(cache=True, nogil=True, error_model="numpy")
sums: Compiler = njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"}
)  # in any order


TILE = 256
"""Rows of which all that is computed at a time fits into a core's second cache."""


@exact
def product(a: Arrays, b: Arrays, out: Arrays) -> None:
    """Write ``a @ b``, which is 0 if there is nothing to add up."""
    if a.shape[1] == 0:
        out[:] = 0
    else:
        np.dot(a, b, out)


@sums
def product_backward(gradient: Arrays, a: Arrays, b: Arrays, grad_a: Arrays, grad_b: Arrays) -> None:
    """Write the gradient of a and add to that of b."""
    if a.shape[1] > 0:
        np.dot(gradient, b.T, grad_a)
        grad_b += np.dot(a.T, gradient)


@exact
def rectify(x: Arrays, bias: Arrays) -> None:
    """Write ``ReLU(x + bias)`` in the place of rows x."""
    for row in range(x.shape[0]):
        for h in range(x.shape[1]):
            total = x[row, h] + bias[h]
            x[row, h] = 0 if total < 0 else total


@sums
def rectify_backward(gradient: Arrays, rectified: Arrays, grad_bias: Arrays) -> None:
    """Turn the gradient of what is rectified into that of what was, in its place, and add to the bias's."""
    for row in range(gradient.shape[0]):
        for h in range(gradient.shape[1]):
            g = gradient[row, h] * (rectified[row, h] > 0)
            gradient[row, h] = g
            grad_bias[h] += g


@exact
def first_layer(line: int, sent: Arrays, heard: Arrays, edge: Arrays, edge_weight: Arrays, out: Arrays) -> None:
    """Write ``ReLU(sent_i + heard_j + We edge_ij)`` for the lines (graph, i) from `line` on, [lines · R, H]."""
    num_senders, num_receivers = sent.shape[1], heard.shape[1]
    product(edge, edge_weight, out)
    for row in range(out.shape[0]):
        b, s = divmod(line + row // num_receivers, num_senders)
        r = row % num_receivers
        for h in range(out.shape[1]):
            total = out[row, h] + (sent[b, s, h] + heard[b, r, h])
            out[row, h] = 0 if total < 0 else total


@exact
def max_message(
    sent: Arrays,
    heard: Arrays,
    edge: Arrays,
    edge_weight: Arrays,
    weight_1: Arrays,
    bias_1: Arrays,
    weight_2: Arrays,
    bias_2: Arrays,
    is_heard: Arrays,
    lowest: float,
    second: Arrays,
    received: Arrays,
    sender: Arrays,
) -> None:
    """Write ``max_i W2 second_ij + b2`` and ``second_ij = ReLU(W1 ReLU(sent_i + heard_j + We edge_ij) + b1)``.

    Args:
        sent: [B, S, H].
        heard: [B, R, H].
        edge: [B · S · R, K].
        edge_weight: We transposed, [K, H].
        weight_1: W1 transposed, [H, H].
        bias_1: b1, [H].
        weight_2: W2, [H, H].
        bias_2: b2, [H].
        is_heard: [B · S · R]; of size 0 if all are.
        lowest: What stands for the message of a sender that is not heard.
        second: Written, [B · S · R, H].
        received: Written, [B, R, H].
        sender: Written, [B, R, H]: whose message is the maximum; -1 if several are, or one that is not heard.
    """
    num_senders, num_receivers, width = sent.shape[1], heard.shape[1], second.shape[1]
    num_lines, step = sent.shape[0] * num_senders, max(1, TILE // num_receivers)
    tile = np.empty((step * num_receivers, width), second.dtype)
    # Written in turn: compilers make branches of a choice that is written where one of both is read.
    new_best, new_sender = np.empty(width, received.dtype), np.empty(width, sender.dtype)
    received[:] = -np.inf
    sender[:] = 0
    for line in range(0, num_lines, step):
        begin, end = line * num_receivers, min(line + step, num_lines) * num_receivers
        some, some_second = tile[: end - begin], second[begin:end]
        first_layer(line, sent, heard, edge[begin:end], edge_weight, some)
        np.dot(some, weight_1, some_second)
        rectify(some_second, bias_1)
        np.dot(some_second, weight_2.T, some)
        for row in range(end - begin):
            b, s = divmod(line + row // num_receivers, num_senders)
            r = row % num_receivers
            is_one = is_heard.size == 0 or is_heard[begin + row]
            for h in range(width):
                message, best = some[row, h] + bias_2[h] if is_one else lowest, received[b, r, h]
                wins = (message > best) | (message != message)
                new_best[h] = message if wins else best
                new_sender[h] = s if wins else (-1 if message == best else sender[b, r, h])
            for h in range(width):
                received[b, r, h] = new_best[h]
            for h in range(width):
                sender[b, r, h] = new_sender[h]


@sums
def ties_backward(
    gradient: Arrays,
    weight_2: Arrays,
    bias_2: Arrays,
    is_heard: Arrays,
    second: Arrays,
    received: Arrays,
    sender: Arrays,
    grad_second: Arrays,
    grad_weight_2: Arrays,
    grad_bias_2: Arrays,
) -> None:
    """Add the gradients of the maxima that several senders have; see :func:`max_message`."""
    num_graphs, num_receivers, width = received.shape
    num_senders = len(second) // (num_graphs * num_receivers)
    messages = np.dot(second, weight_2.T)
    shares = np.empty(num_senders, second.dtype)
    for b in range(num_graphs):
        for r in range(num_receivers):
            first = b * num_senders * num_receivers + r
            for h in range(width):
                if sender[b, r, h] >= 0:
                    continue
                for i in range(num_senders):
                    pair = first + i * num_receivers
                    is_one = is_heard.size == 0 or is_heard[pair]
                    shares[i] = is_one and messages[pair, h] + bias_2[h] == received[b, r, h]
                number = shares.sum()
                for i in range(num_senders):
                    if shares[i] > 0:
                        pair, part = first + i * num_receivers, gradient[b, r, h] / number
                        grad_bias_2[h] += part
                        for k in range(width):
                            grad_second[pair, k] += part * weight_2[h, k]
                        for k in range(width):
                            grad_weight_2[h, k] += part * second[pair, k]


@sums
def max_message_backward(
    gradient: Arrays,
    sent: Arrays,
    heard: Arrays,
    edge: Arrays,
    edge_weight: Arrays,
    weight_1: Arrays,
    weight_2: Arrays,
    bias_2: Arrays,
    is_heard: Arrays,
    second: Arrays,
    received: Arrays,
    sender: Arrays,
    grad_sent: Arrays,
    grad_heard: Arrays,
    grad_edge: Arrays,
    grad_edge_weight: Arrays,
    grad_weight_1: Arrays,
    grad_bias_1: Arrays,
    grad_weight_2: Arrays,
    grad_bias_2: Arrays,
) -> None:
    """Add the gradients of what :func:`max_message` was given, from that of `received`, to zeros.

    Only the gradient of a maximum's sender is computed; if several have it, they share it evenly.
    """
    num_senders, num_receivers, width = sent.shape[1], heard.shape[1], second.shape[1]
    num_lines, step = sent.shape[0] * num_senders, max(1, TILE // num_receivers)
    tiles = np.empty((3, step * num_receivers, width), second.dtype)
    has_ties = (sender < 0).any()
    of_ties = np.zeros_like(second if has_ties else second[:0])
    if has_ties:
        ties_backward(
            gradient, weight_2, bias_2, is_heard, second, received, sender, of_ties, grad_weight_2, grad_bias_2
        )
    for line in range(0, num_lines, step):
        last = min(line + step, num_lines)
        begin, end = line * num_receivers, last * num_receivers
        first, grad_first, grad_second = tiles[0, : end - begin], tiles[1, : end - begin], tiles[2, : end - begin]
        grad_second[:] = 0
        if has_ties:
            grad_second += of_ties[begin:end]
        for b in range(line // num_senders, (last - 1) // num_senders + 1):
            for r in range(num_receivers):
                for h in range(width):
                    pair, part = (b * num_senders + sender[b, r, h]) * num_receivers + r, gradient[b, r, h]
                    if sender[b, r, h] < 0 or not begin <= pair < end or (is_heard.size > 0 and not is_heard[pair]):
                        continue
                    grad_bias_2[h] += part
                    # Two loops: compilers give up on as many arrays as there are in both.
                    for k in range(width):
                        grad_second[pair - begin, k] += part * weight_2[h, k]
                    for k in range(width):
                        grad_weight_2[h, k] += part * second[pair, k]
        rectify_backward(grad_second, second[begin:end], grad_bias_1)
        first_layer(line, sent, heard, edge[begin:end], edge_weight, first)
        product_backward(grad_second, first, weight_1, grad_first, grad_weight_1)
        for row in range(end - begin):
            b, s = divmod(line + row // num_receivers, num_senders)
            r = row % num_receivers
            for h in range(width):
                g = grad_first[row, h] * (first[row, h] > 0)
                grad_first[row, h] = g
                grad_sent[b, s, h] += g
                grad_heard[b, r, h] += g
        product_backward(grad_first, edge[begin:end], edge_weight, grad_edge[begin:end], grad_edge_weight)


@exact
def max_plus(a: Arrays, b: Arrays, top: Arrays) -> None:
    """Write ``max_i a_ij + b_ik`` for a [M, N, N] and b [M, N, K]."""
    num_matrices, num_nodes, num_columns = b.shape
    top[:] = -np.inf
    for m in range(num_matrices):
        for j in range(num_nodes):
            for i in range(num_nodes):
                for k in range(num_columns):
                    top[m, j, k] = np.maximum(top[m, j, k], a[m, i, j] + b[m, i, k])


@exact
def max_plus_backward(gradient: Arrays, a: Arrays, b: Arrays, top: Arrays, grad_a: Arrays, grad_b: Arrays) -> None:
    """Add to the gradients of a and b, evenly among all i that have the maximum."""
    num_matrices, num_nodes, num_columns = b.shape
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


@sums
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
            total = weight[0] * 0
            for h in range(width):
                x, y = source[b, r, h], some[row, h] + states[row, h] + target[b, s, h]
                some[row, h] = y
                total += weight[h] * (x if (x > y) | (x != x) else y)
            logits[b, s, r] = total


@sums
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
