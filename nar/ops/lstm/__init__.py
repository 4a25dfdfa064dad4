"""The last state of an LSTM over senders, without keeping its gates.

On a CPU it is computed by :mod:`nar.ops.lstm.cpu`, on other devices by PyTorch's LSTM, which keeps them; for compilers
and transforms, which know no LSTM of PyTorch's, by :mod:`nar.ops.lstm.reference`.
"""
# Axes: B graphs, S sender, R receiver, H hidden.

import torch
from torch import Tensor

from nar.ops.border import check_shapes, is_watched
from nar.ops.lstm import cpu
from nar.ops.lstm.reference import plain_lstm
from nar.ops.lstm.sequences import last_states, lstm_states
from nar.ops.precision import alike


def lstm(
    messages: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    is_heard: Tensor | None = None,
) -> Tensor:
    """The state h of each receiver after the messages of the senders that it hears, in their order, [B, R, H].

    It starts with h = c = 0 and takes ``c ← σ(f) c + σ(i) tanh(g)`` and ``h ← σ(o) tanh(c)``, where i, f, g and o are
    the quarters of ``Wih m + bih + Whh h + bhh``, as those of :class:`torch.nn.LSTM` are.

    Args:
        messages: m, [B, S, R, H].
        weight_ih: Wih, [4H, H].
        weight_hh: Whh, [4H, H].
        bias_ih: bih, [4H].
        bias_hh: bhh, [4H].
        is_heard: True where the receiver hears the sender, [B, S, R]; None if all hear all. Who is not heard is passed
            over.
    """
    check_shapes(
        "lstm",
        messages=(messages, "B S R H"),
        weight_ih=(weight_ih, "4H H"),
        weight_hh=(weight_hh, "4H H"),
        bias_ih=(bias_ih, "4H"),
        bias_hh=(bias_hh, "4H"),
        is_heard=(is_heard, "B S R", torch.bool),
    )
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    if is_watched(messages, *weights, is_heard) or messages.numel() == 0:
        return plain_lstm(messages, *weights, is_heard)
    if messages.is_cpu:
        return cpu.lstm(messages, *weights, is_heard)
    read, *given = alike(messages, *weights)
    return last_states(lambda x: lstm_states(x, given), read, is_heard).to(messages.dtype)
