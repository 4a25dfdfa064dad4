"""Features that are linear in a few channels, on which linear layers need not have the features themselves.

A model's features of edges, [B, N, N, H], are sums of linear encoders of a few probes, so they are an affine map of K
channels, one for each number that the probes hold. A linear layer on them is again an affine map of these channels::

    W (M x + c) + b  =  (W M) x + (W c + b)

The right side folds the layer into the map: it costs K products an entry in place of H, and the H numbers of an edge
are never written. ``W M`` is the same at all steps of a trajectory, so it is computed once in a forward pass and kept
with the map, which those features share that differ in their channels alone.
"""
# Axes: W width of features, K channels.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nar.ops.affine import affine, plus, rectified, shared

Features = TypeVar("Features", Tensor, "Channels", "Rectified")


class Folded:
    """An affine map of channels, ``x ↦ weight x + bias``, or of these and of features that stand beside them.

    A model makes its maps anew in each forward pass: what is kept here was computed with that pass's weights.

    Args:
        weight: [W, K].
        bias: [W].
        others: What the features beside the channels are multiplied with, [W, W'] each.
    """

    def __init__(self, weight: Tensor, bias: Tensor, others: tuple[Tensor, ...] = ()) -> None:
        self.weight = weight
        self.bias = bias
        self.others = others
        self._extended: dict[tuple[nn.Linear, ...], Folded] = {}
        self._followed: dict[tuple[nn.Linear, ...], Folded] = {}
        self._summed: dict[Any, Folded] = {}
        self._plus: dict[Folded, Folded] = {}
        self._stacked: dict[tuple[nn.Linear, ...], Tensor] = {}
        self._biases: dict[tuple[int, ...], tuple[Tensor, ...]] = {}
        self._rows: dict[tuple[nn.Linear, ...], tuple[Tensor, Tensor]] = {}

    @cached_property
    def joined(self) -> Tensor:
        """The weights of the channels and of all that stands beside them, side by side, [W, K + W' + ...]."""
        return torch.cat([self.weight, *self.others], dim=1) if self.others else self.weight

    @cached_property
    def identity(self) -> Folded:
        """The map of W features to themselves."""
        width = len(self.weight)
        return Folded(torch.eye(width).to(self.weight), self.weight.new_zeros(width))

    def plus(self, other: Folded) -> Folded:
        """This map plus another on further channels, of which the last is what its bias is multiplied with."""
        if other not in self._plus:
            self._plus[other] = Folded(torch.cat([self.weight, other.weight, other.bias[:, None]], dim=1), self.bias)
        return self._plus[other]

    def extended(self, linears: Sequence[nn.Linear]) -> Folded:
        """This map plus linear layers on further channels."""
        key = tuple(linears)
        if key not in self._extended:
            weight = torch.cat([self.weight, *(linear.weight for linear in linears)], dim=1)
            # Gradients of a stack would be views of one memory, where clipping in place would act on each of them.
            biases = (linear.bias for linear in linears if linear.bias is not None)
            self._extended[key] = Folded(weight, sum(biases, self.bias))
        return self._extended[key]

    def followed_by(self, linears: tuple[nn.Linear, ...], widths: Sequence[int]) -> Folded:
        """Layers on the mapped features and on others beside them, as one map of channels and others.

        Args:
            linears: Their results are put side by side.
            widths: Of the others.
        """
        if linears not in self._followed:
            rows = _concatenated([linear.weight for linear in linears])
            weight, *others = torch.split(rows, [len(self.weight), *widths], dim=1) if widths else (rows,)
            biases: list[Tensor] = [
                weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias for linear in linears
            ]
            bias = _concatenated(biases) + weight @ self.bias
            self._followed[linears] = Folded(weight @ self.weight, bias, tuple(others))
        return self._followed[linears]

    def summed(self, sums: tuple[NodeSum, ...], widths: Sequence[int], of_graph: Folded) -> Folded:
        """The sums, as one map of channels, of others beside them and, as the last of these, of a graph's channels.

        Args:
            sums: Their results are put side by side.
            widths: Of the others.
            of_graph: From a graph's channels to its features.
        """
        key = sums, of_graph
        if key not in self._summed:
            nodes = self.followed_by(tuple(x.nodes for x in sums), widths)
            columns, biases = [], []
            for each, bias in zip(sums, torch.split(nodes.bias, [x.nodes.out_features for x in sums]), strict=True):
                weight, parts = nodes.weight.new_zeros(each.nodes.out_features, of_graph.weight.shape[1]), each.biases
                if each.graph is not None:
                    folded = of_graph.followed_by((each.graph,), ())
                    weight, parts = folded.weight, (folded.bias, *parts)
                columns.append(weight)
                biases.append(sum(parts, bias))
            others = (*nodes.others, torch.cat(columns)) if columns[0].shape[1] else nodes.others
            # Parts are added before they are side by side: gradients of two sums of all parts would share their memory.
            self._summed[key] = Folded(nodes.weight, torch.cat(biases), others)
        return self._summed[key]

    def biases(self, *widths: int) -> tuple[Tensor, ...]:
        """The bias in parts of these widths, each one tensor in all of a forward pass."""
        if widths not in self._biases:
            self._biases[widths] = torch.split(self.bias, list(widths))
        return self._biases[widths]

    def stacked(self, *linears: nn.Linear) -> Tensor:
        """The weights of layers one below the other, [W1 + W2 + ..., in]: one tensor in all of a forward pass."""
        if linears not in self._stacked:
            self._stacked[linears] = torch.cat([linear.weight for linear in linears])
        return self._stacked[linears]

    def rows_of(self, linears: tuple[nn.Linear, ...]) -> tuple[Tensor, Tensor]:
        """The weights of layers with a single result, one after the other, [in + in + ...], and their biases.

        They have no part in the map, which only keeps them: a forward pass has the same two tensors in all its steps.
        """
        if linears not in self._rows:
            biases = (linear.weight.new_zeros(1) if linear.bias is None else linear.bias for linear in linears)
            self._rows[linears] = (
                torch.cat([self.bias[:0], *(linear.weight.flatten() for linear in linears)]),
                torch.cat([self.bias[:0], *biases]),
            )
        return self._rows[linears]


