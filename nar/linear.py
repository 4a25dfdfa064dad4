"""The linear layer with dm-haiku's initialisation, which every weight of the reference starts from."""

import math

import torch
from torch import nn


class Linear(nn.Linear):
    """``y = x Wᵀ + b`` with ``W ~ N(0, std²)`` cut off at two ``std`` and ``b`` constant.

    Args:
        in_features: Width of x.
        out_features: Width of y.
        bias: Starting value of every entry of b, or None for no b.
        std: Of the normal before it is cut off; ``1 / sqrt(in_features)`` (LeCun) if None.

    Source:
        ``hk.Linear`` and ``hk.initializers.TruncatedNormal`` of dm-haiku 0.0.17, which does not rescale the cut-off
        normal to the variance of the full one.
    """

    def __init__(
        self, in_features: int, out_features: int, *, bias: float | None = 0.0, std: float | None = None
    ) -> None:
        self.initial_bias = bias
        self.std = 1 / math.sqrt(in_features) if std is None else std
        super().__init__(in_features, out_features, bias=bias is not None)

    def reset_parameters(self) -> None:
        """Draw W and set b anew."""
        with torch.no_grad():
            nn.init.trunc_normal_(self.weight, std=self.std, a=-2 * self.std, b=2 * self.std)
            if self.initial_bias is not None:
                self.bias.fill_(self.initial_bias)
