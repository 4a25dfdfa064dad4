"""Encode-process-decode along the edges of sparse graphs: nothing here is a matrix of nodes by nodes.

Source: Minder et al., "SALSA-CLRS: A Sparse and Scalable Benchmark for Algorithmic Reasoning", LoG 2023; encoders,
decoders and feedback of hints are those of :mod:`nar.model.unroll`, with edges in place of pairs of nodes.
"""
# Axes: B graphs; N nodes, E edges of all graphs together; T time, H hidden, C classes.

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nar.batch import num_steps_of
from nar.ops.linear import Linear, is_plain
from nar.ops.scatter import scatter, scatter_log_softmax
from nar.processor import SparseProcessor
from nar.sparse.batch import SparseBatch
from nar.specs import Location, Probe, Spec, Stage, Type, at_stage

SparseHintMode = Literal["encoded_decoded", "none"]


class SparsePredictions(NamedTuple):
    """Logits by probe name, of pointers on edges [E].

    Attributes:
        outputs: At each graph's own last step.
        hints: After each step, of all graphs.
    """

    outputs: dict[str, Tensor]
    hints: list[dict[str, Tensor]]


class States(NamedTuple):
    """What decoders read of a batch of sparse graphs after a step.

    Attributes:
        node: Node features beside the last and the new node states, [N, 3H].
        edge: Edge features, beside the edge states of a processor that has them, [E, H or 2H].
        graph: Graph features, [B, H].
    """

    node: Tensor
    edge: Tensor
    graph: Tensor


class SparseEncodeProcessDecode(nn.Module):
    """One processor, with encoders and decoders for each of several algorithms; see :mod:`nar.model.unroll`.

    All graphs of a batch are run for as many steps as the longest needs; outputs are decoded from the states that each
    graph has at its own last step.

    Args:
        specs: The spec of each algorithm by name.
        processor: Its `hidden_dim` is the width of everything.
        hint_mode: Whether hints are fed back and predicted, or not used.
    """

    def __init__(
        self,
        specs: Mapping[str, Spec],
        processor: SparseProcessor,
        hint_mode: SparseHintMode = "encoded_decoded",
    ) -> None:
        super().__init__()
        self.processor = processor
        self.heads = nn.ModuleDict(
            {name: SparseHeads(spec, processor, uses_hints=hint_mode != "none") for name, spec in specs.items()}
        )

    def forward(self, batch: SparseBatch, *, with_hints: bool = True) -> SparsePredictions:
        """Logits of outputs, and of hints if asked for."""
        last_step = num_steps_of(batch.lengths) - 1
        all_logits: list[dict[str, Tensor]] = []
        final: States | None = None
        for step, (states, logits) in enumerate(self.steps(batch, int(last_step.max()) + 1)):
            ended = last_step < step
            final = states if final is None or not ended.any() else _where(ended, final, states, batch)
            if with_hints:
                all_logits.append(logits)
        assert final is not None
        return SparsePredictions(self.outputs(batch, final), all_logits)

    def outputs(self, batch: SparseBatch, states: States) -> dict[str, Tensor]:
        """The logits of the outputs of graphs that have come to these states at their last step."""
        heads = self.heads[batch.algorithm]
        assert isinstance(heads, SparseHeads)
        return {name: decoder(states, batch) for name, decoder in heads.output_decoders.items()}

    def steps(self, batch: SparseBatch, num_steps: int) -> Iterator[tuple[States, dict[str, Tensor]]]:
        """The states after each of so many steps of all graphs, and the logits of hints by probe name."""
        heads = self.heads[batch.algorithm]
        assert isinstance(heads, SparseHeads)
        hidden = next(self.parameters()).new_zeros(len(batch.graph), self.processor.hidden_dim)
        hints = {name: dense(probe, batch.hints[name][..., 0], batch) for name, probe in heads.hints.items()}
        for step in range(num_steps):
            inputs = {
                name: dense(probe, _at_time(batch.inputs[name], step), batch) for name, probe in heads.inputs.items()
            }
            node_fts, edge_fts, graph_fts = heads.encoder(inputs | hints, batch)
            new_hidden, edge_states = self.processor.along_edges(
                node_fts, edge_fts, graph_fts, batch.edge_index, batch.graph, hidden
            )
            edge = edge_fts if edge_states is None else torch.cat([edge_fts, edge_states], dim=-1)
            states = States(torch.cat([node_fts, hidden, new_hidden], dim=-1), edge, graph_fts)
            hidden = new_hidden
            logits = {name: decoder(states, batch) for name, decoder in heads.hint_decoders.items()}
            hints = {name: soft_value(probe, logits[name], batch) for name, probe in heads.hints.items()}
            yield states, logits