@dataclass(frozen=True)
class Rectified:
    """``ReLU(data weightᵀ + bias)``: features that are computed where they are used.

    Attributes:
        given: The data, [..., F], or a function that makes them where they are first used: perhaps nowhere.
        weight: [W, F].
        bias: [W].
    """

    given: Tensor | Callable[[], Tensor]
    weight: Tensor
    bias: Tensor

    @cached_property
    def data(self) -> Tensor:
        """The data, [..., F]."""
        return self.given if isinstance(self.given, Tensor) else self.given()

    def __getitem__(self, graphs: slice | Tensor) -> Rectified:
        """The features of some graphs."""
        return replace(self, given=lambda: take(self.data, graphs))


@dataclass(frozen=True)
class Channels:
    """Features that are an affine map of a few channels, and others that stand beside them as they are.

    :class:`nar.ops.linear.Linear` needs the channels alone. A processor of yours that has other use for features calls
    :func:`as_tensor`.

    Attributes:
        data: The channels, [..., K].
        map: From the channels to W features.
        others: [..., W'] each.
        results: What has been computed of these features by now, by the module or the sum that would compute it.
    """

    data: Tensor
    map: Folded
    others: tuple[Tensor | Rectified, ...] = ()
    results: Mapping[nn.Module | NodeSum, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, features: Tensor) -> Channels:
        """Features [..., W] as W channels."""
        width = features.shape[-1]
        return cls(features, Folded(torch.eye(width).to(features), features.new_zeros(width)))

    @property
    def shape(self) -> torch.Size:
        """The shape of the features as one tensor, [..., W + W' + ...]."""
        return torch.Size([*self.data.shape[:-1], len(self.map.weight) + sum(map(_width, self.others))])

    @property
    def joined(self) -> Tensor:
        """The channels and the features beside them as one tensor, [..., K + W' + ...]."""
        return self._side_by_side if self.others else shared(self.data)

    @cached_property
    def _side_by_side(self) -> Tensor:
        return torch.cat([shared(self.data), *(shared(as_tensor(other)) for other in self.others)], dim=-1)

    def extended(self, data: Sequence[Tensor], linears: Sequence[nn.Linear]) -> Channels:
        """These features plus the results of linear layers on further channels."""
        if not data:
            return self
        some = [x for x in (self.data, *data) if x.shape[-1]]  # of one alone a copy would be for nothing
        return Channels(_concatenated(some or [self.data], dim=-1), self.map.extended(linears), self.others)

    def plus(self, other: Channels, scale: Tensor) -> Channels:
        """These features plus `scale`, [..., 1], times others of the same width that have nothing beside them."""
        data = torch.cat([self.data, scale * other.data, scale], dim=-1)
        return Channels(data, self.map.plus(other.map), self.others)

    def fold(self, *linears: nn.Linear) -> Folded:
        """The map from what :attr:`joined` holds to the results of layers, side by side."""
        return self.map.followed_by(linears, [_width(other) for other in self.others])

    def __getitem__(self, graphs: slice | Tensor) -> Channels:
        """The features of some graphs."""
        others = (take(part, graphs) if isinstance(part, Tensor) else part[graphs] for part in self.others)
        return Channels(take(self.data, graphs), self.map, tuple(others))


