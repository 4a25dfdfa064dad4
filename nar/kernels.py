"""What PyTorch has no fast form of on a CPU: loops around products of matrices, compiled by numba.

A call computes one part of an operation on one core, without holding Python's lock. Every maximum is NaN if one of its
arguments is, as torch's are.
"""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, K channels, F features of states, M matrices or rows.

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from nar import numba_cache  # noqa: F401 (before anything is defined that numba compiles)

Arrays = Any  # NumPy's, of one dtype, in C order
Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]
exact: Compiler = njit(cache=True, nogil=True, error_model="numpy")
sums: Compiler = njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"}
)  # in any order


@exact
def product(a: Arrays, b: Arrays, out: Arrays) -> None:
    """Write ``a @ b``, which is 0 if there is nothing to add up."""
    if a.shape[1] == 0:
        out[:] = 0
    else:
        np.dot(a, b, out)


@exact
def affine(x: Arrays, weight: Arrays, bias: Arrays, out: Arrays) -> None:
    """Write ``weight x + bias`` for rows x."""
    product(x, weight.T, out)
    for row in range(out.shape[0]):
        for h in range(out.shape[1]):
            out[row, h] += bias[h]


@exact
def rectify(x: Arrays) -> None:
    """Take ReLU in place."""
    for row in range(x.shape[0]):
        for h in range(x.shape[1]):
            x[row, h] = 0 if x[row, h] < 0 else x[row, h]


@exact
def rectify_backward(gradient: Arrays, rectified: Arrays) -> None:
    """Turn the gradient of what is rectified into that of what was, in place."""
    for row in range(gradient.shape[0]):
        for h in range(gradient.shape[1]):
            gradient[row, h] = gradient[row, h] if rectified[row, h] > 0 else 0


@sums
def sum_of_rows(rows: Arrays, out: Arrays) -> None:
    """Write the sum over rows."""
    out[:] = 0
    for row in range(rows.shape[0]):
        for h in range(rows.shape[1]):
            out[h] += rows[row, h]


