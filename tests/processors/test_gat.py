"""GAT, GATv2, and the form of the second for the views of a graph under D2."""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from equations import attention_as_loops
from layers import (
    Inputs,
    assert_equals_dm_clrs,
    assert_finite_with_gradients,
    assert_gradient_equals_finite_differences,
    assert_permutation_equivariant,
    numbered,
    random_inputs,
    randomised,
    results,
    variants,
)

from nar.processors.gat import GAT, GATv2, GATv2D2, attend, leaky_relu

MakeD2 = Callable[[int], GATv2D2]

VIEWS_VARIANTS: dict[str, MakeD2] = variants(GATv2D2, {"num_heads": (1, 2), "layer_norm": (False, True)})
every_views_variant = pytest.mark.parametrize("make", VIEWS_VARIANTS.values(), ids=VIEWS_VARIANTS)


def random_views(
    hidden_dim: int, num_graphs: int = 2, num_nodes: int = 5, dtype: torch.dtype = torch.float64
) -> Inputs:
    """Random inputs with four views of all features."""
    views = [random_inputs(hidden_dim, num_graphs, num_nodes, dtype) for _ in range(4)]
    node_fts, edge_fts, graph_fts = (torch.stack(fts) for fts in list(zip(*views, strict=True))[:3])
    return Inputs(node_fts, edge_fts, graph_fts, views[0].adj, views[0].hidden)


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


@every_views_variant
def test_gradient_of_views_equals_finite_differences(make: MakeD2) -> None:
    assert_gradient_equals_finite_differences(make(4), random_views(4, num_graphs=1, num_nodes=3))


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
def test_states_and_gradients_of_views_are_finite_in_low_precision(dtype: torch.dtype) -> None:
    inputs, processor = random_views(16, dtype=torch.float32), GATv2D2(16, num_heads=2)
    with torch.autocast("cpu", dtype=dtype):
        states = results(processor, inputs._replace(node_fts=100 * inputs.node_fts))
    assert_finite_with_gradients(processor, states)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_node_that_hears_nobody_takes_the_mean_of_all(dtype: torch.dtype) -> None:
    logits, value = torch.randn(2, 5, 5, 2, dtype=dtype), torch.randn(2, 5, 4, dtype=dtype)
    means = attend(logits, value, torch.zeros(2, 5, 5, dtype=torch.bool))
    torch.testing.assert_close(means, value.mean(dim=1, keepdim=True).expand_as(means))


def test_leaky_relu_and_its_slope_equal_those_of_jax(clrs: Any) -> None:
    jax = importlib.import_module("jax")
    points = torch.tensor([-300.0, -1.5, -0.0, 0.0, 1e-30, 2.5], requires_grad=True)
    values = leaky_relu(points)
    (slopes,) = torch.autograd.grad(values.sum(), points)
    array = points.detach().numpy()
    np.testing.assert_array_equal(values.detach(), jax.nn.leaky_relu(array))
    np.testing.assert_array_equal(slopes, jax.vmap(jax.grad(jax.nn.leaky_relu))(array))


# The linear layers are in the order in which dm-clrs makes them.
NAMES = {**numbered("value", "skip", "query", "key", "edge", "graph"), "norm": "layer_norm"}


def names_in_v2(num_heads: int) -> dict[str, str]:
    """dm-haiku's names of the layers of GATv2; the linear ones are in the order in which dm-clrs makes them."""
    scores = (f"attention.scores.{head}" for head in range(num_heads))
    first = (f"attention.{name}" for name in ("value", "skip", "key", "query", "edge", "graph"))
    return {**numbered(*first, *scores), "attention.norm": "layer_norm"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GAT, GATv2])
@pytest.mark.parametrize(
    ("suffix", "senders", "num_heads", "layer_norm"), [("", "neighbours", 1, False), ("Full", "all", 2, True)]
)
def test_equals_dm_clrs_with_copied_weights(
    clrs: Any, kind: type[GAT | GATv2], suffix: str, senders: Any, num_heads: int, layer_norm: bool
) -> None:
    theirs = getattr(clrs._src.processors, kind.__name__ + suffix)
    assert_equals_dm_clrs(
        randomised(kind(8, num_heads=num_heads, senders=senders, layer_norm=layer_norm)),
        random_inputs(8),
        lambda *x: theirs(8, nb_heads=num_heads, use_ln=layer_norm)(*x)[0],
        NAMES if kind is GAT else names_in_v2(num_heads),
    )


@pytest.mark.slow
def test_views_equal_dm_clrs_with_copied_weights(clrs: Any) -> None:
    assert_equals_dm_clrs(
        randomised(GATv2D2(8, num_heads=2)),
        random_views(8, num_nodes=4),
        lambda *x: clrs._src.processors.GATv2FullD2(8, nb_heads=2, use_ln=True).d2_forward(*x),
        names_in_v2(num_heads=2),
    )
