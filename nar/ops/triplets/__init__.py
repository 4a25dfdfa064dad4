"""What is made of every three nodes i, j and k with features of their own, without keeping N³ times F numbers.

They are what edge pointers, of which there are N³, are read by and decoded from where a model looks at all three edges.
On a CPU they are computed by :mod:`nar.ops.triplets.cpu`. On a GPU, and elsewhere, :mod:`nar.ops.triplets.reference`
is given some rows at a time, again in the backward pass; compilers and transforms see it whole.
"""
# Axes: B graphs, N nodes, K channels, F features.

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nar.ops.border import check_shapes, is_watched
from nar.ops.triplets import cpu
from nar.ops.triplets.reference import plain_triplet_logits, plain_triplet_max

NUMBERS = 2**24
"""How many numbers the plain formulas may hold at a time, where they are given some rows at a time."""


def triplet_max(ij: Tensor, ik: Tensor, x: Tensor, x_weight: Tensor) -> Tensor:
    """``max_i ij_ij + ik_ik + Wx x_ijk`` for every j and k, [B, N, N, F]; equal sums share the gradient evenly.

    Args:
        ij: [B, N, N, F].
        ik: [B, N, N, F].
        x: [B, N, N, N, K].
        x_weight: Wx, [F, K].
    """
    check_shapes(
        "triplet_max",
        ij=(ij, "B N N F"),
        ik=(ik, "B N N F"),
        x=(x, "B N N N K"),
        x_weight=(x_weight, "F K"),
    )
    if is_watched(ij, ik, x, x_weight) or ij.numel() == 0:
        return plain_triplet_max(ij, ik, x, x_weight)
    if ij.is_cpu:
        return cpu.triplet_max(ij, ik, x, x_weight)
    rows = _rows_at_a_time(ij)
    parts = zip(*(torch.split(tensor, rows, dim=2) for tensor in (ij, x)), strict=True)
    return torch.cat([_made_again(plain_triplet_max, one, ik, other, x_weight) for one, other in parts], dim=1)


def triplet_logits(ij: Tensor, ik: Tensor, jk: Tensor, x: Tensor, x_weight: Tensor, weight: Tensor) -> Tensor:
    """``w · ReLU(ij_ij + ik_ik + jk_jk + Wx x_ijk)`` for every i, j and k, [B, N, N, N].

    Args:
        ij: [B, N, N, F].
        ik: [B, N, N, F].
        jk: [B, N, N, F].
        x: [B, N, N, N, K].
        x_weight: Wx, [F, K].
        weight: w, [F].
    """
    check_shapes(
        "triplet_logits",
        ij=(ij, "B N N F"),
        ik=(ik, "B N N F"),
        jk=(jk, "B N N F"),
        x=(x, "B N N N K"),
        x_weight=(x_weight, "F K"),
        weight=(weight, "F"),
    )
    if is_watched(ij, ik, jk, x, x_weight, weight) or ij.numel() == 0:
        return plain_triplet_logits(ij, ik, jk, x, x_weight, weight)
    if ij.is_cpu:
        return cpu.triplet_logits(ij, ik, jk, x, x_weight, weight)
    parts = zip(*(torch.split(tensor, _rows_at_a_time(ij), dim=1) for tensor in (ij, ik, x)), strict=True)
    made = [_made_again(plain_triplet_logits, one, two, jk, three, x_weight, weight) for one, two, three in parts]
    return torch.cat(made, dim=1)


def _rows_at_a_time(ij: Tensor) -> int:
    """How many rows, of N² times F numbers in each graph, are as many numbers as may be held at a time."""
    return max(1, NUMBERS // ij.numel())


def _made_again(formula: Callable[..., Tensor], *given: Tensor) -> Tensor:
    """What a formula makes of its arguments, of which it keeps nothing else for the backward pass."""
    made: Tensor = checkpoint(formula, *given, use_reentrant=False, preserve_rng_state=False)
    return made
