"""Messages to receivers as sequences for an LSTM of PyTorch's, and the states that it is left with."""
# Axes: B graphs, S sender, R receiver, H hidden, M sequences, T steps.

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def lstm_states(sequences: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The states of PyTorch's LSTM after every step, [T, M, H], from 0, of sequences [T, M, H]."""
    start = sequences.new_zeros(1, *sequences.shape[1:])
    with torch.autocast(sequences.device.type, enabled=False):
        states, _, _ = torch.lstm(
            sequences,
            (start, start),
            list(weights),
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=torch.is_grad_enabled(),
            bidirectional=False,
            batch_first=False,
        )
    return states


def last_states(states_of: Callable[[Tensor], Tensor], messages: Tensor, is_heard: Tensor | None) -> Tensor:
    """The states after the messages that are heard, in the order of the senders, [B, R, H]; 0 after none.

    Args:
        states_of: Makes the states after every step, [T, M, H], of sequences [T, M, H].
        messages: [B, S, R, H], of at least one sender.
        is_heard: [B, S, R]; None if all are.
    """
    num_graphs, _, num_receivers, width = messages.shape
    if is_heard is None:
        return states_of(messages.transpose(0, 1).flatten(1, 2))[-1].view(num_graphs, num_receivers, width)
    # Those that are heard come first, and the state after them is taken.
    order, number = (~is_heard).int().argsort(dim=1, stable=True), is_heard.sum(dim=1)
    read = messages.masked_fill(~is_heard[..., None], 0).gather(1, order[..., None].expand_as(messages))
    states = states_of(read.transpose(0, 1).flatten(1, 2))
    place = (number - 1).clamp(min=0).flatten()[None, :, None].expand(1, -1, width)
    last = states.gather(0, place).view(num_graphs, num_receivers, width)
    return last.masked_fill(number[..., None] == 0, 0)
