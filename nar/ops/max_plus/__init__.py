"""The product of matrices in the (max, +) semiring.

It is the maximum over triplets of Triplet-GMPNN, where N³ sums are taken and N² kept. On a CPU it is computed by
:mod:`nar.ops.max_plus.cpu`, on a GPU by :mod:`nar.ops.max_plus.triton`, elsewhere and for compilers and transforms by
:mod:`nar.ops.max_plus.reference`.
"""
# Axes: B graphs, N nodes, F features.

from torch import Tensor

from nar.ops.border import check_shapes, is_watched
from nar.ops.device import is_for_triton
from nar.ops.max_plus import cpu
from nar.ops.max_plus.reference import plain_max_plus


def max_plus(a: Tensor, b: Tensor) -> Tensor:
    """``max_i a_ij + b_ik`` for every j and k, [B, N, N, F], without holding the N³ sums on a CPU or by Triton.

    Args:
        a: [B, N, N, F].
        b: [B, N, N, F].
    """
    check_shapes("max_plus", a=(a, "B N N F"), b=(b, "B N N F"))
    is_plain = is_watched(a, b) or a.numel() == 0
    if is_for_triton(a) and not is_plain:
        from nar.ops.max_plus import triton

        return triton.max_plus(a, b)
    if is_plain or not a.is_cpu:
        return plain_max_plus(a, b)
    return cpu.max_plus(a, b)