class SparseHeads(nn.Module):
    """The encoder and the decoders of one algorithm."""

    def __init__(self, spec: Spec, processor: SparseProcessor, *, uses_hints: bool) -> None:
        super().__init__()
        width = processor.hidden_dim
        edge_dim = (2 if processor.has_edge_states else 1) * width
        self.inputs = at_stage(spec, Stage.INPUT)
        self.hints = at_stage(spec, Stage.HINT) if uses_hints else {}
        outputs = at_stage(spec, Stage.OUTPUT)
        self.encoder = SparseEncoder(self.inputs | self.hints, width)
        self.hint_decoders = nn.ModuleDict({n: make_decoder(probe, width, edge_dim) for n, probe in self.hints.items()})
        self.output_decoders = nn.ModuleDict({n: make_decoder(probe, width, edge_dim) for n, probe in outputs.items()})


class SparseEncoder(nn.Module):
    """Linear encoders of probes, summed by where they are; a pointer is a feature of its edge."""

    def __init__(self, spec: Spec, hidden_dim: int) -> None:
        super().__init__()
        self.spec = dict(spec)
        self.hidden_dim = hidden_dim
        small = hidden_dim**-0.5  # of hints that are scalars: see nar.model.encoders
        self.linears = nn.ModuleDict(
            {
                name: Linear(
                    probe.num_classes or 1,
                    hidden_dim,
                    std=small if (probe.stage, probe.type) == (Stage.HINT, Type.SCALAR) else None,
                )
                for name, probe in spec.items()
            }
        )

    def forward(self, values: Mapping[str, Tensor], batch: SparseBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Features of nodes [N, H], edges [E, H] and graphs [B, H]; `values` as :func:`dense` has them."""
        numbers = {
            Location.NODE: len(batch.graph),
            Location.EDGE: batch.edge_index.shape[1],
            Location.GRAPH: len(batch.lengths),
        }
        node, edge, graph = (self._features_at(location, number, values) for location, number in numbers.items())
        return node, edge, graph

    def _features_at(self, location: Location, number: int, values: Mapping[str, Tensor]) -> Tensor:
        """The features of one location, by one linear layer on the channels of all its probes."""
        names = [name for name, probe in self.spec.items() if _location_of(probe) is location]
        if not names:
            return next(self.parameters()).new_zeros(number, self.hidden_dim)
        linears: list[Any] = [self.linears[name] for name in names]
        dtype = next(self.parameters()).dtype
        channels = [values[name].to(dtype).reshape(number, self.spec[name].num_classes or 1) for name in names]
        if not all(is_plain(linear, Linear) for linear in linears):
            return torch.stack([linear(x) for linear, x in zip(linears, channels, strict=True)]).sum(dim=0)
        weight = torch.cat([linear.weight for linear in linears], dim=1)
        bias = torch.stack([linear.bias_or_zeros() for linear in linears]).sum(dim=0)
        return functional.linear(torch.cat(channels, dim=1), weight, bias)


def make_decoder(probe: Probe, hidden_dim: int, edge_dim: int) -> nn.Module:
    """A module from states and their batch to the logits of `probe`."""
    num_logits = probe.num_classes or 1
    match _location_of(probe):
        case Location.NODE:
            return NodeDecoder(hidden_dim, num_logits)
        case Location.EDGE:
            return EdgeDecoder(hidden_dim, edge_dim, is_pointer=probe.type is Type.POINTER)
        case Location.GRAPH:
            return GraphDecoder(hidden_dim, num_logits)


class NodeDecoder(nn.Module):
    """``W s_i``, [N] or [N, C]."""

    def __init__(self, hidden_dim: int, num_logits: int) -> None:
        super().__init__()
        self.node = Linear(3 * hidden_dim, num_logits)

    def forward(self, states: States, batch: SparseBatch) -> Tensor:
        """The logits of every node, [N], or of its classes, [N, C]."""
        logits: Tensor = self.node(states.node)
        return logits.squeeze(-1) if logits.shape[-1] == 1 else logits


class EdgeDecoder(nn.Module):
    """``W1 s_i + W2 s_j + W3 e_ij``, or of a pointer from i to j ``w · max(W1 s_i, W2 s_j + W3 e_ij)``, [E]."""

    def __init__(self, hidden_dim: int, edge_dim: int, *, is_pointer: bool) -> None:
        super().__init__()
        width = hidden_dim if is_pointer else 1
        self.sender = Linear(3 * hidden_dim, width)
        self.receiver = Linear(3 * hidden_dim, width)
        self.edge = Linear(edge_dim, width)
        self.output = Linear(hidden_dim, 1) if is_pointer else None

    def forward(self, states: States, batch: SparseBatch) -> Tensor:
        """The logits of every edge, [E]: of a mask, or of the edge's sender pointing at its receiver."""
        senders, receivers = batch.edge_index
        sender = self.sender(states.node).index_select(0, senders)
        receiver = self.receiver(states.node).index_select(0, receivers) + self.edge(states.edge)
        logits: Tensor = sender + receiver if self.output is None else self.output(torch.maximum(sender, receiver))
        return logits.squeeze(-1)


class GraphDecoder(nn.Module):
    """``W1 max_i s_i + W2 g``, [B] or [B, C]."""

    def __init__(self, hidden_dim: int, num_logits: int) -> None:
        super().__init__()
        self.node = Linear(3 * hidden_dim, num_logits)
        self.graph = Linear(hidden_dim, num_logits)

    def forward(self, states: States, batch: SparseBatch) -> Tensor:
        """The logits of every graph, [B], or of its classes, [B, C]."""
        highest = scatter(states.node, batch.graph, len(batch.lengths), "max")
        logits: Tensor = self.node(highest) + self.graph(states.graph)
        return logits.squeeze(-1) if logits.shape[-1] == 1 else logits


def _location_of(probe: Probe) -> Location:
    """The location of a probe's features: of a pointer that of edges."""
    return Location.EDGE if probe.type is Type.POINTER else probe.location


def _at_time(data: Tensor, time: int) -> Tensor:
    """The data of an input at a time; after the last, those of the last."""
    return data[:, min(time, data.shape[1] - 1)] if data.dim() == 2 else data


def dense(probe: Probe, data: Tensor, batch: SparseBatch) -> Tensor:
    """The data of a probe in the shape of its logits: a choice as 1 at what is chosen, and 0 elsewhere."""
    dtype = torch.get_default_dtype()
    match probe.type:
        case Type.CATEGORICAL:
            return functional.one_hot(data.long(), probe.num_classes).to(dtype)
        case Type.POINTER | Type.MASK_ONE:
            among, _ = batch.groups(probe)
            return torch.zeros(len(among), dtype=dtype, device=data.device).index_fill(0, data.long(), 1)
    return data.to(dtype)


def soft_value(probe: Probe, logits: Tensor, batch: SparseBatch) -> Tensor:
    """What a hint is fed back as, in the shape of its logits; gradients flow through it."""
    match probe.type:
        case Type.MASK:
            return logits.sigmoid()
        case Type.CATEGORICAL:
            return logits.softmax(dim=-1)
        case Type.POINTER | Type.MASK_ONE:
            return scatter_log_softmax(logits, *batch.groups(probe)).exp()
    return logits


def _where(graphs: Tensor, one: States, other: States, batch: SparseBatch) -> States:
    """The states of `one` for the graphs that are marked, and of `other` for the rest."""
    nodes = graphs[batch.graph]
    edges = nodes[batch.edge_index[0]]
    which = (nodes, edges, graphs)
    return States(*(torch.where(c[:, None], x, y) for c, x, y in zip(which, one, other, strict=True)))
