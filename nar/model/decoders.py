"""From states to the logits of probes, and from logits to values.

Source: ``clrs/_src/decoders.py`` of dm-clrs 2.0.3; Ibarz et al., "A Generalist Neural Algorithmic Learner", LoG 2022.
"""
# Axes: B graphs, N nodes, H hidden, C classes (1 if the probe is not categorical).

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import local
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nar.model.pairs import PairLayers, with_logits_on_pairs
from nar.ops.affine import plus
from nar.ops.channels import Channels, as_tensor, concat_graphs, precompute, take
from nar.ops.linear import Linear, is_plain, matrix_of, may_be_given_channels
from nar.ops.pair_logits import pair_logits
from nar.ops.pointer_logits import product_logits
from nar.ops.precision import at_least_float32
from nar.ops.triplets import triplet_logits
from nar.specs import Location, Probe, Type

# As in the reference, which normalises more often the nearer to a permutation the result has to be.
SINKHORN_TEMPERATURE = 0.1
_SINKHORN_STEPS_DECODING = 10
_SINKHORN_STEPS_FEEDBACK = 25
SINKHORN_STEPS_PREDICTION = 50

TRIPLET_DIM = 16
"""The width of what edge pointers are decoded from where triplets are looked at."""

_thread = local()  # has `draw`, by which a thread that computes some rows of a batch draws their noise


class States(NamedTuple):
    """What decoders read of a batch of graphs after a step.

    Attributes:
        node: Node features beside the last and the new node states, [B, N, 3H].
        edge: Edge features, beside the edge states of a processor that has them, [B, N, N, H or 2H].
        graph: Graph features, [B, H].
        adj: As the processor saw it, [B, N, N].
        pointers: The values of the K edge pointers that it was given as features of triplets, [B, N, N, N, K]; None if
            it was given none.
    """

    node: Tensor | Channels
    edge: Tensor | Channels
    graph: Tensor | Channels
    adj: Tensor
    pointers: Tensor | None = None

    def select(self, graphs: slice | Tensor) -> "States":
        """The states of some of the graphs, a slice of them or their places."""
        if isinstance(graphs, slice) and graphs == slice(0, len(self.adj)):
            return self
        pointers = None if self.pointers is None else take(self.pointers, graphs)
        return States(self.node[graphs], self.edge[graphs], self.graph[graphs], take(self.adj, graphs), pointers)

    def without_channels(self) -> "States":
        """The states with all features as tensors, for decoders that do not take channels."""
        return self._replace(node=as_tensor(self.node), edge=as_tensor(self.edge), graph=as_tensor(self.graph))

    @staticmethod
    def concatenated(parts: "Sequence[States]") -> "States":
        """The states of all graphs of several batches, one batch after the other."""
        node, edge, graph, adj, pointers = zip(*parts, strict=True)
        all_pointers = None if pointers[0] is None else torch.cat(pointers)
        return States(concat_graphs(node), concat_graphs(edge), concat_graphs(graph), torch.cat(adj), all_pointers)


class Decoder(nn.Module):
    """A module from :class:`States` to logits."""

    def linears_of_nodes(self) -> list[Linear]:
        """The linear layers that are applied to ``States.node``, which :func:`decode` computes together."""
        return []

    def layers_on_pairs(self) -> PairLayers | None:
        """The layers of logits that :func:`nar.ops.pair_logits.pair_logits` makes; None of a decoder of others."""
        return None

    def logits_on_pairs(self, states: States) -> Tensor | None:
        """The logits on pairs that :func:`decode` has computed, [B, N, N] or [B, N, N, C]; None if it has not."""
        return states.edge.results.get(self) if isinstance(states.edge, Channels) else None


def decode(decoders: nn.ModuleDict, states: States) -> dict[str, Tensor]:
    """The logits of every decoder by name; what they make of the nodes is computed in one product."""
    # Decoders that users put in the place of ours get tensors, and their layers are called as they are.
    plain = {name for name, decoder in decoders.items() if may_be_given_channels(decoder)}
    others = states if len(plain) == len(decoders) else states.without_channels()
    each = [decoder for name, decoder in decoders.items() if name in plain and isinstance(decoder, Decoder)]
    states = _with_results(each, states)
    return {name: decoder(states if name in plain else others) for name, decoder in decoders.items()}


