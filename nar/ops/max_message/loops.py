"""Loops over pairs of nodes, compiled by numba: messages of a tile of pairs at a time, as many as a core's cache holds.

Pairs are walked in the order in which they lie in memory: graph, sender, receiver. A *line* is one sender of one graph
with all receivers, and a tile is some whole lines, so a tile is one slice of every array of pairs. The maximum of a
receiver therefore grows from line to line in place of being finished at once; it is small and stays in the cache.

Of what is as large as pairs times H only the second layer, ``ReLU(W1 …)``, is held for the gradient: without it both
products of matrices were to be computed again. The first layer costs a product of K columns alone, so the gradient
computes it again; messages themselves are only needed again where several senders have a maximum.
"""
# Axes: B graphs, S sender, R receiver, H hidden, K channels.

import numpy as np

from nar.ops.loops import (
    TILE,
    Arrays,
    product,
    product_backward,
    rectify,
    rectify_backward,
    reordering_njit,
    strict_njit,
)


@strict_njit
def _first_layer(line: int, sent: Arrays, heard: Arrays, edge: Arrays, edge_weight: Arrays, out: Arrays) -> None:
    """Write ``ReLU(sent_i + heard_j + We edge_ij)`` for the lines (graph, i) from `line` on, [lines · R, H]."""
    num_senders, num_receivers = sent.shape[1], heard.shape[1]
    product(edge, edge_weight, out)
    for row in range(out.shape[0]):
        b, s = divmod(line + row // num_receivers, num_senders)
        r = row % num_receivers
        for h in range(out.shape[1]):
            total = out[row, h] + (sent[b, s, h] + heard[b, r, h])
            out[row, h] = 0 if total < 0 else total


@strict_njit
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
    winner: Arrays,
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
        winner: Written, [B, R, H]: the sender of the maximum; -1 if several have it, or one that is not heard.
    """
    num_senders, num_receivers, width = sent.shape[1], heard.shape[1], second.shape[1]
    num_lines, step = sent.shape[0] * num_senders, max(1, TILE // num_receivers)
    tile = np.empty((step * num_receivers, width), second.dtype)
    # Written in turn: compilers make branches of a choice that is written where one of both is read, and a loop with
    # branches does not become vector instructions.
    new_best, new_winner = np.empty(width, received.dtype), np.empty(width, winner.dtype)
    received[:] = -np.inf
    winner[:] = 0
    for line in range(0, num_lines, step):
        begin, end = line * num_receivers, min(line + step, num_lines) * num_receivers
        some, some_second = tile[: end - begin], second[begin:end]
        _first_layer(line, sent, heard, edge[begin:end], edge_weight, some)
        np.dot(some, weight_1, some_second)
        rectify(some_second, bias_1)
        np.dot(some_second, weight_2.T, some)  # messages take the first layer's place
        for row in range(end - begin):
            b, s = divmod(line + row // num_receivers, num_senders)
            r = row % num_receivers
            is_one = is_heard.size == 0 or is_heard[begin + row]
            for h in range(width):
                message, best = some[row, h] + bias_2[h] if is_one else lowest, received[b, r, h]
                wins = (message > best) | (message != message)
                new_best[h] = message if wins else best
                new_winner[h] = s if wins else (-1 if message == best else winner[b, r, h])
            for h in range(width):
                received[b, r, h] = new_best[h]
            for h in range(width):
                winner[b, r, h] = new_winner[h]


@reordering_njit
def _ties_backward(
    gradient: Arrays,
    weight_2: Arrays,
    bias_2: Arrays,
    is_heard: Arrays,
    second: Arrays,
    received: Arrays,
    winner: Arrays,
    grad_second: Arrays,
    grad_weight_2: Arrays,
    grad_bias_2: Arrays,
) -> None:
    """Add the gradients of the maxima that several senders have, which share them evenly.

    Ties are rare but for sums of whole numbers and messages of nobody, so these loops need not be fast: they compute
    all messages again, of all pairs at once.
    """
    num_graphs, num_receivers, width = received.shape
    num_senders = len(second) // (num_graphs * num_receivers)
    messages = np.dot(second, weight_2.T)
    shares = np.empty(num_senders, second.dtype)
    for b in range(num_graphs):
        for r in range(num_receivers):
            first = b * num_senders * num_receivers + r
            for h in range(width):
                if winner[b, r, h] >= 0:
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


@reordering_njit
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
    winner: Arrays,
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
    # How many senders share a maximum is known when all lines have been seen, so ties go before the walk over tiles.
    has_ties = (winner < 0).any()
    of_ties = np.zeros_like(second if has_ties else second[:0])
    if has_ties:
        _ties_backward(
            gradient, weight_2, bias_2, is_heard, second, received, winner, of_ties, grad_weight_2, grad_bias_2
        )
    for line in range(0, num_lines, step):
        last = min(line + step, num_lines)
        begin, end = line * num_receivers, last * num_receivers
        first, grad_first, grad_second = tiles[0, : end - begin], tiles[1, : end - begin], tiles[2, : end - begin]
        grad_second[:] = 0
        if has_ties:
            grad_second += of_ties[begin:end]
        # Each entry of a maximum has one sender. Entries whose sender is in this tile are taken now, the others at
        # theirs. So gradients of W2 and of the second layer cost H operations for an entry of [R, H]; a product of
        # matrices would have them for every entry of [S, R, H], of which all but one in S are 0.
        for b in range(line // num_senders, (last - 1) // num_senders + 1):
            for r in range(num_receivers):
                for h in range(width):
                    pair, part = (b * num_senders + winner[b, r, h]) * num_receivers + r, gradient[b, r, h]
                    if winner[b, r, h] < 0 or not begin <= pair < end or (is_heard.size > 0 and not is_heard[pair]):
                        continue
                    grad_bias_2[h] += part
                    # Two loops: compilers give up on as many arrays as there are in both.
                    for k in range(width):
                        grad_second[pair - begin, k] += part * weight_2[h, k]
                    for k in range(width):
                        grad_weight_2[h, k] += part * second[pair, k]
        rectify_backward(grad_second, second[begin:end], grad_bias_1)
        _first_layer(line, sent, heard, edge[begin:end], edge_weight, first)
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
