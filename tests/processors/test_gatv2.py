"""GATv2, and its form for the views of a graph under D2."""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

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

from nar.processors.gat import GATv2, GATv2Attention, GATv2D2

Make = Callable[[int], GATv2]
MakeD2 = Callable[[int], GATv2D2]

VARIANTS: dict[str, Make] = variants(
    GATv2, {"num_heads": (1, 2), "senders": ("neighbours", "all"), "layer_norm": (False, True)}
)
VIEWS_VARIANTS: dict[str, MakeD2] = variants(GATv2D2, {"num_heads": (1, 2), "layer_norm": (False, True)})
every_variant = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)
every_views_variant = pytest.mark.parametrize("make", VIEWS_VARIANTS.values(), ids=VIEWS_VARIANTS)


def random_views(
    hidden_dim: int, num_graphs: int = 2, num_nodes: int = 5, dtype: torch.dtype = torch.float64
) -> Inputs:
    """Random inputs with four views of all features."""
    views = [random_inputs(hidden_dim, num_graphs, num_nodes, dtype) for _ in range(4)]
    node_fts, edge_fts, graph_fts = (torch.stack(fts) for fts in list(zip(*views, strict=True))[:3])
    return Inputs(node_fts, edge_fts, graph_fts, views[0].adj, views[0].hidden)


@every_variant
def test_commutes_with_renaming_the_nodes(make: Make) -> None:
    assert_permutation_equivariant(make(4), random_inputs(4))


def attention_as_loops(a: GATv2Attention, z: Tensor, edge_fts: Tensor, graph_fts: Tensor, heard: Tensor) -> Tensor:
    """The equations of GATv2, one node i and one head after another."""
    num_graphs, num_nodes = z.shape[:2]
    hidden_dim = a.value.out_features
    width = hidden_dim // len(a.scores)
    states = torch.empty(num_graphs, num_nodes, hidden_dim, dtype=z.dtype)
    for b, i in product(range(num_graphs), range(num_nodes)):
        neighbours = [j for j in range(num_nodes) if heard[b, i, j]]
        state = a.skip(z[b, i]).clone()
        for head, score in enumerate(a.scores):
            share = slice(head * width, (head + 1) * width)
            exponentials = []
            for j in neighbours:
                mixed = a.query(z[b, i]) + a.key(z[b, j]) + a.edge(edge_fts[b, i, j]) + a.graph(graph_fts[b])
                mixed = mixed.clamp(min=0) + 0.01 * mixed.clamp(max=0)
                exponentials.append(score(mixed[share]).exp())
            for j, exponential in zip(neighbours, exponentials, strict=True):
                state[share] += exponential / sum(exponentials) * a.value(z[b, j])[share]
        states[b, i] = normalised(state.clamp(min=0), a.norm)
    return states


@every_variant
def test_states_equal_the_equation_written_as_loops(make: Make) -> None:
    processor, inputs = make(4), random_inputs(4)
    z = torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
    heard = inputs.adj | (processor.senders == "all")
    expected = attention_as_loops(processor.attention, z, inputs.edge_fts, inputs.graph_fts, heard)
    torch.testing.assert_close(processor(*inputs)[0], expected)


@every_views_variant
def test_states_of_views_equal_the_equation_written_as_loops(make: MakeD2) -> None:
    processor, inputs = make(4), random_views(4)
    nodes, edges, graphs, adj, hidden = inputs
    everyone = torch.ones_like(adj)
    for g, states in enumerate(processor(*inputs)):
        expected = torch.zeros_like(hidden)
        for h in range(4):
            k = g ^ h  # the product of D2, with its elements as pairs of bits
            z = torch.cat([nodes[g], nodes[k], hidden], dim=-1)
            edge_fts, graph_fts = (torch.cat([fts[g], fts[k]], dim=-1) for fts in (edges, graphs))
            expected += attention_as_loops(processor.attention, z, edge_fts, graph_fts, everyone) / 4
        torch.testing.assert_close(states, expected)


@every_variant
def test_gradient_equals_finite_differences(make: Make) -> None:
    assert_gradient_equals_finite_differences(make(4), random_inputs(4, num_graphs=1, num_nodes=3))


@every_views_variant
def test_gradient_of_views_equals_finite_differences(make: MakeD2) -> None:
    assert_gradient_equals_finite_differences(make(4), random_views(4, num_graphs=1, num_nodes=3))


@pytest.mark.parametrize("num_heads", [1, 4])
def test_a_node_hears_only_those_it_sends_to(num_heads: int) -> None:
    processor, inputs = GATv2(16, num_heads=num_heads).double(), random_inputs(16)
    assert influences(processor, inputs).mT.equal(inputs.adj)


def test_the_senders_all_are_heard_whatever_the_adjacency() -> None:
    processor = GATv2(16, senders="all").double()
    inputs = random_inputs(16)._replace(adj=torch.eye(5, dtype=torch.bool).expand(2, 5, 5))
    assert influences(processor, inputs).all()