@dataclass(frozen=True)
class NodeSum:
    """``W z_i + b + Wg g + bg + biases``: layers on nodes and on their graph, and biases of what is added to it later.

    A bias that is part of this sum costs nothing, as all sums are made by one product; by itself it is an addition.

    Attributes:
        nodes: The layer on z.
        graph: The layer on g, if there is one.
        biases: Each of the width of the sum.
    """

    nodes: nn.Linear
    graph: nn.Linear | None = None
    biases: tuple[Tensor, ...] = ()

    def of(self, z: Tensor | Channels, graph_fts: Tensor | Channels) -> Tensor:
        """The sum for every node, [B, N, out], perhaps as :func:`with_sums` has made it.

        Args:
            z: [B, N, W].
            graph_fts: g, [B, H].
        """
        if isinstance(z, Channels) and self in z.results:
            return z.results[self]
        made: Tensor = self.nodes(z)
        if self.graph is not None:
            made = made + self.graph(graph_fts)[:, None]
        for bias in self.biases:
            made = plus(made, bias)
        return made

    @property
    def key(self) -> nn.Linear | NodeSum:
        """What its result is kept by: the layer itself, if nothing is added to that."""
        return self if self.graph is not None or self.biases else self.nodes


@dataclass(frozen=True)
class TripletChannels:
    """Features of every three nodes, ``weight data_ijk``, which would be N³ times F numbers: they are never made.

    Attributes:
        data: [B, N, N, N, K].
        weight: [F, K].
    """

    data: Tensor
    weight: Tensor

    def __getitem__(self, graphs: slice | Tensor) -> TripletChannels:
        """The features of some graphs."""
        return replace(self, data=self.data[graphs])

    @staticmethod
    def summed(parts: Sequence[TripletChannels]) -> TripletChannels | None:
        """The sum of several features; None of none."""
        if not parts:
            return None
        data, weight = (
            torch.cat(tensors, dim=-1) for tensors in zip(*((x.data, x.weight) for x in parts), strict=True)
        )
        return TripletChannels(data, weight)


def concat(features: Tensor | Channels, *others: Tensor | Rectified) -> Tensor | Channels:
    """Features of the same nodes or edges side by side, [..., W + W' + ...]."""
    if isinstance(features, Tensor):
        return torch.cat([features, *map(as_tensor, others)], dim=-1)
    return Channels(features.data, features.map, (*features.others, *others))


