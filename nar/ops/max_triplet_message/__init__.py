"""The maximum of messages over triplets of nodes, which Triplet-GMPNN has, without keeping the messages.

On a GPU it is computed by :mod:`nar.ops.max_triplet_message.triton`, from channels of edges in one kernel. Elsewhere a
product of matrices in the (max, +) semiring has most of the time: see :mod:`nar.ops.max_plus`.
"""
# Axes: B graphs, N nodes, F triplet features, K channels.

import torch
from torch import Tensor

from nar.ops.affine import affine
from nar.ops.border import check_shapes, is_watched
from nar.ops.device import is_for_triton
from nar.ops.max_plus import max_plus
from nar.ops.max_triplet_message.reference import plain_max_triplet_message

MAX_CHANNELS = 64
"""How many channels a kernel reads for every triplet; of more, a product of matrices is faster."""


def max_triplet_message(first: Tensor, second: Tensor, third: Tensor, edge: Tensor, weight: Tensor) -> Tensor:
    """``max_i first_i + second_j + third_k + W1 edge_ij + W2 edge_ik + W3 edge_jk`` for every j and k, [B, N, N, F].

    Equal messages share the gradient evenly.

    Args:
        first: [B, N, F].
        second: [B, N, F].
        third: [B, N, F].
        edge: [B, N, N, K]; of few channels, if their linear map to features is folded into `weight`.
        weight: W1, W2 and W3, one below the other, [3F, K].
    """
    sizes = check_shapes(
        "max_triplet_message",
        first=(first, "B N F"),
        second=(second, "B N F"),
        third=(third, "B N F"),
        edge=(edge, "B N N K"),
        weight=(weight, "3F K"),
    )
    given = (first, second, third, edge, weight)
    if is_watched(*given) or first.numel() == 0:
        return plain_max_triplet_message(*given)
    if is_for_triton(first) and sizes["K"] <= MAX_CHANNELS:
        from nar.ops.max_triplet_message import triton

        return triton.max_triplet_message(*given)
    # What holds no i moves out of the maximum.
    ij, ik, jk = torch.chunk(affine(edge, weight), 3, dim=-1)
    return max_plus(first[:, :, None] + ij, ik) + (second[:, :, None] + third[:, None] + jk)