def _with_results(decoders: Sequence[Decoder], states: States) -> States:
    """The states with what decoders make of nodes, by one product, and their logits on pairs, by one operation."""
    node, edge = states.node, states.edge
    are_channels = isinstance(node, Channels) and isinstance(edge, Channels)
    layers = [(decoder, decoder.layers_on_pairs() if are_channels else None) for decoder in decoders]
    on_pairs: dict[nn.Module, PairLayers] = {x: of_decoder for x, of_decoder in layers if of_decoder is not None}
    linears = [linear for decoder, of_decoder in layers if of_decoder is None for linear in decoder.linears_of_nodes()]
    if isinstance(node, Channels) and isinstance(edge, Channels) and on_pairs:
        node, edge = with_logits_on_pairs(node, edge, on_pairs, linears)
    elif linears:
        node = precompute(node, linears)
    return states._replace(node=node, edge=edge)


def make_decoder(
    probe: Probe,
    hidden_dim: int,
    edge_dim: int,
    *,
    node_dim: int | None = None,
    masked: bool = False,
    num_pointers: int | None = None,
) -> Decoder:
    """A module from :class:`States` to the logits of `probe`, shaped as :class:`nar.specs.Type` says.

    Args:
        probe: What to decode.
        hidden_dim: H.
        edge_dim: Width of ``States.edge``.
        node_dim: Width of ``States.node``; 3H, as a processor's are, if None.
        masked: Whether pointers of nodes and masks of edges are predicted along ``States.adj`` alone.
        num_pointers: K of ``States.pointers``, if edge pointers are decoded from triplets; None if from pairs.
    """
    num_logits, node_dim = probe.num_classes or 1, 3 * hidden_dim if node_dim is None else node_dim
    is_pointer = probe.type in (Type.POINTER, Type.PERMUTATION_POINTER)
    match probe.location, is_pointer:
        case Location.NODE, False:
            return NodeDecoder(node_dim, num_logits)
        case Location.NODE, True:
            permutation = probe.type is Type.PERMUTATION_POINTER
            return NodePointerDecoder(node_dim, edge_dim, hidden_dim, permutation=permutation, masked=masked)
        case Location.EDGE, False:
            masked = masked and probe.type in (Type.MASK, Type.MASK_ONE)
            return EdgeDecoder(node_dim, edge_dim, num_logits, masked=masked)
        case Location.EDGE, True:
            if num_pointers is None:
                return EdgePointerDecoder(node_dim, edge_dim, hidden_dim)
            return TripletPointerDecoder(node_dim, edge_dim, num_pointers)
        case Location.GRAPH, False:
            return GraphDecoder(node_dim, hidden_dim, num_logits)
        case _:
            return GraphPointerDecoder(node_dim, hidden_dim)


class NodeDecoder(Decoder):
    """``W s_i``, [B, N] or [B, N, C]."""

    def __init__(self, node_dim: int, num_logits: int) -> None:
        super().__init__()
        self.node = Linear(node_dim, num_logits)

    def linears_of_nodes(self) -> list[Linear]:
        """The linear layers that are applied to ``States.node``."""
        return [self.node]

    def forward(self, states: States) -> Tensor:
        """The logits of every node, [B, N], or of its classes, [B, N, C]."""
        logits: Tensor = self.node(states.node)
        return _drop_single_class(logits)


