"""PGN, DeepSets, MPNN and TripletGMPNN, and the triplets and the gate they are made of."""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

import importlib
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from layers import (
    Inputs,
    assert_equals_dm_clrs,
    assert_finite_with_gradients,
    assert_gradient_equals_finite_differences,
    assert_permutation_equivariant,
    influences,
    normalised,
    numbered,
    random_inputs,
    randomised,
    results,
    variants,
)
from torch import Tensor

from nar.processor import Processor
from nar.processors import MPNN, PGN, DeepSets, TripletGMPNN
from nar.processors.pgn import Senders
from nar.processors.reductions import REDUCTIONS, Mean, Reduction, ReductionName, Softmax, Sum

Make = Callable[[int], PGN]

BOTH = (False, True)
SENDERS = ("neighbours", "all", "self")
OTHERS = ("mean", "dm-clrs mean", "sum", "softmax")
VARIANTS: dict[str, Make] = {
    **variants(PGN, {"senders": SENDERS, "triplet_dim": (0, 3), "gated": BOTH, "layer_norm": BOTH}),
    **variants(PGN, {"senders": SENDERS[:2], "reduction": OTHERS, "layer_norm": BOTH}),
    **variants(MPNN, {"triplet_dim": (0, 3), "gated": BOTH, "layer_norm": BOTH}),
    **variants(TripletGMPNN, {"triplet_dim": (0, 8), "gated": BOTH, "layer_norm": BOTH}),
    **variants(PGN, {"triplet_dim": (2,), "triplet_reduction": OTHERS}),
    **variants(DeepSets, {"layer_norm": BOTH}),
}
every_variant = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)


class Flawed(Processor):
    """A PGN of which one result depends on how the nodes are called."""

    def __init__(self, hidden_dim: int, flaw: str) -> None:
        super().__init__()
        self.pgn = PGN(hidden_dim, triplet_dim=2).double()
        self.flaw = flaw

    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """States of a PGN, to one kind of which the name of the node, or of the sender, is added."""
        nodes, edges = self.pgn(node_fts, edge_fts, graph_fts, adj, hidden)
        names = torch.arange(node_fts.shape[1])[:, None]
        return (nodes + names, edges) if self.flaw == "node" else (nodes, edges + names[:, None])


@every_variant
def test_commutes_with_renaming_the_nodes(make: Make) -> None:
    assert_permutation_equivariant(make(4), random_inputs(4))


@pytest.mark.parametrize("flaw", ["node", "edge"])
def test_the_check_of_renaming_says_which_states_fail(flaw: str) -> None:
    with pytest.raises(AssertionError, match=f"{flaw} states do not commute.* off by [1-4]"):
        assert_permutation_equivariant(Flawed(4, flaw), random_inputs(4))


@every_variant
def test_gradient_equals_finite_differences(make: Make) -> None:
    assert_gradient_equals_finite_differences(make(3), random_inputs(3, num_graphs=1, num_nodes=3))


def hears(processor: PGN, inputs: Inputs, graph: int, sender: int, receiver: int) -> bool:
    """Whether a message of the sender reaches the receiver."""
    match processor.senders:
        case "all":
            return True
        case "self":
            return sender == receiver
        case _:
            return bool(inputs.adj[graph, sender, receiver])


def reduced(reduction: Reduction, messages: Tensor, num_receivers: int) -> Tensor:
    """What is left of messages [M, H] to a node that sends to so many."""
    match reduction:
        case Mean(divisor="receivers"):
            return messages.sum(dim=0) / num_receivers
        case Mean():
            return messages.mean(dim=0)
        case Sum():
            return messages.sum(dim=0)
        case Softmax():
            return (messages.exp() / messages.exp().sum(dim=0) * messages).sum(dim=0)
        case _:
            return messages.max(dim=0).values


def node_states_as_loops(processor: PGN, inputs: Inputs) -> Tensor:
    """The equations of PGN, one receiver j after another."""
    p = processor
    states = torch.empty_like(inputs.hidden)
    num_graphs, num_nodes = states.shape[:2]
    z = torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
    for b, j in product(range(num_graphs), range(num_nodes)):
        messages = []
        for i in range(num_nodes):
            if not hears(p, inputs, b, i, j):
                continue
            x = p.message_receiver(z[b, j]) + p.message_sender(z[b, i])
            x = x + p.message_edge(inputs.edge_fts[b, i, j]) + p.message_graph(inputs.graph_fts[b])
            messages.append(p.message_mlp[3](p.message_mlp[1](x.clamp(min=0)).clamp(min=0)))
        number = 1 if p.senders == "self" else sum(hears(p, inputs, b, j, k) for k in range(num_nodes))
        received = reduced(p.reduction.current, torch.stack(messages), number)
        state = normalised((p.update_node(z[b, j]) + p.update_message(received)).clamp(min=0), p.norm)
        if p.gate is not None:
            opening = p.gate.output((p.gate.node(z[b, j]) + p.gate.message(received)).clamp(min=0))
            gate = 1 / (1 + (-opening).exp())
            state = gate * state + (1 - gate) * inputs.hidden[b, j]
        states[b, j] = state
    return states


