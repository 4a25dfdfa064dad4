"""Logits of pointers from rows of states to nodes, ``w · max(x, y)``, of which no maximum is kept.

They are those of pointers of edges; of nodes' pointers they are in :mod:`nar.ops.pair_logits`. On a CPU they are
computed by :mod:`nar.ops.pointer_logits.cpu`, on a GPU by :mod:`nar.ops.pointer_logits.triton`, elsewhere and for
compilers and transforms by :mod:`nar.ops.pointer_logits.reference`.
"""
# Axes: B graphs, N nodes, H hidden, M rows.

import torch
from torch import Tensor

from nar.ops.border import check_shapes, is_watched
from nar.ops.device import is_for_triton
from nar.ops.pointer_logits import cpu
from nar.ops.pointer_logits.reference import plain_product_logits


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
