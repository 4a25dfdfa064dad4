"""The maximum of the messages between all pairs of nodes as it is written."""

import torch
from torch import Tensor
from torch.nn.functional import linear

UNHEARD = -1e6  # stands for the message of a sender that is not heard


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
    """The formula of :func:`max_message` as it is written, which holds all messages."""
    if sent.shape[1] == 0:
        return heard.masked_fill(torch.ones_like(heard, dtype=torch.bool), lowest)
    first = (sent[:, :, None] + heard[:, None] + linear(edge, edge_weight)).relu()
    messages = linear(linear(first, weight_1, bias_1).relu(), weight_2, bias_2)
    return (messages if is_heard is None else messages.masked_fill(~is_heard[..., None], lowest)).amax(dim=1)