@exact
def first_layer(sent: Arrays, heard: Arrays, edge: Arrays, edge_weight: Arrays, out: Arrays) -> None:
    """Write ``ReLU(sent_i + heard_j + We edge_ij)``, [B · S · R, H]; see :func:`max_message`."""
    product(edge, edge_weight.T, out)
    num_graphs, num_senders, width = sent.shape
    num_receivers = heard.shape[1]
    row = 0
    for b in range(num_graphs):
        for s in range(num_senders):
            for r in range(num_receivers):
                for h in range(width):
                    x = out[row, h] + sent[b, s, h] + heard[b, r, h]
                    out[row, h] = 0 if x < 0 else x
                row += 1


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
        edge_weight: We, [H, K].
        weight_1: W1, [H, H].
        bias_1: b1, [H].
        weight_2: W2, [H, H].
        bias_2: b2, [H].
        is_heard: [B, S, R]; of size 0 if all are.
        lowest: What stands for the message of a sender that is not heard.
        second: Written, [B · S · R, H].
        received: Written, [B, R, H].
        sender: Written, [B, R, H]: whose message is the maximum; -1 if several are, or one that is not heard.
    """
    first = np.empty_like(second)
    first_layer(sent, heard, edge, edge_weight, first)
    affine(first, weight_1, bias_1, second)
    rectify(second)
    width = second.shape[1]
    messages = first
    affine(second, weight_2, bias_2, messages)
    num_graphs, num_senders, num_receivers = sent.shape[0], sent.shape[1], heard.shape[1]
    for b in range(num_graphs):
        for r in range(num_receivers):
            for s in range(num_senders):
                row = (b * num_senders + s) * num_receivers + r
                if is_heard.size > 0 and not is_heard[b, s, r]:
                    messages[row] = lowest
            for h in range(width):
                received[b, r, h] = messages[b * num_senders * num_receivers + r, h]
                sender[b, r, h] = 0
            for s in range(1, num_senders):
                row = (b * num_senders + s) * num_receivers + r
                for h in range(width):
                    message, best = messages[row, h], received[b, r, h]
                    wins = (message > best) | (message != message)
                    received[b, r, h] = message if wins else best
                    sender[b, r, h] = s if wins else (-1 if message == best else sender[b, r, h])


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
    to_sent: Arrays,
    to_heard: Arrays,
    to_edge: Arrays,
    to_edge_weight: Arrays,
    to_weight_1: Arrays,
    to_bias_1: Arrays,
    to_weight_2: Arrays,
    to_bias_2: Arrays,
) -> None:
    """Write the gradients of what :func:`max_message` was given, from that of `received`.

    Only the gradient of a maximum's sender is computed; if several have it, they share it evenly.
    """
    num_graphs, num_senders, width = sent.shape
    num_receivers = heard.shape[1]
    to_second, messages = np.zeros_like(second), np.empty_like(second)
    to_weight_2[:] = 0
    to_bias_2[:] = 0
    if (sender < 0).any():
        affine(second, weight_2, bias_2, messages)
    for b in range(num_graphs):
        for r in range(num_receivers):
            for h in range(width):
                g, s = gradient[b, r, h], sender[b, r, h]
                begin, end, number = (s, s + 1, 1) if s >= 0 else (0, num_senders, 0)
                for i in range(begin, end if s < 0 else begin):
                    row = (b * num_senders + i) * num_receivers + r
                    number += messages[row, h] == received[b, r, h] and (is_heard.size == 0 or is_heard[b, i, r])
                for i in range(begin, end):
                    row = (b * num_senders + i) * num_receivers + r
                    if is_heard.size > 0 and not is_heard[b, i, r]:
                        continue
                    if s < 0 and messages[row, h] != received[b, r, h]:
                        continue
                    part = g / number
                    to_bias_2[h] += part
                    for k in range(width):
                        to_second[row, k] += part * weight_2[h, k]
                        to_weight_2[h, k] += part * second[row, k]
    first, to_first = messages, np.empty_like(second)
    first_layer(sent, heard, edge, edge_weight, first)
    rectify_backward(to_second, second)
    sum_of_rows(to_second, to_bias_1)
    np.dot(to_second.T, first, to_weight_1)
    np.dot(to_second, weight_1, to_first)
    rectify_backward(to_first, first)
    to_sent[:] = 0
    to_heard[:] = 0
    row = 0
    for b in range(num_graphs):
        for s in range(num_senders):
            for r in range(num_receivers):
                for h in range(width):
                    to_sent[b, s, h] += to_first[row, h]
                    to_heard[b, r, h] += to_first[row, h]
                row += 1
    if edge.shape[1] > 0:
        np.dot(to_first.T, edge, to_edge_weight)
        np.dot(to_first, edge_weight, to_edge)


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


@exact
def edge_sums(
    target: Arrays,
    edge: Arrays,
    edge_weight: Arrays,
    data: Arrays,
    first_weight: Arrays,
    first_bias: Arrays,
    states_weight: Arrays,
    out: Arrays,
    first: Arrays,
) -> None:
    """Write ``target_i + We edge_ij + Ws first_ij``, ``first_ij = ReLU(Wf data_ij + bf)``; see :func:`edge_logits`."""
    product(edge, edge_weight.T, out)
    num_graphs, num_senders, width = target.shape
    num_receivers = out.shape[0] // (num_graphs * num_senders)
    if data.size > 0:
        affine(data, first_weight, first_bias, first)
        rectify(first)
        states = np.empty_like(out)
        np.dot(first, states_weight.T, states)
        out += states
    row = 0
    for b in range(num_graphs):
        for s in range(num_senders):
            for _ in range(num_receivers):
                for h in range(width):
                    out[row, h] += target[b, s, h]
                row += 1


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
        edge_weight: We, [H, K].
        data: [B · S · R, F]; of size 0 if there are no states.
        first_weight: Wf, [W, F].
        first_bias: bf, [W].
        states_weight: Ws, [H, W].
        second: Written, [B · S · R, H].
        logits: Written, [B, S, R].
    """
    first = np.empty((len(data), len(first_bias)), second.dtype)
    edge_sums(target, edge, edge_weight, data, first_weight, first_bias, states_weight, second, first)
    num_graphs, num_senders, num_receivers = logits.shape
    row = 0
    for b in range(num_graphs):
        for s in range(num_senders):
            for r in range(num_receivers):
                total = weight[0] * 0
                for h in range(weight.shape[0]):
                    x, y = source[b, r, h], second[row, h]
                    total += weight[h] * (x if (x > y) | (x != x) else y)
                logits[b, s, r] = total
                row += 1


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
    to_source: Arrays,
    to_target: Arrays,
    to_weight: Arrays,
    to_edge: Arrays,
    to_edge_weight: Arrays,
    to_data: Arrays,
    to_first_weight: Arrays,
    to_first_bias: Arrays,
    to_states_weight: Arrays,
) -> None:
    """Write the gradients of what :func:`edge_logits` was given; where both are equal, half goes to each."""
    zero = weight[0] * 0
    half = zero + 0.5
    to_source[:] = 0
    to_target[:] = 0
    to_weight[:] = 0
    to_second = np.empty_like(second)
    num_graphs, num_senders, num_receivers = gradient.shape
    row = 0
    for b in range(num_graphs):
        for s in range(num_senders):
            for r in range(num_receivers):
                g = gradient[b, s, r]
                for h in range(weight.shape[0]):
                    x, y, passed = source[b, r, h], second[row, h], g * weight[h]
                    part = zero if x < y else (passed if x > y else passed * half)
                    to_source[b, r, h] += part
                    to_target[b, s, h] += passed - part
                    to_second[row, h] = passed - part
                    to_weight[h] += g * (x if x > y else y)
                row += 1
    if edge.shape[1] > 0:
        np.dot(to_second.T, edge, to_edge_weight)
        np.dot(to_second, edge_weight, to_edge)
    if data.size > 0:
        first = np.empty((len(data), len(first_bias)), second.dtype)
        to_first = np.empty_like(first)
        affine(data, first_weight, first_bias, first)
        rectify(first)
        np.dot(to_second.T, first, to_states_weight)
        np.dot(to_second, states_weight, to_first)
        rectify_backward(to_first, first)
        np.dot(to_first.T, data, to_first_weight)
        sum_of_rows(to_first, to_first_bias)
        np.dot(to_first, first_weight, to_data)


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