def edge_states_as_loops(processor: PGN, inputs: Inputs) -> Tensor:
    """The equation of triplets, one edge from j to k after another."""
    t = processor.triplets
    assert t is not None
    z = torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
    t1, t2, t3 = t.node_1(z), t.node_2(z), t.node_3(z)
    u1, u2, u3 = t.edge_1(inputs.edge_fts), t.edge_2(inputs.edge_fts), t.edge_3(inputs.edge_fts)
    v = t.graph(inputs.graph_fts)
    states = torch.empty_like(inputs.edge_fts)
    num_graphs, num_nodes = states.shape[:2]
    for b, j, k in product(range(num_graphs), range(num_nodes), range(num_nodes)):
        triplets = [
            t1[b, i] + t2[b, j] + t3[b, k] + u1[b, i, j] + u2[b, i, k] + u3[b, j, k] + v[b] for i in range(num_nodes)
        ]
        states[b, j, k] = t.output(reduced(t.reduction.current, torch.stack(triplets), num_nodes)).clamp(min=0)
    return states


@every_variant
def test_node_states_equal_the_equation_written_as_loops(make: Make) -> None:
    processor, inputs = make(4), random_inputs(4)
    torch.testing.assert_close(processor(*inputs)[0], node_states_as_loops(processor, inputs))


@every_variant
def test_edge_states_equal_the_equation_written_as_loops(make: Make) -> None:
    processor, inputs = make(4), random_inputs(4)
    edges = processor(*inputs)[1]
    if processor.has_edge_states:
        torch.testing.assert_close(edges, edge_states_as_loops(processor, inputs))
    else:
        assert edges is None


@every_variant
def test_has_edge_states_exactly_if_it_has_triplets(make: Make) -> None:
    processor = make(4)
    assert processor.has_edge_states == any("triplets" in name for name, _ in processor.named_parameters())


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("gated", [False, True])
def test_a_node_hears_only_its_senders(gated: bool, reduction: ReductionName) -> None:
    processor, inputs = PGN(16, gated=gated, triplet_dim=2, reduction=reduction).double(), random_inputs(16)
    assert influences(processor, inputs).equal(inputs.adj)


@pytest.mark.parametrize("make", [PGN, MPNN, TripletGMPNN])
def test_the_senders_all_are_heard_whatever_the_adjacency(make: type[PGN]) -> None:
    processor = (PGN(16, senders="all") if make is PGN else make(16)).double()
    inputs = random_inputs(16)._replace(adj=torch.eye(5, dtype=torch.bool).expand(2, 5, 5))
    assert influences(processor, inputs).all()


@pytest.mark.parametrize("make", [PGN, DeepSets])
def test_of_the_senders_self_a_node_hears_itself_alone(make: type[PGN]) -> None:
    processor = (PGN(16, senders="self") if make is PGN else make(16)).double()
    inputs = random_inputs(16)
    assert influences(processor, inputs).equal(torch.eye(5, dtype=torch.bool).expand(2, 5, 5))


@pytest.mark.parametrize("senders", ["neighbours", "all"])
def test_the_mean_of_dm_clrs_is_that_of_dm_clrs_and_not_a_mean(clrs: Any, senders: Senders) -> None:
    theirs = {"neighbours": clrs._src.processors.PGN, "all": clrs._src.processors.MPNN}[senders]
    ours, inputs = randomised(PGN(8, senders=senders, reduction="dm-clrs mean", layer_norm=False)), random_inputs(8)
    linears = ("message_receiver", "message_sender", "message_edge", "message_graph", "update_node", "update_message")
    mlp = {"message_mlp.1": "mlp/~/linear_0", "message_mlp.3": "mlp/~/linear_1"}
    settings = {"reduction": importlib.import_module("jax.numpy").mean, "msgs_mlp_sizes": [8, 8]}
    assert_equals_dm_clrs(ours, inputs, lambda *x: theirs(8, **settings)(*x)[0], numbered(*linears) | mlp)
    found = ours(*inputs)[0]
    true_mean = PGN(8, senders=senders, reduction="mean", layer_norm=False).double()
    true_mean.load_state_dict(ours.state_dict())
    assert torch.allclose(true_mean(*inputs)[0], found) == (senders == "all")


