"""GAT, and the pieces of it that GATv2 takes."""
# Axes: B graphs, N nodes, H hidden. What belongs to an edge is [B, sender, receiver, ...].

import importlib
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
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

from nar.processors.gat import GAT, attend, leaky_relu

Make = Callable[[int], GAT]

VARIANTS: dict[str, Make] = variants(
    GAT, {"num_heads": (1, 2), "senders": ("neighbours", "all"), "layer_norm": (False, True)}
)
every_variant = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)


@every_variant
def test_commutes_with_renaming_the_nodes(make: Make) -> None:
    assert_permutation_equivariant(make(4), random_inputs(4))


def states_as_loops(processor: GAT, inputs: Inputs) -> Tensor:
    """The equations of GAT, one node i and one head after another."""
    p = processor
    states = torch.empty_like(inputs.hidden)
    num_graphs, num_nodes, hidden_dim = states.shape
    num_heads = p.query.out_features
    width = hidden_dim // num_heads
    z = torch.cat([inputs.node_fts, inputs.hidden], dim=-1)
    for b, i in product(range(num_graphs), range(num_nodes)):
        heard = [j for j in range(num_nodes) if p.senders == "all" or inputs.adj[b, i, j]]
        state = p.skip(z[b, i]).clone()
        for head in range(num_heads):
            share = slice(head * width, (head + 1) * width)
            exponentials = []
            for j in heard:
                score = p.query(z[b, i]) + p.key(z[b, j]) + p.edge(inputs.edge_fts[b, i, j])
                score = (score + p.graph(inputs.graph_fts[b]))[head]
                exponentials.append((score if score > 0 else 0.01 * score).exp())
            for j, exponential in zip(heard, exponentials, strict=True):
                state[share] += exponential / sum(exponentials) * p.value(z[b, j])[share]
        states[b, i] = normalised(state.clamp(min=0), p.norm)
    return states


@every_variant
def test_states_equal_the_equation_written_as_loops(make: Make) -> None:
    processor, inputs = make(4), random_inputs(4)
    torch.testing.assert_close(processor(*inputs)[0], states_as_loops(processor, inputs))


@every_variant
def test_gradient_equals_finite_differences(make: Make) -> None:
    assert_gradient_equals_finite_differences(make(4), random_inputs(4, num_graphs=1, num_nodes=3))


@pytest.mark.parametrize("num_heads", [1, 4])
def test_a_node_hears_only_those_it_sends_to(num_heads: int) -> None:
    processor, inputs = GAT(16, num_heads=num_heads).double(), random_inputs(16)
    assert influences(processor, inputs).mT.equal(inputs.adj)


def test_the_senders_all_are_heard_whatever_the_adjacency() -> None:
    processor = GAT(16, senders="all").double()
    inputs = random_inputs(16)._replace(adj=torch.eye(5, dtype=torch.bool).expand(2, 5, 5))
    assert influences(processor, inputs).all()


def test_adjacency_changes_nothing_where_all_are_heard() -> None:
    processor, inputs = GAT(8, senders="all").double(), random_inputs(8)
    assert processor(*inputs._replace(adj=~inputs.adj))[0].equal(processor(*inputs)[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_an_adjacency_of_zeros_and_ones_is_one_of_truth_values(dtype: torch.dtype) -> None:
    processor, inputs = GAT(8).double(), random_inputs(8)
    assert processor(*inputs._replace(adj=inputs.adj.to(dtype)))[0].equal(processor(*inputs)[0])


def test_has_no_edge_states() -> None:
    processor = GAT(4).double()
    assert not processor.has_edge_states
    assert processor(*random_inputs(4))[1] is None


def test_without_layer_norm_states_keep_their_scale() -> None:
    inputs, processor = random_inputs(8), GAT(8, layer_norm=False).double()
    with torch.no_grad():
        processor.skip.weight *= 100
    assert processor(*inputs)[0].std() > 10


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_node_that_hears_nobody_takes_the_mean_of_all(dtype: torch.dtype) -> None:
    logits, value = torch.randn(2, 5, 5, 2, dtype=dtype), torch.randn(2, 5, 4, dtype=dtype)
    means = attend(logits, value, torch.zeros(2, 5, 5, dtype=torch.bool))
    torch.testing.assert_close(means, value.mean(dim=1, keepdim=True).expand_as(means))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("senders", ["neighbours", "all"])
def test_states_and_gradients_are_finite_in_low_precision(senders: Any, dtype: torch.dtype) -> None:
    inputs, processor = random_inputs(16, dtype=torch.float32), GAT(16, num_heads=2, senders=senders)
    with torch.autocast("cpu", dtype=dtype):
        states = results(processor, inputs._replace(node_fts=100 * inputs.node_fts))
    assert_finite_with_gradients(processor, states)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_dim": 0}, "expected hidden_dim ≥ 1 .*given 0"),
        ({"num_heads": 0}, "expected .*num_heads ≥ 1 .*given .*0"),
        ({"hidden_dim": 8, "num_heads": 3}, "num_heads .*that divides it, given 8 and 3"),
        ({"senders": "neighbors"}, "expected senders .*neighbours.*all.*given .*neighbors"),
    ],
)
def test_a_bad_argument_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GAT(**arguments)


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


@pytest.mark.parametrize(
    ("kind", "senders", "num_heads", "layer_norm"), [("GAT", "neighbours", 1, False), ("GATFull", "all", 2, True)]
)
def test_equals_dm_clrs_with_copied_weights(
    clrs: Any, kind: str, senders: Any, num_heads: int, layer_norm: bool
) -> None:
    theirs = getattr(clrs._src.processors, kind)
    assert_equals_dm_clrs(
        randomised(GAT(8, num_heads=num_heads, senders=senders, layer_norm=layer_norm)),
        random_inputs(8),
        lambda *x: theirs(8, nb_heads=num_heads, use_ln=layer_norm)(*x)[0],
        NAMES,
    )
