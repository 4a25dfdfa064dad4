"""The sum of some tensors as it is written."""

from torch import Tensor


def plain_total(first: Tensor, *others: Tensor) -> Tensor:
    """The sum of one tensor after the other, in the type of the first."""
    made = first
    for other in others:
        made = made + other
    return made.to(first.dtype)