@pytest.mark.parametrize("make", [MPNN, TripletGMPNN])
def test_adjacency_changes_nothing_where_all_are_heard(make: type[PGN]) -> None:
    processor, inputs = make(8).double(), random_inputs(8)
    other = processor(*inputs._replace(adj=~inputs.adj))[0]
    assert other.equal(processor(*inputs)[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_an_adjacency_of_zeros_and_ones_is_one_of_truth_values(dtype: torch.dtype) -> None:
    processor, inputs = PGN(8).double(), random_inputs(8)
    numbers = inputs._replace(adj=inputs.adj.to(dtype))
    assert processor(*numbers)[0].equal(processor(*inputs)[0])


def test_the_gate_starts_with_a_last_bias_of_minus_three() -> None:
    gate = TripletGMPNN(8).gate
    assert gate is not None
    assert (gate.output.bias == -3).all()


def with_gate_at(opening: float, hidden_dim: int = 8) -> PGN:
    """A gated MPNN whose gate is σ(opening) everywhere."""
    processor = MPNN(hidden_dim, gated=True).double()
    assert processor.gate is not None
    torch.nn.init.zeros_(processor.gate.output.weight)
    torch.nn.init.constant_(processor.gate.output.bias, opening)
    return processor


def test_a_closed_gate_keeps_the_state() -> None:
    inputs = random_inputs(8)
    assert with_gate_at(-1e4)(*inputs)[0].equal(inputs.hidden)


def test_an_open_gate_takes_the_state_of_an_ungated_processor() -> None:
    inputs, gated, ungated = random_inputs(8), with_gate_at(1e4), MPNN(8).double()
    ungated.load_state_dict({name: x for name, x in gated.state_dict().items() if not name.startswith("gate.")})
    assert gated(*inputs)[0].equal(ungated(*inputs)[0])


def test_the_layer_norm_comes_before_the_gate() -> None:
    inputs = random_inputs(8)
    normalised = 2 * with_gate_at(0.0)(*inputs)[0] - inputs.hidden
    torch.testing.assert_close(normalised.mean(dim=-1), torch.zeros(2, 5, dtype=torch.float64))
    torch.testing.assert_close(
        normalised.var(dim=-1, correction=0), torch.ones(2, 5, dtype=torch.float64), rtol=1e-3, atol=0
    )


def test_without_layer_norm_states_keep_their_scale() -> None:
    inputs, processor = random_inputs(8), MPNN(8, layer_norm=False).double()
    with torch.no_grad():
        for layer in (processor.update_node, processor.update_message):
            layer.weight *= 100
    assert processor(*inputs)[0].std() > 10


def test_the_processor_of_the_published_model_has_258872_parameters() -> None:
    assert sum(parameter.numel() for parameter in TripletGMPNN(128).parameters()) == 258872


def equal_inputs(hidden_dim: int) -> Inputs:
    """A complete graph in which all nodes and all edges are alike, and whole numbers, of which sums are exact."""
    node, edge, graph, hidden = torch.randn(4, hidden_dim, dtype=torch.float64).round()
    return Inputs(
        node.expand(1, 5, -1),
        edge.repeat(1, 5, 5, 1).requires_grad_(),
        graph[None],
        torch.ones(1, 5, 5, dtype=torch.bool),
        hidden.expand(1, 5, -1),
    )


@pytest.mark.parametrize("result", [0, 1], ids=["node states", "edge states"])
@pytest.mark.parametrize("kind", [PGN, MPNN, TripletGMPNN])
def test_ties_split_the_gradient_evenly(kind: type[PGN], result: int) -> None:
    inputs = equal_inputs(8)
    layer = kind(8, triplet_dim=8, layer_norm=False).double()
    for parameter in layer.parameters():
        parameter.data = (4 * parameter.data).round()
    layer(*inputs)[result].sum().backward()
    gradient = inputs.edge_fts.grad
    assert gradient is not None
    assert gradient.any()
    torch.testing.assert_close(gradient, gradient.mean(dim=(1, 2), keepdim=True).expand_as(gradient))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_dim": 0}, "expected hidden_dim ≥ 1 .*given 0"),
        ({"triplet_dim": -1}, "expected .*triplet_dim ≥ 0, given .*-1"),
    ],
)
@pytest.mark.parametrize("kind", [PGN, MPNN, TripletGMPNN])
def test_a_bad_width_is_refused_by_name(kind: type[PGN], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_unknown_senders_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"expected senders .*neighbours.*all.*self.*given .*neighbors"):
        PGN(8, senders="neighbors")  # type: ignore[arg-type]


def test_a_node_that_hears_nobody_has_finite_states_and_gradients() -> None:
    inputs, processor = random_inputs(8, dtype=torch.float32), PGN(8, gated=True)
    states = results(processor, inputs._replace(adj=torch.zeros_like(inputs.adj)))
    assert_finite_with_gradients(processor, states)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [PGN, MPNN, TripletGMPNN])
def test_states_and_gradients_are_finite_in_low_precision(kind: type[PGN], dtype: torch.dtype) -> None:
    inputs, processor = random_inputs(16, dtype=torch.float32), kind(16, triplet_dim=8, gated=True)
    with torch.autocast("cpu", dtype=dtype):
        states = results(processor, inputs)
    assert len(states) == 2
    assert_finite_with_gradients(processor, states)
