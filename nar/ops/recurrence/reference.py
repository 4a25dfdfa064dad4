"""The last state of a linear recurrence over senders as it is written for all of them at once."""
# Axes: B graphs, S sender, R receiver, H hidden.

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from nar.ops.precision import alike


def plain_recurrence(gate: Tensor, candidate: Tensor, is_heard: Tensor | None = None) -> Tensor:
    """The formula of :func:`nar.ops.recurrence.recurrence`, [B, R, H]: ``Σ_i u_i c_i Π_{k>i} (1 - u_k)``.

    The products are exponentials of sums of logarithms, all at most 0, and the sums a scan of O(log S) depth.
    """
    dtype = candidate.dtype
    gate, candidate = alike(gate, candidate)
    if is_heard is not None:
        gate = gate.masked_fill(~is_heard[..., None], -math.inf)
        candidate = candidate.masked_fill(~is_heard[..., None], 0)
    is_last = torch.arange(gate.shape[1], device=gate.device) == gate.shape[1] - 1
    of_next = logsigmoid(-gate).roll(-1, dims=1).masked_fill(is_last[:, None, None], 0)
    kept = of_next.flip(1).cumsum(dim=1).flip(1)  # log Π_{k>i} (1 - u_k)
    return (gate.sigmoid() * candidate * kept.exp()).sum(dim=1).to(dtype)
