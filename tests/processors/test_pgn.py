"""PGN, DeepSets, MPNN and TripletGMPNN, and the triplets and the gate they are made of."""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from layers import (
    Inputs,
    assert_equals_dm_clrs,
    assert_permutation_equivariant,
    influences,
    numbered,
    random_inputs,
    randomised,
)
from torch import Tensor

from nar.ops.channels import Channels, Folded, as_tensor
from nar.processor import Processor
from nar.processors import MPNN, PGN, TripletGMPNN
from nar.processors.pgn import Senders
from nar.processors.reductions import REDUCTIONS, ReductionName


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


@pytest.mark.parametrize("flaw", ["node", "edge"])
def test_the_check_of_renaming_says_which_states_fail(flaw: str) -> None:
    with pytest.raises(AssertionError, match=f"{flaw} states do not commute.* off by [1-4]"):
        assert_permutation_equivariant(Flawed(4, flaw), random_inputs(4))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("gated", [False, True])
def test_a_node_hears_only_its_senders(gated: bool, reduction: ReductionName) -> None:
    processor, inputs = PGN(16, gated=gated, triplet_dim=2, reduction=reduction).double(), random_inputs(16)
    assert influences(processor, inputs).equal(inputs.adj)


@pytest.mark.slow
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


NORMS: dict[str, Callable[[], torch.nn.Module]] = {
    "its own": lambda: torch.nn.LayerNorm(4),
    "none": torch.nn.Identity,
    "another eps": lambda: torch.nn.LayerNorm(4, eps=0.5),
    "no bias": lambda: torch.nn.LayerNorm(4, bias=False),
    "no weights": lambda: torch.nn.LayerNorm(4, elementwise_affine=False),
    "of nodes, too": lambda: torch.nn.LayerNorm((5, 4)),
    "another": lambda: torch.nn.RMSNorm(4),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("gated", [False, True])
def test_of_channels_it_makes_what_it_makes_of_features(norm: str, gated: bool) -> None:
    layer, given = PGN(4, gated=gated, triplet_dim=2), random_inputs(4, dtype=torch.float32)
    layer.norm = NORMS[norm]()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)

    def channels(features: Tensor, number: int) -> Channels:
        return Channels(torch.randn(*features.shape[:-1], number), Folded(torch.randn(4, number), torch.randn(4)))

    features = [channels(x, number) for number, x in enumerate(given[:3], start=1)]
    states, edge_states = layer(*features, *given[3:])
    expected = layer(*map(as_tensor, features), *given[3:])
    torch.testing.assert_close((states, as_tensor(edge_states)), expected, rtol=1e-4, atol=1e-4)


def test_the_size_of_the_forget_gate_is_a_penalty() -> None:
    layer, given = randomised(MPNN(6, forget_gate=True)), random_inputs(6)
    assert layer.penalty_names == ("forget_gate",)
    sizes = []
    for graph in range(2):
        for node in range(5):
            opening = layer.forget.node(given.node_fts[graph, node]) + layer.forget.state(given.hidden[graph, node])
            sizes.append((1 / (1 + (-opening).exp())).norm() / 6**0.5)
    torch.testing.assert_close(layer.penalties(*given), {"forget_gate": torch.stack(sizes).mean()})
    layer.penalties(*given)["forget_gate"].backward()
    assert {name for name, x in layer.named_parameters() if x.grad is not None} == {
        f"forget.{name}.{entry}" for name in ("node", "state") for entry in ("weight", "bias")
    }


def test_without_a_forget_gate_there_is_no_penalty() -> None:
    layer = MPNN(6)
    assert layer.penalty_names == ()
    assert layer.penalties(*random_inputs(6)) == {}


@pytest.mark.parametrize("gated", [False, True])
def test_a_closed_forget_gate_leaves_nothing_of_the_last_state(gated: bool) -> None:
    layer, given = randomised(TripletGMPNN(6, gated=gated, forget_gate=True)), random_inputs(6)
    with torch.no_grad():
        layer.forget.state.bias.fill_(-1e9)
    found = layer(*given)
    torch.testing.assert_close(found, layer(*given._replace(hidden=torch.zeros_like(given.hidden))))
    with torch.no_grad():
        layer.forget.state.bias.fill_(1e9)
    open_layer = TripletGMPNN(6, gated=gated).double()
    open_layer.load_state_dict(layer.state_dict(), strict=False)
    torch.testing.assert_close(layer(*given), open_layer(*given))
