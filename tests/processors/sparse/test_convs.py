"""Layers along edges, beside the layers between all pairs of nodes whose weights they have."""
# Axes: B graphs, N nodes, E edges of all graphs together, H hidden.

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from layers import (
    Inputs,
    assert_gradient_equals_finite_differences,
    assert_permutation_equivariant,
    floating,
    influences,
    random_inputs,
    randomised,
    results,
)
from torch import Tensor, nn

from nar.processors import GAT, MPNN, PGN, DeepSets, GATv2, TripletGMPNN

with warnings.catch_warnings():  # PyTorch Geometric 2.8 compiles with what torch 2.13 calls deprecated
    warnings.simplefilter("ignore")
    from torch_geometric.nn import MessagePassing, SAGEConv, Sequential, aggr

from nar.processors.sparse import ConvProcessor, GATConv, GATv2Conv, PGNConv

H = 4
Case = tuple[Callable[[], nn.Module], Callable[[], nn.Module], bool]


def pgn(**settings: Any) -> PGNConv:
    """For z and features of H channels."""
    return PGNConv(2 * H, H, H, H, **settings)


# A layer between all pairs, one along edges, and whether that is on complete graphs alone.
CASES: dict[str, Case] = {
    "PGN": (lambda: PGN(H), pgn, False),
    "PGN without layer norm": (lambda: PGN(H, layer_norm=False), lambda: pgn(layer_norm=False), False),
    "gated PGN": (lambda: PGN(H, gated=True), lambda: pgn(gated=True), False),
    "mean PGN": (lambda: PGN(H, reduction="mean"), lambda: pgn(aggr="mean"), False),
    "DeepSets": (lambda: DeepSets(H), lambda: pgn(senders="self"), False),
    "MPNN": (lambda: MPNN(H), pgn, True),
    "triplet MPNN": (lambda: MPNN(H, triplet_dim=3), lambda: pgn(triplet_dim=3), True),
    "TripletGMPNN": (lambda: TripletGMPNN(H), lambda: pgn(triplet_dim=8, gated=True), True),
    "GAT": (lambda: GAT(H), lambda: GATConv(2 * H, H, 1, H, H, flow="target_to_source"), False),
    "GAT of two heads": (
        lambda: GAT(H, num_heads=2),
        lambda: GATConv(2 * H, H, 2, H, H, flow="target_to_source"),
        False,
    ),
    "GATv2": (lambda: GATv2(H).attention, lambda: GATv2Conv(2 * H, H, 1, H, H, flow="target_to_source"), False),
    "GATv2 of two heads": (
        lambda: GATv2(H, num_heads=2).attention,
        lambda: GATv2Conv(2 * H, H, 2, H, H, flow="target_to_source"),
        False,
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def inputs_for(case: Case) -> Inputs:
    """Graphs with one-way edges and self-loops, or complete ones."""
    inputs = random_inputs(H)
    return inputs._replace(adj=torch.ones_like(inputs.adj)) if case[2] else inputs


def states_between_pairs(layer: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
    """Of a processor, or of the attention inside of one."""
    if hasattr(layer, "scores"):
        z = torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
        return (layer(z, inputs.edge_fts, inputs.graph_fts, inputs.adj),)
    return results(layer, inputs)


def gradients(layer: nn.Module, inputs: Inputs, states: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Of features, state and parameters, by name."""
    variables = dict(layer.named_parameters()) | {
        name: x for name, x in inputs._asdict().items() if x.is_floating_point()
    }
    weights = [torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x) for x in states]
    found = torch.autograd.grad(states, list(variables.values()), weights, materialize_grads=True)
    return {name.removeprefix("conv."): gradient for name, gradient in zip(variables, found, strict=True)}


@every_case
def test_a_layer_along_edges_equals_the_one_between_pairs_with_its_weights(case: Case) -> None:
    dense, conv, inputs = randomised(case[0]()), case[1]().double(), inputs_for(case)
    for x in floating(inputs):
        x.requires_grad_()
    conv.load_state_dict(dense.state_dict())
    processor = ConvProcessor(conv, H)
    expected, found = states_between_pairs(dense, inputs), results(processor, inputs)
    assert len(expected) == len(found) == 1 + processor.has_edge_states
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(processor, inputs, found), gradients(dense, inputs, expected))


@every_case
def test_commutes_with_renaming_the_nodes(case: Case) -> None:
    assert_permutation_equivariant(ConvProcessor(randomised(case[1]()), H), inputs_for(case))


@pytest.mark.parametrize("aggr", ["max", "mean", "sum", "softmax", "adaptive softmax", "recurrent", "lstm"])
@pytest.mark.parametrize("triplet_dim", [0, 2])
def test_gradient_equals_finite_differences(aggr: str, triplet_dim: int) -> None:
    kwargs = {"learn": True} if aggr == "softmax" else {}
    conv = randomised(pgn(aggr=aggr, aggr_kwargs=kwargs, gated=True, triplet_dim=triplet_dim)).eval()
    assert_gradient_equals_finite_differences(ConvProcessor(conv, H), random_inputs(H, num_graphs=1, num_nodes=3))


@pytest.mark.parametrize("aggr", ["max", "mean", "sum", "softmax", "adaptive softmax", "recurrent", "lstm"])
def test_a_node_hears_only_its_senders(aggr: str) -> None:
    conv = PGNConv(32, 16, 16, 16, aggr=aggr, layer_norm=False).double().eval()
    inputs = random_inputs(16)
    assert influences(ConvProcessor(conv, 16), inputs).equal(inputs.adj)


@pytest.mark.parametrize(("flow", "hears_its_senders"), [("source_to_target", True), ("target_to_source", False)])
@pytest.mark.parametrize("kind", [GATConv, GATv2Conv])
def test_a_node_hears_its_senders_unless_the_flow_is_turned(
    kind: type[GATConv], flow: Any, hears_its_senders: bool
) -> None:
    conv, inputs = kind(32, 16, 2, 16, 16, flow=flow).double(), random_inputs(16)
    assert influences(ConvProcessor(conv, 16), inputs).equal(inputs.adj if hears_its_senders else inputs.adj.mT)


@pytest.mark.parametrize("kind", [GATConv, GATv2Conv, PGNConv])
def test_the_flow_is_pygs_unless_another_is_asked_for(kind: type[GATConv]) -> None:
    conv, inputs = kind(32, 16, edge_dim=16, graph_dim=16).double(), random_inputs(16)
    assert conv.flow == SAGEConv(32, 16).flow
    assert influences(ConvProcessor(conv, 16), inputs).equal(inputs.adj)


def random_graph(num_nodes: int = 6, num_edges: int = 14) -> tuple[Tensor, Tensor]:
    """Nodes of 2H channels, and edges of which several may have the same ends; one node hears no one."""
    edge_index = torch.randint(num_nodes, (2, num_edges))
    edge_index[1].clamp_(max=num_nodes - 2)
    return torch.randn(num_nodes, 2 * H, dtype=torch.float64), edge_index


class Watched(PGNConv):
    """One that lets PyG pass its messages, as for a hook."""

    is_watched = True


@pytest.mark.parametrize("edge_dim", [None, 3])
def test_the_maximum_without_messages_equals_that_over_pygs_messages(edge_dim: int | None) -> None:
    x, edge_index = random_graph()
    edge_attr = None if edge_dim is None else torch.randn(edge_index.shape[1], edge_dim, dtype=torch.float64)
    conv, watched = randomised(PGNConv(2 * H, H, edge_dim)), Watched(2 * H, H, edge_dim).double()
    watched.load_state_dict(conv.state_dict())
    expected, found = watched(x, edge_index, edge_attr), conv(x, edge_index, edge_attr)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), list(conv.parameters())),
        torch.autograd.grad(expected.square().sum(), list(watched.parameters())),
    )


def test_another_aggregation_may_take_its_place_in_evaluation() -> None:
    x, edge_index = random_graph()
    soft, hard = PGNConv(2 * H, H, aggr="softmax").double(), PGNConv(2 * H, H).double()
    both = PGNConv(2 * H, H, aggr="softmax", aggr_in_evaluation="max").double()
    for conv in (soft, both):
        conv.load_state_dict(hard.state_dict())
    assert both.train()(x, edge_index).equal(soft(x, edge_index))
    assert both.eval()(x, edge_index).equal(hard(x, edge_index))


def test_a_hook_on_messages_sees_them() -> None:
    (x, edge_index), seen = random_graph(), []
    conv = PGNConv(2 * H, H).double()
    conv.register_message_forward_hook(lambda module, inputs, messages: seen.append(messages.shape))
    conv(x, edge_index)
    assert seen == [(14, H)]


@pytest.mark.parametrize(("aggr", "names"), [("recurrent", {}), ("lstm", {"cell.": "lstm."})])
@pytest.mark.parametrize("flow", ["source_to_target", "target_to_source"])
def test_senders_are_read_in_the_order_of_the_nodes_as_between_pairs(
    aggr: str, names: dict[str, str], flow: Any
) -> None:
    dense, conv, inputs = randomised(PGN(H, reduction=aggr)), pgn(aggr=aggr, flow=flow).double(), random_inputs(H)
    state = {name.replace("reduction.usual.", "aggr_module."): x for name, x in dense.state_dict().items()}
    for old, new in names.items():
        state = {name.replace(old, new): x for name, x in state.items()}
    conv.load_state_dict(state)
    edges = inputs.adj[0].nonzero().T
    edges = edges[:, torch.randperm(edges.shape[1])]
    x, edge_attr = torch.cat([inputs.node_fts[0], inputs.hidden[0]], dim=-1), inputs.edge_fts[0, edges[0], edges[1]]
    found = conv(x, edges if flow == "source_to_target" else edges.flip(0), edge_attr, inputs.graph_fts[:1])
    torch.testing.assert_close(found, dense(*inputs)[0][0])


@pytest.mark.parametrize("aggr", ["max", "recurrent", "lstm"])
def test_the_order_of_edges_of_different_receivers_does_not_matter(aggr: str) -> None:
    x, edge_index = random_graph()
    conv = PGNConv(2 * H, H, aggr=aggr).double()
    in_order = edge_index[:, edge_index[1].sort(stable=True).indices]
    torch.testing.assert_close(conv(x, in_order), conv(x, edge_index))


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["aot_eager"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what torch's compiler is itself built with
def test_a_compiled_layer_has_the_same_states_and_gradients(compiler: str) -> None:
    x, edge_index = random_graph()
    conv = randomised(PGNConv(2 * H, H, gated=True))
    found, expected = torch.compile(conv, backend=compiler)(x, edge_index), conv(x, edge_index)
    torch.testing.assert_close(found, expected)
    parameters = list(conv.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), parameters), torch.autograd.grad(expected.square().sum(), parameters)
    )


def test_equal_messages_of_zero_share_the_gradient_evenly() -> None:
    conv = PGNConv(H, H, H, layer_norm=False)
    nn.init.zeros_(conv.message_mlp[3].weight)
    nn.init.ones_(conv.update_message.weight)
    nn.init.ones_(conv.update_node.bias)  # so that the node's ReLU lets the gradient through
    edge_index = torch.tensor([[0, 1, 2], [3, 3, 3]])
    conv(torch.zeros(4, H), edge_index, torch.ones(3, H)).sum().backward()
    # Three equal messages of 0: W2 takes a third of each second layer, all of which are the same.
    with torch.no_grad():
        second = conv.message_mlp[:3](conv.message_edge(torch.ones(1, H)))
    gradient = conv.message_mlp[3].weight.grad
    assert gradient is not None
    torch.testing.assert_close(gradient, H * second.expand(H, H))


@pytest.mark.slow
def test_drops_into_a_model_of_pytorch_geometric() -> None:
    model = Sequential(
        "x, edge_index, edge_attr",
        [(PGNConv(3, H, 2), "x, edge_index, edge_attr -> x"), (GATConv(H, H), "x, edge_index -> x"), nn.Linear(H, 1)],
    )
    assert model(torch.randn(5, 3), torch.randint(5, (2, 9)), torch.randn(9, 2)).shape == (5, 1)
    assert all(isinstance(conv, MessagePassing) for conv in (PGNConv(3, H), GATConv(3, H), GATv2Conv(3, H)))


@pytest.mark.parametrize("make", [lambda: pgn(triplet_dim=2, gated=True), lambda: GATv2Conv(8, 4, 2, 4, 4)])
def test_reset_parameters_draws_every_weight_anew(make: Callable[[], nn.Module]) -> None:
    conv = make()
    before = {name: x.clone() for name, x in conv.named_parameters() if x.dim() > 1}
    conv.reset_parameters()  # type: ignore[operator]
    assert before
    assert not any(dict(conv.named_parameters())[name].equal(x) for name, x in before.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"out_channels": 0}, r"expected widths ≥ 1 .*given \[4, 0\]"),
        ({"triplet_dim": -1}, "expected .*triplet_dim ≥ 0, given .*-1"),
        ({"out_channels": 8, "gated": True}, "expected in_channels ≥ out_channels of a gate.* given 4 and 8"),
        ({"senders": "all"}, "expected senders 'neighbours' or 'self', given 'all'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PGNConv(**{"in_channels": 4, "out_channels": 4, **settings})


@pytest.mark.parametrize("place", ["aggr", "aggr_in_evaluation"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["max", "mean"], r"expected an aggregation that makes 4 channels .*of 4, given \['max', 'mean'\], .*makes 8"),
        (aggr.Set2Set(H, 1), "expected an aggregation that makes 4 channels.*makes 8"),
        (aggr.LSTMAggregation(H, 3), "expected an aggregation that makes 4 channels.*makes 3"),
        (aggr.LSTMAggregation(3, H), "expected an aggregation of 4 channels.*given LSTMAggregation"),
        (aggr.SortAggregation(2), "expected an aggregation that makes 4 channels.*makes 8"),
        ("mlp", "expected an aggregation of 4 channels.*given 'mlp'.*in_channels"),
        ("highest", "expected an aggregation of 4 channels.*given 'highest': Could not resolve"),
        (3, "expected an aggregation of 4 channels.*given 3"),
    ],
    ids=str,
)
def test_an_aggregation_that_does_not_make_as_many_channels_is_refused_when_the_layer_is_made(
    place: str, given: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        PGNConv(2 * H, H, **{place: given})
    assert "\n" not in str(caught.value)


def test_no_aggregation_is_refused_when_the_layer_is_made() -> None:
    with pytest.raises(ValueError, match=r"expected an aggregation of 4 channels.*given None"):
        PGNConv(2 * H, H, aggr=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["aggr", "aggr_in_evaluation"])
@pytest.mark.parametrize(
    "given",
    [
        *(
            "min",
            "std",
            "median",
            "powermean",
            "recurrent",
            "lstm",
            "adaptive softmax",
            aggr.DeepSetsAggregation(nn.Linear(H, H)),
        ),
        aggr.MultiAggregation(["max", "std"], mode="proj", mode_kwargs={"in_channels": H, "out_channels": H}),
        aggr.SortAggregation(1),
    ],
    ids=str,
)
def test_any_other_takes_nodes_that_hear_nobody_and_graphs_without_edges(place: str, given: Any) -> None:
    conv = PGNConv(2 * H, H, **{place: given}).double().eval()
    x, edge_index = random_graph()
    edge_index = edge_index.clamp(min=1)
    without = conv(x, edge_index[:, :0])
    found = conv(x, edge_index)
    assert found.isfinite().all()
    torch.testing.assert_close(found[[0, 5]], without[[0, 5]])  # which hear nobody


def test_an_aggregation_is_projected_by_its_own_settings() -> None:
    kwargs = {"mode": "proj", "mode_kwargs": {"in_channels": H, "out_channels": H}}
    conv = PGNConv(2 * H, H, aggr=["max", "mean"], aggr_kwargs=kwargs).double()
    x, edge_index = random_graph()
    assert conv(x, edge_index).shape == (len(x), H)


def test_features_of_several_self_loops_of_a_node_add_up() -> None:
    conv = randomised(PGNConv(2 * H, H, 2, senders="self"))
    x, _ = random_graph()
    edge_index, edge_attr = torch.tensor([[1, 1, 0], [1, 1, 1]]), torch.randn(3, 2, dtype=torch.float64)
    one = conv(x, edge_index[:, :1], edge_attr[:2].sum(dim=0, keepdim=True))
    torch.testing.assert_close(conv(x, edge_index, edge_attr), one)


def test_features_without_a_width_are_refused() -> None:
    x, edge_index = random_graph()
    with pytest.raises(ValueError, match="expected edge_attr of edge_dim None, given some of width 2"):
        PGNConv(2 * H, H).double()(x, edge_index, torch.zeros(14, 2))
    with pytest.raises(ValueError, match="expected graph_attr of graph_dim 3, given none"):
        PGNConv(2 * H, H, graph_dim=3).double()(x, edge_index)
