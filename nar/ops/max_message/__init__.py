"""The maximum of messages that a small network makes of every pair of nodes, without keeping the messages.

It is the messages and the reduction of PGN, MPNN and Triplet-GMPNN at once, where most of their time goes. On a CPU it
is computed by :mod:`nar.ops.max_message.cpu`, on a GPU by :mod:`nar.ops.max_message.triton`, elsewhere and for
compilers and transforms by :mod:`nar.ops.max_message.reference`. For sparse graphs there is
:mod:`nar.ops.edge_max_message`.
"""
# Axes: B graphs, S sender, R receiver, H hidden, K channels. What belongs to an edge is [B, S, R, ...].

import torch
from torch import Tensor

from nar.ops.border import check_shapes, is_watched
from nar.ops.device import is_for_triton
from nar.ops.max_message import cpu
from nar.ops.max_message.reference import plain_max_message
from nar.ops.precision import unheard


def max_message(
    sent: Tensor,
    heard: Tensor,
    edge: Tensor,
    edge_weight: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
    is_heard: Tensor | None = None,
) -> Tensor:
    """``max_i W2 ReLU(W1 ReLU(sent_i + heard_j + We edge_ij) + b1) + b2`` over all senders i that j hears, [B, R, H].

    On a CPU it is computed for some pairs at a time, and of what is as large as pairs times H the gradient keeps
    ``ReLU(W1 …)`` alone. Of a maximum that is one sender's only this sender's gradient is computed; equal ones share it
    evenly.

    Args:
        sent: [B, S, H].
        heard: [B, R, H].
        edge: [B, S, R, K]; of few channels, if their linear map to H features is folded into `edge_weight`.
        edge_weight: We, [H, K].
        weight_1: W1, [H, H].
        bias_1: b1, [H].
        weight_2: W2, [H, H].
        bias_2: b2, [H].
        is_heard: True where j hears i, [B, S, R]; None if every node hears all. Who is not heard counts as -1e6 (or as
            the lowest number that there is, where that is more) and gets no gradient.
    """
    check_shapes(
        "max_message",
        sent=(sent, "B S H"),
        heard=(heard, "B R H"),
        edge=(edge, "B S R K"),
        edge_weight=(edge_weight, "H K"),
        weight_1=(weight_1, "H H"),
        bias_1=(bias_1, "H"),
        weight_2=(weight_2, "H H"),
        bias_2=(bias_2, "H"),
        is_heard=(is_heard, "B S R", torch.bool),
    )
    lowest = unheard(heard.dtype)
    given = (sent, heard, edge, edge_weight, weight_1, bias_1, weight_2, bias_2)
    is_plain = is_watched(*given, is_heard) or 0 in (sent.numel(), heard.numel())
    if is_for_triton(sent) and not is_plain:
        from nar.ops.max_message import triton

        return triton.max_message(*given, is_heard, lowest)
    if is_plain or not sent.is_cpu:
        return plain_max_message(*given, is_heard, lowest)
    return cpu.max_message(*given, is_heard, lowest)
