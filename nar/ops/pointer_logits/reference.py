"""The formula of the logits of edge pointers as it is written; :mod:`nar.ops.pointer_logits` has faster ones."""
# Axes: B graphs, N nodes, H hidden, M rows.

import torch
from torch import Tensor


def plain_product_logits(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """``w · max(source_m, target_k)``, [B, M, N]."""
    return torch.maximum(source[:, :, None], target[:, None]) @ weight
