"""The softmax-weighted mean of the sums that a (max, +) product takes the maximum of."""
# Axes: B graphs, N nodes, F features, M entries of a product.

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nar.ops.border import check_shapes, is_watched
from nar.ops.precision import alike

SUMS = 2**22  # that are held at a time, of those that are computed one by one


def softmax_plus(a: Tensor, b: Tensor) -> Tensor:
    """``Σ_i p_ijk (a_ij + b_ik)``, ``p_ijk = softmax_i(a_ij + b_ik)``, for every j and k, [B, N, N, F].

    The N³ sums are not held. As ``exp(a_ij + b_ik)`` is a product, three products of matrices are enough::

        ((a eᵃ)ᵀ eᵇ + (eᵃ)ᵀ (b eᵇ)) / (eᵃ)ᵀ eᵇ

    The maximum of each column is taken off a and b first, so nothing overflows. What is left of the denominator is so
    small that it has lost digits only where a is far below its maximum wherever b is near its own; there the softmax is
    computed as it is written.

    Args:
        a: [B, N, N, F].
        b: [B, N, N, F].
    """
    check_shapes("softmax_plus", a=(a, "B N N F"), b=(b, "B N N F"))
    if is_watched(a, b) or a.numel() == 0:
        return plain_softmax_plus(a, b)
    dtype = a.dtype
    with torch.autocast(a.device.type, enabled=False):
        a, b = (x.permute(0, 3, 1, 2).contiguous() for x in alike(a, b))
        top_a, top_b = (x.detach().amax(dim=2, keepdim=True) for x in (a, b))
        low_a, low_b = a - top_a, b - top_b
        exp_a, exp_b = low_a.exp(), low_b.exp()
        total = exp_a.mT @ exp_b
        weighted = (low_a * exp_a).mT @ exp_b + exp_a.mT @ (low_b * exp_b)
        # What underflows is less than `tiny`, so no more than eps² of a larger total than this is lost.
        finfo = torch.finfo(total.dtype)
        has_digits = total >= finfo.tiny / finfo.eps**2
        product = weighted / total.where(has_digits, 1) + top_a.mT + top_b
        others = (~has_digits).nonzero()
        if len(others):
            parts = torch.split(others, max(1, SUMS // a.shape[2]))
            made = [checkpoint(_one_by_one, a, b, part, use_reentrant=False) for part in parts]
            product = product.index_put(others.unbind(dim=1), torch.cat(made))
    return product.permute(0, 2, 3, 1).to(dtype)


def plain_softmax_plus(a: Tensor, b: Tensor) -> Tensor:
    """The formula of :func:`softmax_plus` as it is written, which holds the N³ sums."""
    sums = a[..., None, :] + b[:, :, None]
    return (sums.softmax(dim=1) * sums).sum(dim=1)


def _one_by_one(a: Tensor, b: Tensor, entries: Tensor) -> Tensor:
    """Entries [M] of the product, by their graph, feature, j and k, [M, 4]."""
    graph, feature, j, k = entries.unbind(dim=1)
    sums = a[graph, feature, :, j] + b[graph, feature, :, k]
    return (sums.softmax(dim=1) * sums).sum(dim=1)