class NodePointerDecoder(Decoder):
    """``w · max(W1 s_i, W2 s_j + W3 e_ji)`` for i pointing at j, [B, N, N].

    Args:
        node_dim: Width of s.
        edge_dim: Width of e.
        hidden_dim: H, width of what W1, W2 and W3 make.
        permutation: Whether the pointers form one cycle: the logits then are the logarithm of a nearly doubly
            stochastic matrix, with Gumbel noise in training.
        masked: Whether i can point at j only if adj_ij.
    """

    def __init__(
        self, node_dim: int, edge_dim: int, hidden_dim: int, *, permutation: bool, masked: bool = False
    ) -> None:
        super().__init__()
        self.permutation = permutation
        self.masked = masked
        self.source = Linear(node_dim, hidden_dim)
        self.target = Linear(node_dim, hidden_dim)
        self.edge = Linear(edge_dim, hidden_dim)
        self.output = Linear(hidden_dim, 1)

    def linears_of_nodes(self) -> list[Linear]:
        """The linear layers that are applied to ``States.node``."""
        return [self.source, self.target]

    def layers_on_pairs(self) -> PairLayers:
        """The layers of :func:`nar.ops.pair_logits.pair_logits`."""
        return PairLayers(self.source, self.target, self.edge, self.output)

    def forward(self, states: States) -> Tensor:
        """The logits of every node i pointing at node j, [B, N, N] in the order i, j."""
        computed = self.logits_on_pairs(states)
        logits = self._logits(states) if computed is None else computed
        if self.masked:
            logits = _mask_non_edges(logits, states.adj)
        if not self.permutation:
            return logits
        logits = at_least_float32(logits)
        noisy = logits + gumbel_noise(logits) if self.training else logits
        return log_sinkhorn(noisy, _SINKHORN_STEPS_DECODING)

    def _logits(self, states: States) -> Tensor:
        """The logits by themselves, [B, N, N]."""
        source, target = self.source(states.node), self.target(states.node)
        # The reference pairs j with i along e_ji: hence the transpose.
        if not (is_plain(self.edge, Linear) and is_plain(self.output, Linear)):
            highest = torch.maximum(source[:, None], target[:, :, None] + self.edge(states.edge))
            logits: Tensor = self.output(highest).squeeze(-1).mT
            return logits
        x, x_weight, x_bias, *of_states = self.edge.operands(states.edge)
        weight, bias = self.output.weight.flatten(), self.output.bias_or_zeros()
        return pair_logits(source, plus(target, x_bias), weight, bias, x, x_weight, *of_states)[0]


class EdgeDecoder(Decoder):
    """``W1 s_i + W2 s_j + W3 e_ij``, [B, N, N] or [B, N, N, C]; if `masked`, (i, j) is predicted only if adj_ij."""

    def __init__(self, node_dim: int, edge_dim: int, num_logits: int, *, masked: bool = False) -> None:
        super().__init__()
        self.masked = masked
        self.sender = Linear(node_dim, num_logits)
        self.receiver = Linear(node_dim, num_logits)
        self.edge = Linear(edge_dim, num_logits)

    def linears_of_nodes(self) -> list[Linear]:
        """The linear layers that are applied to ``States.node``."""
        return [self.sender, self.receiver]

    def layers_on_pairs(self) -> PairLayers:
        """The layers of :func:`nar.ops.pair_logits.pair_logits`."""
        return PairLayers(self.receiver, self.sender, self.edge)

    def forward(self, states: States) -> Tensor:
        """The logits of every pair of nodes (i, j), [B, N, N], or of its classes, [B, N, N, C]."""
        logits = self.logits_on_pairs(states)
        if logits is None:
            of_nodes = self.sender(states.node)[:, :, None] + self.receiver(states.node)[:, None]
            logits = _drop_single_class(of_nodes + self.edge(states.edge))
        return _mask_non_edges(logits, states.adj) if self.masked else logits


