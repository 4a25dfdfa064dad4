"""From probes to the features that a processor receives.

Source: ``clrs/_src/encoders.py`` of dm-clrs 2.0.3. There every probe goes through a linear layer of its own and the
results are added; here the probes of nodes and of edges are put side by side as channels, and what follows is applied
to these.
"""
# Axes: B graphs, N nodes, H hidden, K channels. What belongs to an edge is [B, sender, receiver, ...].

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nar.ops.channels import Channels, Folded, TripletChannels, as_tensor
from nar.ops.linear import Linear, is_plain, matrix_of
from nar.ops.precision import at_least_float32
from nar.specs import MASKED, Location, Probe, Spec, Stage, Type

POINTERS = (Type.POINTER, Type.PERMUTATION_POINTER)


@dataclass(frozen=True)
class Encoding:
    """What a processor receives besides its own last states.

    Attributes:
        node_fts: [B, N, H], as channels.
        edge_fts: [B, N, N, H], as channels.
        graph_fts: [B, H], as channels.
        adj: True on the diagonal, on edges and along pointers, either way, [B, N, N].
        triplet_fts: [B, N, N, N, F], as channels, which are the values of edge pointers; None if there are none.
    """

    node_fts: Channels
    edge_fts: Channels
    graph_fts: Channels
    adj: Tensor
    triplet_fts: TripletChannels | None = None

    @classmethod
    def empty(cls, num_graphs: int, num_nodes: int, like: Tensor, hidden_dim: int) -> Encoding:
        """An encoding without features and with self-loops alone, on the device and in the dtype of `like`."""
        eye = torch.eye(num_nodes, dtype=torch.bool, device=like.device)
        nodes, nothing = (num_graphs, num_nodes), Folded(like.new_zeros(hidden_dim, 0), like.new_zeros(hidden_dim))
        return cls(
            Channels(like.new_zeros(*nodes, 0), nothing),
            Channels(like.new_zeros(*nodes, num_nodes, 0), nothing),
            Channels(like.new_zeros(num_graphs, 0), nothing),
            eye.expand(num_graphs, num_nodes, num_nodes),
        )

    def first(self, count: int) -> Encoding:
        """The encoding of the first `count` graphs."""
        node_fts, edge_fts = self.node_fts[:count], self.edge_fts[:count]
        triplet_fts = None if self.triplet_fts is None else self.triplet_fts[:count]
        return Encoding(node_fts, edge_fts, self.graph_fts[:count], self.adj[:count], triplet_fts)


def dense(probe: Probe, data: Tensor, num_nodes: int) -> Tensor:
    """The data of a probe in the shape of its logits: indices as one-hot rows.

    A category that is not scored is 0 in all classes but the last, and there -1, as in dm-clrs.
    """
    dtype = torch.get_default_dtype()
    match probe.type:
        case Type.SCALAR | Type.MASK:
            return data.to(dtype)
        case Type.CATEGORICAL:
            rows = functional.one_hot(data.long() % probe.num_classes, probe.num_classes).to(dtype)
            return torch.where((data == MASKED)[..., None], -rows, rows)
        case _:
            return functional.one_hot(data.long(), num_nodes).to(dtype)


