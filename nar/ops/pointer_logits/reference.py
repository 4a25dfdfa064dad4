"""The formulas of the logits of pointers as they are written; :mod:`nar.ops.pointer_logits` has faster ones."""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, M rows. What belongs to an edge is [B, S, R, ...].

import torch
from torch import Tensor
from torch.nn.functional import linear


def plain_edge_logits(
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    x: Tensor,
    x_weight: Tensor,
    data: Tensor | None = None,
    first_weight: Tensor | None = None,
    first_bias: Tensor | None = None,
    states_weight: Tensor | None = None,
) -> Tensor:
    """``w · max(source_j, target_i + We x_ij + Ws ReLU(Wf data_ij + bf))``; without Ws the data as they are."""
    second = target[:, :, None] + linear(x, x_weight)
    if data is not None and first_weight is not None and states_weight is not None:
        data = linear(linear(data, first_weight, first_bias).relu(), states_weight)
    return torch.maximum(source[:, None], second if data is None else second + data) @ weight


def plain_product_logits(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """``w · max(source_m, target_k)``, [B, M, N]."""
    return torch.maximum(source[:, :, None], target[:, None]) @ weight
