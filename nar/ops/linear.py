"""The linear layer with dm-haiku's initialisation, and when a layer's weights may be used in place of a call of it."""
# Axes: K channels, F features of states, W width of states.

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from nar.ops.affine import affine, shared
from nar.ops.channels import Channels, Rectified

_PLAIN_TENSORS = (nn.Parameter, Tensor)


class Linear(nn.Linear):
    """``y = x Wᵀ + b`` with ``W ~ N(0, std²)`` cut off at two ``std`` and ``b`` constant; x may be :class:`Channels`.

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

    def forward(self, input: Tensor | Channels) -> Tensor:
        """y, [..., out_features], from x, [..., in_features]."""
        if isinstance(input, Tensor):
            return affine(input, self.weight, self.bias)
        if self in input.results:
            return input.results[self]
        folded = input.fold(self)
        return affine(input.joined, folded.joined, folded.bias)

    def bias_or_zeros(self) -> Tensor:
        """b, [out_features]."""
        return self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias

    def operands(self, input: Tensor | Channels) -> tuple[Tensor, ...]:
        """What y is the sum of, before it is computed, for what needs less than all of y.

        Returns:
            x [..., K], weight [out_features, K] and bias [out_features] of ``y = x weightᵀ + bias``. If
            :class:`Rectified` states stand beside channels, also their data [..., F], first weight [W, F] and first
            bias [W], and a second weight [out_features, W]; ``ReLU(data firstᵀ + bias) secondᵀ`` is then added.
        """
        return (input, self.weight, self.bias_or_zeros()) if isinstance(input, Tensor) else operands(input, (self,))


def operands(input: Channels, linears: Sequence[Linear]) -> tuple[Tensor, ...]:
    """What the results of layers, side by side, are the sum of: :meth:`Linear.operands` of one layer."""
    folded = input.fold(*linears)
    match input.others:
        case (Rectified(data=data, weight=weight, bias=bias),):
            own = shared(input.data), folded.weight, folded.bias
            return *own, shared(data), weight, bias, *folded.others
    return input.joined, folded.joined, folded.bias


def matrix_of(layer: nn.Module, in_features: int, like: Tensor) -> Tensor:
    """The matrix [out_features, in_features] that a linear layer without a bias applies, as a call of it shows.

    Unlike the layer's weight it is what hooks, pruning and norms of weights have made of that.

    Args:
        layer: A :class:`Linear`, or what was put in its place.
        in_features: Width of what it is applied to.
        like: Has the type and the device of that.
    """
    made: Tensor = layer(torch.eye(in_features, dtype=like.dtype, device=like.device))
    return made.mT


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of a module does what its class says and no more, so that its weights may be used in its place.

    It does not if hooks look on (which is how PyTorch prunes and normalises weights), if it is parametrized, if its
    weights are other than tensors, or if another module took its place.

    Args:
        module: The module.
        kind: The class that it has to be of, and not a subclass.
    """
    return type(module) is kind and _is_as_defined(module) and not _has_any_global_hook()  # type: ignore[no-untyped-call]


def _is_as_defined(module: nn.Module) -> bool:
    """Whether nothing was hung on a module or put in the place of its `forward` or of its weights."""
    if module._forward_pre_hooks or module._forward_hooks or module._backward_pre_hooks or module._backward_hooks:
        return False
    for parameter in module._parameters.values():
        if parameter is not None and type(parameter) not in _PLAIN_TENSORS:
            return False
    return "forward" not in module.__dict__


def two_layers(module: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """The weights and biases of what is no more than ``Sequential(ReLU, Linear, ReLU, Linear)``, all of one width.

    None of anything else, which is to be called.
    """
    kinds = (nn.ReLU, Linear, nn.ReLU, Linear)
    layers: list[Any] = list(module._modules.values())
    if len(layers) != len(kinds) or not is_plain(module, nn.Sequential) or not all(map(is_plain, layers, kinds)):
        return None
    _, first, _, second = layers
    weight_1, weight_2 = first.weight, second.weight
    if not weight_1.shape == weight_2.shape == weight_1.shape[::-1]:
        return None
    return weight_1, first.bias_or_zeros(), weight_2, second.bias_or_zeros()


def may_be_given_channels(module: nn.Module) -> bool:
    """Whether features may go through a module's layers as :class:`Channels`, which others would not understand.

    Every module in it has to be plain and of a class of torch's, of the library's or of the package that the module is
    from; see :func:`is_plain`.
    """
    package = type(module).__module__.partition(".")[0]
    return _are_known(module, package) and not _has_any_global_hook()  # type: ignore[no-untyped-call]


def _are_known(module: nn.Module, package: str) -> bool:
    """Whether a module and all within it are as they were defined, and of classes that :func:`_is_known`."""
    if not _is_as_defined(module) or not _is_known(type(module), package):
        return False
    return all(part is None or _are_known(part, package) for part in module._modules.values())


def _is_known(kind: type[nn.Module], package: str) -> bool:
    """Whether a class is one of torch's, of the library's or of a package, and no other linear layer than ours."""
    if issubclass(kind, nn.Linear):
        return kind is Linear
    return kind.__module__.startswith(("nar.", "torch.nn.modules.", f"{package}.")) or kind.__module__ == package
