"""The formulas of what is made of every three nodes, as they are written; :mod:`nar.ops.triplets` has faster ones."""
# Axes: B graphs, N nodes, K channels, F features; J or I some of the nodes.

from torch import Tensor
from torch.nn.functional import linear


def plain_triplet_max(ij: Tensor, ik: Tensor, x: Tensor, x_weight: Tensor) -> Tensor:
    """``max_i ij_ij + ik_ik + Wx x_ijk``, [B, J, N, F], from ij [B, N, J, F], ik [B, N, N, F] and x [B, N, J, N, K]."""
    if ij.shape[1] == 0:
        return ij + ik
    return (ij[:, :, :, None] + ik[:, :, None] + linear(x, x_weight)).amax(dim=1)


def plain_triplet_logits(ij: Tensor, ik: Tensor, jk: Tensor, x: Tensor, x_weight: Tensor, weight: Tensor) -> Tensor:
    """``w · ReLU(ij_ij + ik_ik + jk_jk + Wx x_ijk)``, [B, I, N, N]; of jk alone there are all rows, [B, N, N, F]."""
    return (ij[:, :, :, None] + ik[:, :, None] + jk[:, None] + linear(x, x_weight)).relu() @ weight
