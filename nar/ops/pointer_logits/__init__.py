"""Logits of pointers, ``w · max(x, y)`` of two states, without keeping more than one of x, y and the maximum.

They are what pointers of nodes and of edges are decoded from. On a CPU they are computed by
:mod:`nar.ops.pointer_logits.cpu`, on a GPU by :mod:`nar.ops.pointer_logits.triton`, elsewhere and for compilers and
transforms by :mod:`nar.ops.pointer_logits.reference`.
"""
# Axes: B graphs, N nodes, S sender, R receiver, H hidden, M rows. What belongs to an edge is [B, S, R, ...].

import torch
from torch import Tensor

from nar.ops.border import check_shapes, is_watched
from nar.ops.device import is_for_triton
from nar.ops.pointer_logits import cpu
from nar.ops.pointer_logits.reference import plain_edge_logits, plain_product_logits


def edge_logits(
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
    """``w · max(source_j, target_i + We x_ij + Ws ReLU(Wf data_ij + bf))`` for every i and j, [B, S, R].

    Args:
        source: [B, R, H].
        target: [B, S, H].
        weight: w, [H].
        x: [B, S, R, K].
        x_weight: We, [H, K].
        data: [B, S, R, F]; None for no states, and so are the others.
        first_weight: Wf, [W, F].
        first_bias: bf, [W].
        states_weight: Ws, [H, W].
    """
    check_shapes(
        "edge_logits",
        source=(source, "B R H"),
        target=(target, "B S H"),
        weight=(weight, "H"),
        x=(x, "B S R K"),
        x_weight=(x_weight, "H K"),
        data=(data, "B S R F"),
        first_weight=(first_weight, "W F"),
        first_bias=(first_bias, "W"),
        states_weight=(states_weight, "H W"),
    )
    of_states = () if data is None else (data, first_weight, first_bias, states_weight)
    given = (source, target, weight, x, x_weight, *of_states)
    is_plain = is_watched(*given) or 0 in (y.numel() for y in (source, target, *of_states) if y is not None)
    if is_for_triton(source) and not is_plain:
        from nar.ops.pointer_logits import triton

        return triton.edge_logits(*given)
    if is_plain or not source.is_cpu:
        return plain_edge_logits(*given)
    return cpu.edge_logits(*given)


def product_logits(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """``w · max(source_m, target_k)`` for every m and k, [B, M, N].

    Args:
        source: [B, M, H].
        target: [B, N, H].
        weight: w, [H].
    """
    check_shapes("product_logits", source=(source, "B M H"), target=(target, "B N H"), weight=(weight, "H"))
    is_plain = is_watched(source, target, weight) or 0 in (source.numel(), target.numel())
    if is_for_triton(source) and not is_plain:
        from nar.ops.pointer_logits import triton

        return triton.product_logits(source, target, weight)
    if is_plain:
        return plain_product_logits(source, target, weight)
    if not source.is_cpu:  # one target at a time: without gradients no [B, M, N, H] is ever held
        parts = torch.split(target, 1, dim=1)
        return torch.cat([plain_product_logits(source, one, weight) for one in parts], dim=-1)
    return cpu.product_logits(source, target, weight)
