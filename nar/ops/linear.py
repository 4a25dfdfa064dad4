"""The linear layer with dm-haiku's initialisation, and features of which it need not have more than a few channels."""
# Axes: W width of features, K channels.

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from nar.ops.affine import affine

PLAIN_TENSORS = (nn.Parameter, Tensor)
Features = TypeVar("Features", Tensor, "Channels", "Rectified")


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
        if self in input.made:
            return input.made[self]
        before = input.before(self)
        return affine(input.joined, before.joined, before.bias)

    def bias_or_zeros(self) -> Tensor:
        """b, [out_features]."""
        return self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias

    def parts(self, input: Tensor | Channels) -> Parts:
        """The same sum before it is computed, for what can do with less than all of it."""
        if isinstance(input, Tensor):
            return Parts(input, self.weight, self.bias_or_zeros())
        before = input.before(self)
        match input.others:
            case ():
                return Parts(input.data, before.joined, before.bias)
            case (Rectified() as states,):
                return Parts(input.data, before.weights[0], before.bias, states, before.weights[1])
        return Parts(input.joined, before.joined, before.bias)


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
        if parameter is not None and type(parameter) not in PLAIN_TENSORS:
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


class Parts(NamedTuple):
    """``y = x weightᵀ + bias + states states_weightᵀ``.

    Attributes:
        x: [..., K].
        weight: [out_features, K].
        bias: [out_features].
        states: [..., W], or None.
        states_weight: [out_features, W], or None.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor
    states: Rectified | None = None
    states_weight: Tensor | None = None


class Before(NamedTuple):
    """A linear layer, or several one above the other, as one on channels and what stands beside their features.

    Attributes:
        weights: [out_features, K], and [out_features, W'] each.
        joined: These side by side.
        bias: [out_features].
    """

    weights: tuple[Tensor, ...]
    joined: Tensor
    bias: Tensor


class Map:
    """An affine map from K channels to features: ``x ↦ weight x + bias``.

    It keeps what layers that follow are before it, so a model makes it anew in each forward pass.

    Args:
        weight: [W, K].
        bias: [W].
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight = weight
        self.bias = bias
        self._extended: dict[tuple[nn.Linear, ...], Map] = {}
        self.before: dict[tuple[nn.Linear, ...], Before] = {}

    def extended(self, linears: Sequence[nn.Linear]) -> Map:
        """This map plus linear layers on further channels."""
        key = tuple(linears)
        if key not in self._extended:
            weight = torch.cat([self.weight, *(linear.weight for linear in linears)], dim=1)
            # Gradients of a stack would be views of one memory, where clipping in place would act on each of them.
            biases = (linear.bias for linear in linears if linear.bias is not None)
            self._extended[key] = Map(weight, sum(biases, self.bias))
        return self._extended[key]


@dataclass(frozen=True)
class Rectified:
    """``ReLU(data weightᵀ + bias)``: features that are made where they are used.

    Attributes:
        data: [..., F].
        weight: [W, F].
        bias: [W].
    """

    data: Tensor
    weight: Tensor
    bias: Tensor

    def __getitem__(self, graphs: slice | Tensor) -> Rectified:
        """Those of some graphs."""
        return replace(self, data=self.data[graphs])


@dataclass(frozen=True)
class Channels:
    """Features that are linear in a few channels, and others that stand beside them as they are.

    A linear layer on them needs the channels alone, so features of W entries per edge are never made. A processor of
    yours that has other use for features calls :func:`as_tensor`.

    Attributes:
        data: [..., K].
        map: From the channels to the features.
        others: [..., W'] each.
        made: What some layers make of these features, if that is computed already.
    """

    data: Tensor
    map: Map
    others: tuple[Tensor | Rectified, ...] = ()
    made: Mapping[nn.Linear, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, features: Tensor) -> Channels:
        """Features [..., W] as W channels."""
        width = features.shape[-1]
        return cls(features, Map(torch.eye(width).to(features), features.new_zeros(width)))

    @property
    def shape(self) -> torch.Size:
        """That of the features as one tensor, [..., W + W' + ...]."""
        return torch.Size([*self.data.shape[:-1], len(self.map.weight) + sum(map(_width, self.others))])

    @cached_property
    def joined(self) -> Tensor:
        """The channels and the others side by side."""
        return torch.cat([self.data, *map(as_tensor, self.others)], dim=-1) if self.others else self.data

    def extended(self, data: Sequence[Tensor], linears: Sequence[nn.Linear]) -> Channels:
        """These plus the results of linear layers on further channels."""
        if not data:
            return self
        return Channels(torch.cat([self.data, *data], dim=-1), self.map.extended(linears), self.others)

    def before(self, *linears: nn.Linear) -> Before:
        """What layers one above the other are as one on the channels; computed once for every map."""
        if linears not in self.map.before:
            widths = [len(self.map.weight), *map(_width, self.others)]
            rows: list[Tensor] = [linear.weight for linear in linears]
            weight, *others = torch.split(torch.cat(rows), widths, dim=1)
            weights = (weight @ self.map.weight, *others)
            biases: list[Tensor] = [
                weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias for linear in linears
            ]
            bias = torch.cat(biases) + weight @ self.map.bias
            self.map.before[linears] = Before(weights, torch.cat(weights, dim=1), bias)
        return self.map.before[linears]

    def __getitem__(self, graphs: slice | Tensor) -> Channels:
        """Those of some graphs."""
        return Channels(self.data[graphs], self.map, tuple(part[graphs] for part in self.others))


def beside(features: Tensor | Channels, *others: Tensor | Rectified) -> Tensor | Channels:
    """Features of all side by side, [..., W + W' + ...]."""
    if isinstance(features, Tensor):
        return torch.cat([features, *map(as_tensor, others)], dim=-1)
    return Channels(features.data, features.map, (*features.others, *others))


def ahead(features: Tensor | Channels, linears: Sequence[nn.Linear]) -> Tensor | Channels:
    """The same features; of :class:`Channels`, what the layers will make of them is computed in one product."""
    if isinstance(features, Tensor):
        return features
    before = features.before(*linears)
    made = affine(features.joined, before.joined, before.bias)
    parts = torch.split(made, [linear.out_features for linear in linears], dim=-1)
    return replace(features, made=dict(zip(linears, parts, strict=True)))


def as_tensor(features: Tensor | Channels | Rectified) -> Tensor:
    """Features as one tensor, [..., W + W' + ...]."""
    if isinstance(features, Tensor):
        return features
    if isinstance(features, Rectified):
        return affine(features.data, features.weight, features.bias).relu()
    made = affine(features.data, features.map.weight, features.map.bias)
    return torch.cat([made, *map(as_tensor, features.others)], dim=-1) if features.others else made


def concatenated(parts: Sequence[Features]) -> Features:
    """Features of different graphs as those of one batch; their maps and weights are one and the same."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    data = torch.cat([part.data for part in parts])
    if isinstance(first, Rectified):
        return replace(first, data=data)
    others = zip(*(part.others for part in parts), strict=True)
    return replace(first, data=data, others=tuple(map(concatenated, others)))


def _width(features: Tensor | Rectified) -> int:
    return features.shape[-1] if isinstance(features, Tensor) else len(features.bias)
