"""Layers of PyTorch Geometric as processors, in this process and on the command line."""
# Axes: B graphs, N nodes, H hidden.

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from layers import assert_finite_with_gradients, assert_permutation_equivariant, influences, random_inputs, results
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

with warnings.catch_warnings():  # PyTorch Geometric 2.8 compiles with what torch 2.13 calls deprecated
    warnings.simplefilter("ignore")
    from torch_geometric import nn as pyg

from nar.processors.sparse import ConvProcessor, PGNConv

H = 16
CONVS: dict[str, Callable[[], nn.Module]] = {
    "GINEConv": lambda: pyg.GINEConv(nn.Sequential(nn.Linear(2 * H, H), nn.ReLU(), nn.Linear(H, H)), edge_dim=H),
    "GCNConv": lambda: pyg.GCNConv(2 * H, H, add_self_loops=False),
    "GATv2Conv": lambda: pyg.GATv2Conv(2 * H, H, edge_dim=H, add_self_loops=False),
    "TransformerConv": lambda: pyg.TransformerConv(2 * H, H),
    "SAGEConv": lambda: pyg.SAGEConv(2 * H, H),
}
every_conv = pytest.mark.parametrize("make", CONVS.values(), ids=CONVS)


@every_conv
def test_a_node_hears_only_its_senders(make: Callable[[], nn.Module]) -> None:
    processor, inputs = ConvProcessor(make(), H).double(), random_inputs(H)
    assert influences(processor, inputs).equal(inputs.adj)


@every_conv
def test_commutes_with_renaming_the_nodes(make: Callable[[], nn.Module]) -> None:
    assert_permutation_equivariant(ConvProcessor(make(), H).double(), random_inputs(H))


@pytest.mark.parametrize(("name", "hears_edges"), [("GINEConv", True), ("GATv2Conv", True), ("TransformerConv", False)])
def test_features_of_edges_go_to_the_convs_that_take_them(name: str, hears_edges: bool) -> None:
    processor, inputs = ConvProcessor(CONVS[name](), H).double(), random_inputs(H)
    changed = inputs._replace(edge_fts=inputs.edge_fts + 1)
    assert processor(*inputs)[0].equal(processor(*changed)[0]) != hears_edges


@pytest.mark.parametrize("make", [CONVS["GCNConv"], lambda: PGNConv(2 * H, H, H, H), lambda: PGNConv(2 * H, H, H)])
def test_features_of_graphs_reach_every_conv(make: Callable[[], nn.Module]) -> None:
    processor, inputs = ConvProcessor(make(), H).double(), random_inputs(H)
    graph_fts = inputs.graph_fts.clone()
    graph_fts[0] += 1
    differs = (processor(*inputs)[0] != processor(*inputs._replace(graph_fts=graph_fts))[0]).flatten(1).any(dim=1)
    assert differs.tolist() == [True, False]


@pytest.mark.parametrize("normalised", [True, False])
def test_states_are_normalised_if_that_is_asked_for(normalised: bool) -> None:
    processor, inputs = ConvProcessor(CONVS["GCNConv"](), H, normalised=normalised).double(), random_inputs(H)
    mean = processor(*inputs)[0].mean(dim=-1)
    assert torch.allclose(mean, torch.zeros_like(mean)) == normalised


def test_edge_states_are_zero_where_there_is_no_edge() -> None:
    processor, inputs = ConvProcessor(PGNConv(2 * H, H, H, H, triplet_dim=2), H).double(), random_inputs(H)
    edge_states = processor(*inputs)[1]
    assert processor.has_edge_states
    assert edge_states is not None
    assert edge_states[~inputs.adj].eq(0).all()
    assert edge_states[inputs.adj].any()


def test_a_node_that_hears_nobody_has_finite_states_and_gradients() -> None:
    processor = ConvProcessor(PGNConv(2 * H, H, H, H, gated=True), H)
    inputs = random_inputs(H, dtype=torch.float32)
    assert_finite_with_gradients(processor, results(processor, inputs._replace(adj=torch.zeros_like(inputs.adj))))


@pytest.mark.parametrize(
    "make",
    [lambda: PGNConv(-1, H, -1, -1), lambda: pyg.SAGEConv(-1, H), lambda: pyg.GATv2Conv(-1, H, edge_dim=-1)],
)
def test_widths_that_are_left_to_the_first_call_are_those_of_features_and_state(make: Callable[[], nn.Module]) -> None:
    processor = ConvProcessor(make(), H)
    assert not any(map(is_lazy, processor.parameters()))
    assert processor.training
    assert all(part.training for part in processor.modules())
    assert processor.double()(*random_inputs(H))[0].shape == (2, 5, H)


