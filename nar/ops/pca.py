"""Principal components of points."""
# Axes: P points, D dimensions, K components.

from typing import NamedTuple

import torch
from torch import Tensor


class PCA(NamedTuple):
    """Principal components, in float64.

    Attributes:
        mean: Of the points, [D].
        components: Orthonormal rows, the one of most variance first; the entry of each that is farthest from 0 is
            positive, [K, D].
        variances: Of the points along each component, [K].
    """

    mean: Tensor
    components: Tensor
    variances: Tensor

    @property
    def shares(self) -> Tensor:
        """The share of the whole variance along each component, [K]; 0 if there is none."""
        return self.variances / self.variances.sum().clamp(min=torch.finfo(self.variances.dtype).tiny)

    def coordinates(self, points: Tensor) -> Tensor:
        """The coordinates of points [..., D] along the components, [..., K]."""
        return (points.double() - self.mean) @ self.components.mT


def pca(points: Tensor) -> PCA:
    """All principal components of points [P, D], of which there are K = min(P, D).

    Raises:
        ValueError: If there are fewer than two points or dimensions, which make no plane, or one is not finite.
    """
    if min(points.shape) < 2:
        raise ValueError(f"expected at least 2 points in 2 dimensions, given {points.shape[0]} in {points.shape[1]}")
    if not points.isfinite().all():
        raise ValueError("expected states that are finite, given some that are not")
    points = points.double()
    mean = points.mean(dim=0)
    _, lengths, components = torch.linalg.svd(points - mean, full_matrices=False)
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    return PCA(mean, components * largest.sign(), lengths.square() / (len(points) - 1))