def test_adjacency_changes_nothing_where_all_are_heard() -> None:
    processor, inputs = GATv2(8, senders="all").double(), random_inputs(8)
    assert processor(*inputs._replace(adj=~inputs.adj))[0].equal(processor(*inputs)[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_an_adjacency_of_zeros_and_ones_is_one_of_truth_values(dtype: torch.dtype) -> None:
    processor, inputs = GATv2(8).double(), random_inputs(8)
    assert processor(*inputs._replace(adj=inputs.adj.to(dtype)))[0].equal(processor(*inputs)[0])


def test_has_no_edge_states() -> None:
    processor = GATv2(4).double()
    assert not processor.has_edge_states
    assert processor(*random_inputs(4))[1] is None


def test_without_layer_norm_states_keep_their_scale() -> None:
    inputs, processor = random_inputs(8), GATv2(8, layer_norm=False).double()
    with torch.no_grad():
        processor.attention.skip.weight *= 100
    assert processor(*inputs)[0].std() > 10


@every_views_variant
def test_views_commute_with_renaming_the_nodes(make: MakeD2) -> None:
    assert_permutation_equivariant(make(4), random_views(4))


@every_views_variant
def test_states_commute_with_reordering_the_views(make: MakeD2) -> None:
    processor, inputs, order = make(4), random_views(4), torch.tensor([2, 0, 3, 1])
    node_fts, edge_fts, graph_fts, adj, hidden = inputs
    reordered = Inputs(node_fts[order], edge_fts[order], graph_fts[order], adj, hidden)
    torch.testing.assert_close(processor(*reordered), processor(*inputs)[order], rtol=0, atol=1e-12)


def test_adjacency_changes_nothing_for_views() -> None:
    processor, inputs = GATv2D2(8).double(), random_views(8)
    assert processor(*inputs._replace(adj=~inputs.adj)).equal(processor(*inputs))


@pytest.mark.parametrize("field", ["node_fts", "edge_fts", "graph_fts"])
@pytest.mark.parametrize("num_views", [3, 5])
def test_other_than_four_views_are_refused(field: str, num_views: int) -> None:
    inputs = random_views(4)
    views = getattr(inputs, field)[[0] * num_views]
    with pytest.raises(ValueError, match=rf"expected 4 views in .*{field}.*given \(.*{num_views}"):
        GATv2D2(4).double()(*inputs._replace(**{field: views}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("senders", ["neighbours", "all"])
def test_states_and_gradients_are_finite_in_low_precision(senders: Any, dtype: torch.dtype) -> None:
    inputs, processor = random_inputs(16, dtype=torch.float32), GATv2(16, num_heads=2, senders=senders)
    with torch.autocast("cpu", dtype=dtype):
        states = results(processor, inputs._replace(node_fts=100 * inputs.node_fts))
    assert_finite_with_gradients(processor, states)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_and_gradients_of_views_are_finite_in_low_precision(dtype: torch.dtype) -> None:
    inputs, processor = random_views(16, dtype=torch.float32), GATv2D2(16, num_heads=2)
    with torch.autocast("cpu", dtype=dtype):
        states = results(processor, inputs._replace(node_fts=100 * inputs.node_fts))
    assert_finite_with_gradients(processor, states)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_node_that_hears_nobody_has_finite_states_and_gradients(dtype: torch.dtype) -> None:
    inputs, processor = random_inputs(8, dtype=torch.float32), GATv2(8)
    with torch.autocast("cpu", dtype=dtype):
        states = results(processor, inputs._replace(adj=torch.zeros_like(inputs.adj)))
    assert_finite_with_gradients(processor, states)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_dim": 0}, "expected hidden_dim ≥ 1 .*given 0"),
        ({"num_heads": 0}, "expected .*num_heads ≥ 1 .*given .*0"),
        ({"hidden_dim": 8, "num_heads": 3}, "num_heads .*that divides it, given 8 and 3"),
    ],
)
@pytest.mark.parametrize("kind", [GATv2, GATv2D2])
def test_a_bad_width_is_refused_by_name(kind: Callable[..., Any], arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_unknown_senders_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"expected senders .*neighbours.*all.*given .*neighbors"):
        GATv2(8, senders="neighbors")  # type: ignore[arg-type]


def names(num_heads: int) -> dict[str, str]:
    """dm-haiku's names of our layers; the linear ones are in the order in which dm-clrs makes them."""
    scores = (f"attention.scores.{head}" for head in range(num_heads))
    first = (f"attention.{name}" for name in ("value", "skip", "key", "query", "edge", "graph"))
    return {**numbered(*first, *scores), "attention.norm": "layer_norm"}


@pytest.mark.parametrize(
    ("kind", "senders", "num_heads", "layer_norm"), [("GATv2", "neighbours", 1, False), ("GATv2Full", "all", 2, True)]
)
def test_equals_dm_clrs_with_copied_weights(
    clrs: Any, kind: str, senders: Any, num_heads: int, layer_norm: bool
) -> None:
    theirs = getattr(clrs._src.processors, kind)
    assert_equals_dm_clrs(
        randomised(GATv2(8, num_heads=num_heads, senders=senders, layer_norm=layer_norm)),
        random_inputs(8),
        lambda *x: theirs(8, nb_heads=num_heads, use_ln=layer_norm)(*x)[0],
        names(num_heads),
    )


def test_views_equal_dm_clrs_with_copied_weights(clrs: Any) -> None:
    assert_equals_dm_clrs(
        randomised(GATv2D2(8, num_heads=2)),
        random_views(8, num_nodes=4),
        lambda *x: clrs._src.processors.GATv2FullD2(8, nb_heads=2, use_ln=True).d2_forward(*x),
        names(num_heads=2),
    )