def test_graphs_may_share_their_edges() -> None:
    processor, inputs = ConvProcessor(PGNConv(2 * H, H, H, H, triplet_dim=2), H).double(), random_inputs(H)
    shared = inputs.adj[:1]
    found, expected = processor(*inputs._replace(adj=shared)), processor(*inputs._replace(adj=shared.expand(2, 5, 5)))
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match=r"ConvProcessor: expected adj \[2, 5, 5\], given \[2, 5\]"):
        processor(*inputs._replace(adj=inputs.adj[:, 0]))


def along(**changes: Any) -> dict[str, Any]:
    """What `along_edges` takes, of two graphs."""
    torch.manual_seed(0)
    given = {
        "node_fts": torch.randn(5, H),
        "edge_fts": torch.randn(3, H),
        "graph_fts": torch.randn(2, H),
        "edge_index": torch.tensor([[0, 1, 4], [1, 0, 3]]),
        "graph": torch.tensor([0, 0, 1, 1, 1]),
        "hidden": torch.randn(5, H),
    }
    return {name: changes[name](x) if name in changes else x for name, x in given.items()}


AROUND: list[nn.Module] = [PGNConv(2 * H, H, H, H), PGNConv(2 * H, H), pyg.SAGEConv(2 * H, H)]


@pytest.mark.parametrize("conv", AROUND, ids=str)
def test_whole_numbers_of_any_type_are_taken(conv: nn.Module) -> None:
    processor = ConvProcessor(conv, H)
    expected = processor.along_edges(**along())[0]
    assert processor.along_edges(**along(edge_index=Tensor.int, graph=Tensor.int))[0].equal(expected)


@pytest.mark.parametrize("conv", AROUND, ids=str)
@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"edge_index": lambda x: x + 1}, IndexError, "edge_index in 0 … 4, given 5"),
        ({"edge_index": lambda x: x - 1}, IndexError, "edge_index in 0 … 4, given -1"),
        ({"graph": lambda x: x + 1}, IndexError, "graph in 0 … 1, given 2"),
        ({"graph": lambda x: x[1:]}, ValueError, r"graph \[N=5\], given \[4\]"),
        ({"node_fts": lambda x: x[1:]}, ValueError, r"node_fts \[N=5, H=16\], given \[4, 16\]"),
        ({"graph_fts": lambda x: x[:, 1:]}, ValueError, r"graph_fts \[B.*, H=16\], given \[2, 15\]"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    conv: nn.Module, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"ConvProcessor: expected {message}"):
        ConvProcessor(conv, H).along_edges(**along(**changes))


def test_too_few_features_of_edges_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"ConvProcessor: expected edge_fts \[E=3, H=16\], given \[1, 16\]"):
        ConvProcessor(AROUND[0], H).along_edges(**along(edge_fts=lambda x: x[:1]))


@pytest.mark.parametrize(
    ("conv", "message"),
    [
        (nn.Linear(3, 3), "expected a conv whose forward takes edge_index, given one that takes input"),
        (pyg.GCNConv(2 * H, 3), r"expected a conv that gives 16 channels \(hidden_dim\), given .*\[1, 3\]"),
    ],
)
def test_what_is_no_conv_of_this_width_is_refused(conv: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvProcessor(conv.double(), H)(*random_inputs(H))


PGN_CONV: dict[str, Any] = {
    "class_path": "nar.processors.sparse.PGNConv",
    "init_args": {"in_channels": 8, "out_channels": 4, "edge_dim": 4, "graph_dim": 4},
}
GINE_CONV: dict[str, Any] = {
    "class_path": "torch_geometric.nn.GINEConv",
    "init_args": {
        "nn": {"class_path": "torch_geometric.nn.MLP", "init_args": {"channel_list": [8, 4, 4]}},
        "edge_dim": 4,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("conv", [PGN_CONV, GINE_CONV], ids=["PGNConv", "GINEConv"])
def test_a_conv_is_trained_and_tested_on_the_command_line(
    conv: dict[str, Any], run: Callable[..., None], small: list[str], tmp_path: Any
) -> None:
    processor = ["--model.processor", "nar.processors.sparse.ConvProcessor", "--model.processor.conv", json.dumps(conv)]
    run("fit", *processor, *small)
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[4]")
    assert (tmp_path / "run" / "ood.csv").exists()
