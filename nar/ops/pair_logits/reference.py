"""The formula of the logits on pairs of nodes as it is written; :mod:`nar.ops.pair_logits` has faster ones."""
# Axes: B graphs, N nodes, P pointers, C columns. What belongs to an edge is [B, sender, receiver, ...].

import torch
from torch import Tensor
from torch.nn.functional import linear


def plain_pair_logits(
    receiver: Tensor,
    sender: Tensor,
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    x_weight: Tensor,
    data: Tensor | None = None,
    first_weight: Tensor | None = None,
    first_bias: Tensor | None = None,
    states_weight: Tensor | None = None,
) -> Tensor:
    """The logits, [P + C - P · H, B, N, N]; arguments as of :func:`nar.ops.pair_logits.pair_logits`."""
    z = sender[:, :, None] + linear(x, x_weight)
    if data is not None and first_weight is not None and states_weight is not None:
        z = z + linear(linear(data, first_weight, first_bias).relu(), states_weight)
    of_pointers, of_others = slice(len(weight)), slice(len(weight), None)
    highest = torch.maximum(receiver[:, None, :, of_pointers], z[..., of_pointers])
    pointers = (highest * weight).view(*x.shape[:3], len(bias), len(weight) // max(1, len(bias))).sum(dim=-1) + bias
    others = receiver[:, None, :, of_others] + z[..., of_others]
    return torch.cat([pointers.permute(3, 0, 2, 1), others.permute(3, 0, 1, 2)])