def take(features: Tensor, graphs: slice | Tensor) -> Tensor:
    """The features of some graphs, a slice of them or their places; or of what a mask of the first axes says."""
    if isinstance(graphs, Tensor) and graphs.dtype is not torch.bool:
        return features.index_select(0, graphs)  # the gradient of `features[graphs]` sorts: places might be named twice
    return features[graphs]


def concat_graphs(parts: Sequence[Features]) -> Features:
    """Features of different graphs as those of one batch; their maps and weights are one and the same.

    They are tensors if some are.
    """
    if any(type(part) is not type(parts[0]) for part in parts):
        mixed: Any = torch.cat([as_tensor(part) for part in parts])
        return mixed  # type: ignore[no-any-return]
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([shared(part) for part in parts])

    def data() -> Tensor:
        return torch.cat([shared(part.data) for part in parts])

    if isinstance(first, Rectified):
        return replace(first, given=data)
    others = zip(*(part.others for part in parts), strict=True)
    return replace(first, data=data(), others=tuple(map(concat_graphs, others)))


def products(features: Tensor | Channels, groups: Sequence[Sequence[nn.Linear]]) -> list[Tensor]:
    """The results of groups of layers, each group's side by side: of channels they are parts of one product."""
    if isinstance(features, Tensor):
        return [torch.cat([linear(features) for linear in group], dim=-1) for group in groups]
    folded = features.fold(*chain.from_iterable(groups))
    made = affine(features.joined, folded.joined, folded.bias)
    return list(torch.split(made, [sum(linear.out_features for linear in group) for group in groups], dim=-1))


def precompute(features: Tensor | Channels, linears: Sequence[nn.Linear]) -> Tensor | Channels:
    """The features, with the results of layers on them if they are channels: all of these take one product."""
    if isinstance(features, Tensor):
        return features
    results = products(features, [[linear] for linear in linears])
    return replace(features, results=dict(zip(linears, results, strict=True)))


def with_sums(features: Tensor | Channels, graph_fts: Tensor | Channels, sums: Sequence[NodeSum]) -> Tensor | Channels:
    """The features, with some sums if they are channels: all of these take one product.

    A graph's channels are further columns of that product, the same for all of its nodes.

    Args:
        features: Of nodes, [B, N, W].
        graph_fts: [B, H].
        sums: Of the features and of those of their graphs.
    """
    if isinstance(features, Tensor):
        return features
    widths = [_width(other) for other in features.others]
    if not isinstance(graph_fts, Channels) or graph_fts.others:
        plain = precompute(features, [x.nodes for x in sums])
        return replace(features, results={x.key: x.of(plain, graph_fts) for x in sums})
    folded, joined = features.map.summed(tuple(sums), widths, graph_fts.map), features
    if graph_fts.data.shape[-1]:
        of_graph = graph_fts.data[:, None].expand(-1, features.data.shape[1], -1)
        joined = replace(features, others=(*features.others, of_graph))
    made = affine(joined.joined, folded.joined, folded.bias)
    results = torch.split(made, [x.nodes.out_features for x in sums], dim=-1)
    return replace(features, results=dict(zip((x.key for x in sums), results, strict=True)))


def as_tensor(features: Tensor | Channels | Rectified) -> Tensor:
    """Features as one tensor, [..., W + W' + ...]."""
    if isinstance(features, Tensor):
        return features
    if isinstance(features, Rectified):
        return rectified(shared(features.data), features.weight, features.bias)
    mapped = affine(shared(features.data), features.map.weight, features.map.bias)
    others = (shared(as_tensor(other)) for other in features.others)
    return torch.cat([mapped, *others], dim=-1) if features.others else mapped


def _concatenated(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The parts one after the other; the only one as it is, which is a copy less each way."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def _width(features: Tensor | Rectified) -> int:
    """The number of features, W."""
    return features.shape[-1] if isinstance(features, Tensor) else len(features.bias)