class EdgePointerDecoder(Decoder):
    """``w · max(W1 s_i + W2 s_j + W3 e_ij, W4 s_k)`` for edge (i, j) pointing at k, [B, N, N, N]."""

    def __init__(self, node_dim: int, edge_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.source = EdgeDecoder(node_dim, edge_dim, hidden_dim)
        self.target = Linear(node_dim, hidden_dim)
        self.output = Linear(hidden_dim, 1)

    def linears_of_nodes(self) -> list[Linear]:
        """The linear layers that are applied to ``States.node``."""
        return [*self.source.linears_of_nodes(), self.target]

    def forward(self, states: States) -> Tensor:
        """The logits of every pair of nodes (i, j) pointing at node k, [B, N, N, N]."""
        source, target = self.source(states), self.target(states.node)
        source = source.view(*source.shape[:3], target.shape[-1])  # where there is a single feature, its axis is gone
        if is_plain(self.output, Linear):
            logits = (
                product_logits(source.flatten(1, 2), target, self.output.weight.flatten()) + self.output.bias_or_zeros()
            )
            return logits.view(*source.shape[:3], target.shape[1])
        highest = torch.maximum(source[:, :, :, None], target[:, None, None])
        every: Tensor = self.output(highest).squeeze(-1)
        return every


class TripletPointerDecoder(Decoder):
    """``w · ReLU(a_ij + b_ik + c_jk + V P_ijk)`` for edge (i, j) pointing at k, [B, N, N, N], where::

        a_ij = A1 e_ij + A2 e_ji + A3 s_i
        b_ik = B1 e_ik + B2 e_ki + B3 s_k
        c_jk = C1 e_jk + C2 e_kj + C3 s_j

    It sees all three edges, as ``P_ij ← P_kj`` of Floyd and Warshall and ``argmin_k (m_ik + m_kj)`` ask for, which
    :class:`EdgePointerDecoder` does not. P are the edge pointers that the processor was given. The equation is this
    library's own.

    Args:
        node_dim: Width of s.
        edge_dim: Width of e.
        num_pointers: How many P there are for every i, j and k.
    """

    def __init__(self, node_dim: int, edge_dim: int, num_pointers: int) -> None:
        super().__init__()
        self.edge = Linear(edge_dim, 6 * TRIPLET_DIM)
        self.node = Linear(node_dim, 3 * TRIPLET_DIM)
        self.pointers = Linear(num_pointers, TRIPLET_DIM, bias=None) if num_pointers else None
        self.output = Linear(TRIPLET_DIM, 1, bias=None)

    def linears_of_nodes(self) -> list[Linear]:
        """The linear layers that are applied to ``States.node``."""
        return [self.node]

    def forward(self, states: States) -> Tensor:
        """The logits of every pair of nodes (i, j) pointing at node k, [B, N, N, N]."""
        edges, nodes = self.edge(states.edge).chunk(6, dim=-1), self.node(states.node).chunk(3, dim=-1)
        ij, ik, jk = (one + other.transpose(1, 2) for one, other in zip(edges[::2], edges[1::2], strict=True))
        ij, ik, jk = ij + nodes[0][:, :, None], ik + nodes[1][:, None], jk + nodes[2][:, :, None]
        if self.pointers is None:
            pointers, weight = ij.new_zeros(*ij.shape[:3], ij.shape[2], 0), ij.new_zeros(TRIPLET_DIM, 0)
        else:
            assert states.pointers is not None
            pointers, weight = states.pointers, matrix_of(self.pointers, states.pointers.shape[-1], ij)
        return triplet_logits(ij, ik, jk, pointers, weight, matrix_of(self.output, TRIPLET_DIM, ij)[0])


class GraphDecoder(Decoder):
    """``W1 max_i s_i + W2 g``, [B] or [B, C]."""

    def __init__(self, node_dim: int, hidden_dim: int, num_logits: int) -> None:
        super().__init__()
        self.node = Linear(node_dim, num_logits)
        self.graph = Linear(hidden_dim, num_logits)

    def forward(self, states: States) -> Tensor:
        """The logits of every graph, [B], or of its classes, [B, C]."""
        return _drop_single_class(self.node(as_tensor(states.node).amax(dim=1)) + self.graph(states.graph))


class GraphPointerDecoder(Decoder):
    """``W1 max_i s_i + W2 g + W3 s_j`` for the graph pointing at j, [B, N]."""

    def __init__(self, node_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.source = GraphDecoder(node_dim, hidden_dim, 1)
        self.target = Linear(node_dim, 1)

    def linears_of_nodes(self) -> list[Linear]:
        """The linear layers that are applied to ``States.node``."""
        return [self.target]

    def forward(self, states: States) -> Tensor:
        """The logits of every graph pointing at node j, [B, N]."""
        logits: Tensor = self.source(states)[:, None] + self.target(states.node).squeeze(-1)
        return logits


def _drop_single_class(logits: Tensor) -> Tensor:
    return logits.squeeze(-1) if logits.shape[-1] == 1 else logits


def _mask_non_edges(logits: Tensor, adj: Tensor) -> Tensor:
    """Logits [B, N, N] that are negative, and lower than all others of their graph, where `adj` has no edge.

    Source: ``inf_bias`` in ``clrs/_src/decoders.py`` of dm-clrs 2.0.3.
    """
    lowest = logits.amin(dim=(1, 2), keepdim=True)
    return torch.where(adj.bool(), logits, (lowest - 1).clamp(max=-1))


def gumbel_noise(like: Tensor) -> Tensor:
    """Standard Gumbel noise in the shape of `like` (Mena et al., "Learning Latent Permutations", ICLR 2018)."""
    return -torch.log(-torch.log(getattr(_thread, "draw", _draw)(like) + 1e-12) + 1e-12)


def _draw(like: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) in the shape of `like`, drawn in the order of the axes, not of memory."""
    return torch.rand(like.shape, dtype=like.dtype, device=like.device)


@contextmanager
def noise_of_rows(rows: Tensor, num_graphs: int, seed: int) -> Iterator[None]:
    """Let this thread, which computes some rows of a batch alone, draw the noise that these have in the whole batch.

    Args:
        rows: The places of the thread's graphs in the batch.
        num_graphs: How many graphs the batch has.
        seed: What ``torch.manual_seed`` would be given before the batch is computed.
    """
    # Every thread draws for all graphs and takes its rows: a draw is the same however the batch is divided.
    generator = torch.Generator().manual_seed(seed)
    _thread.draw = lambda like: torch.rand(num_graphs, *like.shape[1:], generator=generator, dtype=like.dtype)[rows]
    try:
        yield
    finally:
        del _thread.draw


def log_sinkhorn(logits: Tensor, num_steps: int) -> Tensor:
    """The logarithm of a matrix whose rows and columns sum to about 1 and whose diagonal is 0, [B, N, N].

    Args:
        logits: Any real numbers, [B, N, N].
        num_steps: How often rows, then columns, are normalised.

    Source:
        Sinkhorn, "A Relationship Between Arbitrary Positive Matrices and Doubly Stochastic Matrices", 1964; with the
        temperature and Gumbel noise of Mena et al., "Learning Latent Permutations", ICLR 2018.
    """
    # The lower the temperature, the nearer the limit is to a permutation, and the more steps it takes to come there.
    logits = at_least_float32(logits) / SINKHORN_TEMPERATURE
    # No node points at itself, as in a cycle of more than one. 1e6 is finite, so that a graph of one node stays finite.
    logits = logits - 1e6 * torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    # Division of a matrix's rows by their sums, and of its columns, is subtraction of a log-sum-exp: nothing overflows.
    for _ in range(num_steps):
        logits = functional.log_softmax(logits, dim=-1)
        logits = functional.log_softmax(logits, dim=-2)
    return logits


def soft_value(probe: Probe, logits: Tensor) -> Tensor:
    """What a hint is fed back as, in the shape of its logits; gradients flow through it."""
    match probe.type:
        case Type.SCALAR:
            return logits
        case Type.MASK:
            return logits.sigmoid()
        case Type.PERMUTATION_POINTER:
            return log_sinkhorn(logits, _SINKHORN_STEPS_FEEDBACK).exp()
        case _:
            return logits.softmax(dim=-1)


def hard_value(probe: Probe, logits: Tensor) -> Tensor:
    """A definite value, in the shape of the logits: masks 0 or 1, choices one-hot; no gradient flows through it."""
    match probe.type:
        case Type.SCALAR:
            return logits.detach()
        case Type.MASK:
            return (logits > 0).to(logits.dtype)
        case Type.PERMUTATION_POINTER:
            logits = log_sinkhorn(logits, _SINKHORN_STEPS_FEEDBACK)
    return functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)


def predicted_value(probe: Probe, logits: Tensor) -> Tensor:
    """The prediction that is scored, in the form of the data: scalars, masks of 0 and 1, or indices."""
    match probe.type:
        case Type.SCALAR:
            return logits.detach()
        case Type.MASK:
            return (logits > 0).to(torch.int8)
        case Type.PERMUTATION_POINTER:
            logits = log_sinkhorn(logits, SINKHORN_STEPS_PREDICTION)
    return logits.argmax(dim=-1)
