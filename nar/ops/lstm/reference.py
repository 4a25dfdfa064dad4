"""The last state of an LSTM over senders as it is written, one sender after another."""
# Axes: B graphs, S sender, R receiver, H hidden.

import torch
from torch import Tensor
from torch.nn.functional import linear

from nar.ops.precision import alike


def plain_lstm(
    messages: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    is_heard: Tensor | None = None,
) -> Tensor:
    """The formula of :func:`nar.ops.lstm.lstm`, [B, R, H]; it holds the gates of all senders."""
    dtype = messages.dtype
    if is_heard is not None:
        messages = messages.masked_fill(~is_heard[..., None], 0)
    messages, weight_ih, weight_hh, bias_ih, bias_hh = alike(messages, weight_ih, weight_hh, bias_ih, bias_hh)
    with torch.autocast(messages.device.type, enabled=False):
        entered = linear(messages, weight_ih, bias_ih + bias_hh)
        hidden = cell = messages[:, :0].sum(dim=1)
        for sender in range(messages.shape[1]):
            enter, keep, candidate, leave = (entered[:, sender] + linear(hidden, weight_hh)).chunk(4, dim=-1)
            new_cell = keep.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
            new_hidden = leave.sigmoid() * new_cell.tanh()
            if is_heard is None:
                hidden, cell = new_hidden, new_cell
            else:
                hears = is_heard[:, sender, :, None]
                hidden, cell = torch.where(hears, new_hidden, hidden), torch.where(hears, new_cell, cell)
    return hidden.to(dtype)