class Encoder(nn.Module):
    """Linear encoders of probes, summed by location.

    Node pointers are edge features. An edge pointer (i, j) → k adds its mean over i to edge (j, k) and its mean over j
    to edge (i, k); if there are features of triplets, it adds ``w P_ijk`` to these, too. Graph pointers are node
    features.

    A scalar x adds ``w x + b``. With F frequencies it also adds ``V waves(x)``. With S scales a scalar x of nodes also
    adds ``D soft_signs(x_i - x_j)`` to edge (i, j), and for every scalar g of the graph ``E soft_signs(x_i - g)`` to
    node i: which of two is larger need not be read from what is encoded of each. Both are this library's own.

    Args:
        spec: The probes to encode.
        hidden_dim: H.
        triplet_dim: F, width of w; 0 for no features of triplets.
        num_frequencies: F.
        difference_scales: S.
    """

    def __init__(
        self,
        spec: Spec,
        hidden_dim: int,
        triplet_dim: int = 0,
        *,
        num_frequencies: int = 0,
        difference_scales: int = 0,
    ) -> None:
        super().__init__()
        self.spec = dict(spec)
        self.num_frequencies = num_frequencies
        self.difference_scales = difference_scales
        self.linears = nn.ModuleDict()
        self.wave_linears = nn.ModuleDict()
        self.difference_linears = nn.ModuleDict()
        for name, probe in spec.items():
            num_channels = probe.num_classes or 1
            # "xavier_on_scalars": hints that are scalars, fed back without a squashing, start small.
            std = hidden_dim**-0.5 if (probe.stage, probe.type) == (Stage.HINT, Type.SCALAR) else None
            num_linears = 2 if is_edge_pointer(probe) else 1
            self.linears[name] = nn.ModuleList(Linear(num_channels, hidden_dim, std=std) for _ in range(num_linears))
            if probe.type is Type.SCALAR and num_frequencies > 0:
                self.wave_linears[name] = Linear(2 * num_frequencies, hidden_dim, bias=None)
        of_nodes, of_graphs = (_scalars(spec, location) for location in (Location.NODE, Location.GRAPH))
        for name in of_nodes if difference_scales > 0 else ():
            others = [name, *of_graphs]  # itself, at another node
            self.difference_linears[name] = nn.ModuleDict(
                {other: Linear(difference_scales, hidden_dim, bias=None) for other in others}
            )
        pointers = [name for name, probe in spec.items() if is_edge_pointer(probe) and triplet_dim > 0]
        self.triplet_linears = nn.ModuleDict({name: Linear(1, triplet_dim, bias=None) for name in pointers})

    def forward(self, values: Mapping[str, Tensor], base: Encoding, *, with_adj: bool = True) -> Encoding:
        """The encoding `base` with the probes added.

        Args:
            values: By name, in the shape of :func:`dense`, perhaps soft.
            base: Of other probes, or an empty one.
            with_adj: Whether the probes' edges and pointers are added to `adj`, too.
        """
        channels: dict[Location, list[Tensor]] = {location: [] for location in Location}
        linears: dict[Location, list[Linear]] = {location: [] for location in Location}
        adj = base.adj
        for name, probe in self.spec.items():
            value = values[name].to(base.graph_fts.data.dtype)
            location, parts = _channels(probe, value)
            channels[location] += parts
            linears[location] += self.linears[name]  # type: ignore[arg-type]
            if name in self.wave_linears:
                channels[location].append(waves(values[name], self.num_frequencies).to(value.dtype))
                linears[location].append(self.wave_linears[name])  # type: ignore[arg-type]
            if not with_adj:
                continue
            if probe.location is Location.NODE and probe.type in POINTERS:
                adj = adj | (value + value.mT > 0.5)
            elif (probe.location, probe.type) == (Location.EDGE, Type.MASK):
                adj = adj | (value + value.mT > 0)
        for name, by_other in self.difference_linears.items():
            for other, linear in by_other.items():  # type: ignore[operator]
                place = Location.EDGE if other == name else Location.NODE
                x = values[name][:, :, None] if other == name else values[name]
                made = soft_signs(x - values[other][:, None], self.difference_scales)
                channels[place].append(made.to(base.graph_fts.data.dtype))
                linears[place].append(linear)

        def added(fts: Channels, location: Location) -> Channels:
            if all(is_plain(linear, Linear) for linear in linears[location]):
                return fts.extended(channels[location], linears[location])
            made = [linear(value) for linear, value in zip(linears[location], channels[location], strict=True)]
            return Channels.of(sum(made, as_tensor(fts)))

        triplet_fts = [] if base.triplet_fts is None else [base.triplet_fts]
        for name, layer in self.triplet_linears.items():
            value = values[name].to(base.graph_fts.data.dtype)[..., None]
            triplet_fts.append(TripletChannels(value, matrix_of(layer, 1, value)))
        node_fts, edge_fts = added(base.node_fts, Location.NODE), added(base.edge_fts, Location.EDGE)
        graph_fts = added(base.graph_fts, Location.GRAPH)
        return Encoding(node_fts, edge_fts, graph_fts, adj, TripletChannels.summed(triplet_fts))


def waves(x: Tensor, num_frequencies: int) -> Tensor:
    """``sin(2^f π x)`` and ``cos(2^f π x)`` for f from 0 to F - 1, [..., 2F], of scalars [...], at least in float32.

    Source: equation 4 of Mildenhall et al., "NeRF", ECCV 2020.
    """
    x = at_least_float32(x)
    angles = x[..., None] * (math.pi * 2 ** torch.arange(num_frequencies, device=x.device, dtype=x.dtype))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def soft_signs(x: Tensor, num_scales: int) -> Tensor:
    """``tanh(10^s x)`` for s from 0 to S - 1, [..., S], of numbers [...], at least in float32: signs of those that
    exceed about 10^-s.
    """
    x = at_least_float32(x)
    return (x[..., None] * 10 ** torch.arange(num_scales, device=x.device, dtype=x.dtype)).tanh()


def _scalars(spec: Spec, location: Location) -> list[str]:
    """The names of the scalars at a location."""
    return [name for name, probe in spec.items() if (probe.location, probe.type) == (location, Type.SCALAR)]


def is_edge_pointer(probe: Probe) -> bool:
    """Whether a probe has a node for every pair of nodes."""
    return (probe.location, probe.type) == (Location.EDGE, Type.POINTER)


def _channels(probe: Probe, value: Tensor) -> tuple[Location, list[Tensor]]:
    """The location that a probe's features are added at, and its channels there, each [B, ..., K]."""
    if probe.type is Type.CATEGORICAL:
        return probe.location, [value]
    if probe.type in POINTERS:
        match probe.location:
            case Location.NODE:
                return Location.EDGE, [value[..., None]]
            case Location.EDGE:
                return Location.EDGE, [value.mean(dim=1)[..., None], value.mean(dim=2)[..., None]]
            case Location.GRAPH:
                return Location.NODE, [value[..., None]]
    return probe.location, [value[..., None]]
