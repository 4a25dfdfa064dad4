"""The messages between nodes and their maximum over all senders as they are written."""
# Axes: B graphs, S sender, R receiver, H hidden, K channels.

import torch
from torch import Tensor
from torch.nn.functional import linear

from nar.ops.precision import UNHEARD


def plain_messages(
    sent: Tensor,
    heard: Tensor,
    edge: Tensor,
    edge_weight: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
) -> Tensor:
    """``W2 ReLU(W1 ReLU(sent + heard + We edge) + b1) + b2``, [..., H], from sent and heard [..., H], edge [..., K]."""
    first = (sent + heard + linear(edge, edge_weight)).relu()
    return linear(linear(first, weight_1, bias_1).relu(), weight_2, bias_2)


def plain_max_message(
    sent: Tensor,
    heard: Tensor,
    edge: Tensor,
    edge_weight: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
    is_heard: Tensor | None = None,
    lowest: float = UNHEARD,
) -> Tensor:
    """The formula of :func:`nar.ops.max_message.max_message`, [B, R, H]; it holds all messages, [B, S, R, H]."""
    if sent.shape[1] == 0:
        return heard.masked_fill(torch.ones_like(heard, dtype=torch.bool), lowest)
    pairs = (sent[:, :, None], heard[:, None], edge)
    messages = plain_messages(*pairs, edge_weight, weight_1, bias_1, weight_2, bias_2)
    return (messages if is_heard is None else messages.masked_fill(~is_heard[..., None], lowest)).amax(dim=1)
