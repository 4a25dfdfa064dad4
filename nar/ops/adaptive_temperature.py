"""A softmax that stays sharp when there is more to choose from.

Source: Veličković et al., "softmax is not enough (for sharp out-of-distribution)", 2024 (arXiv 2410.01104).
"""

import torch
from torch import Tensor

from nar.ops.precision import at_least_float32

_COEFFICIENTS = (-0.037, 0.481, -2.3, 4.917, -1.791)  # of H⁴, H³, H², H and 1
_LEAST_ENTROPY = 0.5  # nats; a softmax of no more than this is sharp enough
_EPSILON = 1e-9


def adaptive_temperature(logits: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    """The factor β, at least 1, for ``softmax(β · logits)``: the larger, the more the softmax was spread out.

    Args:
        logits: [..., D, ...].
        mask: True at what there is to choose from, broadcast to the logits; None for everything.
        dim: The axis of the D choices.

    Returns:
        [..., 1, ...]; 1 where there is no choice.
    """
    weights = masked_softmax(at_least_float32(logits), mask, dim)
    entropy = -(weights * (weights + _EPSILON).log()).sum(dim=dim, keepdim=True)
    return inverse_temperature(entropy).to(logits.dtype)


def inverse_temperature(entropy: Tensor) -> Tensor:
    """β, at least 1, of the entropy H of a softmax in nats.

    It is ``-0.037 H⁴ + 0.481 H³ - 2.3 H² + 4.917 H - 1.791``, or 1 where that is less or H is at most 0.5. The
    polynomial was fitted by the authors; it is above 1 from H = 0.85 to 5.94 alone, which is that of 381 equal logits.
    """
    beta = torch.zeros_like(entropy)
    for coefficient in _COEFFICIENTS:
        beta = beta * entropy + coefficient
    return torch.where(entropy > _LEAST_ENTROPY, beta.clamp(min=1), 1)


def masked_softmax(logits: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """The softmax of what `mask` is True at, and 0 elsewhere; where it is True at nothing, all are 0."""
    if mask is None:
        return logits.softmax(dim=dim)
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(~mask, lowest).softmax(dim=dim).masked_fill(~mask, 0)
