"""The sum of some tensors of one shape.

A GPU computes it by :mod:`nar.ops.total.triton`, eight of them in one kernel, where torch would launch one for every
two.
"""
# Axes: B graphs, N nodes, H hidden.

from torch import Tensor

from nar.ops.border import check_shapes, is_watched
from nar.ops.device import is_for_triton
from nar.ops.total.reference import plain_total


def total(*tensors: Tensor) -> Tensor:
    """The sum of one or more tensors [B, N, H], in the type of the first."""
    check_shapes("total", **{f"tensor_{number}": (x, "B N H") for number, x in enumerate(tensors)})
    if is_for_triton(tensors[0]) and not is_watched(*tensors) and tensors[0].numel():
        from nar.ops.total import triton

        return triton.total(*tensors)
    return plain_total(*tensors)
