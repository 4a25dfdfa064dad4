"""MemNet."""
# Axes: B graphs, N nodes, H hidden, D embedding. What belongs to an edge is [B, sender, receiver, ...].

import importlib
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from layers import (
    ORDER,
    assert_equals_dm_clrs,
    floating,
    random_words,
    randomised,
    renamed,
)

from nar.errors import UserError
from nar.processors.memnet import MemNet, position_encoding
from nar.training.haiku import MEMNET_ENTRIES, MEMNET_LINEARS

STD = 0.2  # of random weights; larger ones saturate the softmax


@pytest.mark.parametrize("senders", ["neighbours", "all"])
def test_slots_that_differ_tell_nodes_apart_by_their_numbers(senders: Any) -> None:
    processor, inputs = randomised(MemNet(8, senders=senders), STD), random_words(8)
    difference = processor(*renamed(inputs))[0] - processor(*inputs)[0][:, ORDER]
    assert difference.abs().max() > 1e-3


def test_features_and_states_get_no_gradient() -> None:
    inputs = random_words(8)
    variables = [x.requires_grad_() for x in floating(inputs)]
    randomised(MemNet(8), STD)(*inputs)[0].sum().backward()
    assert all(x.grad is None for x in variables)


def test_the_previous_states_change_nothing() -> None:
    processor, inputs = randomised(MemNet(8), STD), random_words(8)
    assert processor(*inputs._replace(hidden=-inputs.hidden))[0].equal(processor(*inputs)[0])


@pytest.mark.parametrize("senders", ["neighbours", "all"])
def test_a_node_hears_only_its_edges_to_neighbours(senders: Any) -> None:
    processor, inputs = randomised(MemNet(16, senders=senders), STD), random_words(16)
    states = processor(*inputs)[0]
    for i, j in product(range(5), repeat=2):
        edge_fts = inputs.edge_fts.clone()
        edge_fts[:, i, j] = edge_fts[:, i, j].flip(-1)
        changed = (processor(*inputs._replace(edge_fts=edge_fts))[0] != states).any(dim=-1)
        expected = torch.zeros(2, 5, dtype=torch.bool)
        expected[:, i] = True if senders == "all" else inputs.adj[:, i, j]
        assert changed.equal(expected)


def test_a_node_hears_the_features_of_no_other_node() -> None:
    processor, inputs = randomised(MemNet(8, senders="all"), STD), random_words(8)
    node_fts = inputs.node_fts.clone()
    node_fts[:, 2] = node_fts[:, 2].flip(-1)
    changed = (processor(*inputs._replace(node_fts=node_fts))[0] != processor(*inputs)[0]).any(dim=-1)
    assert changed.equal(torch.tensor([False, False, True, False, False]).expand(2, 5))


def test_words_are_truncated_features_counted_from_the_end_where_negative() -> None:
    features = torch.tensor([-8.9, -8.0, -1.0, -0.9, 0.0, 2.9, 7.99])
    assert MemNet(8).words(features).tolist() == [0, 0, 7, 0, 0, 2, 7]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("hidden_dim", [8, 301])
def test_features_beyond_all_words_stand_for_the_words_at_the_ends(hidden_dim: int, dtype: torch.dtype) -> None:
    features = torch.tensor([-math.inf, -1e4, -hidden_dim - 2, hidden_dim + 2, 1e4, math.inf], dtype=dtype)
    last = hidden_dim - 1
    assert MemNet(hidden_dim).words(features).tolist() == [0, 0, 0, last, last, last]


def test_states_and_gradients_are_zero_at_the_start() -> None:
    inputs, processor = random_words(8), MemNet(8).double()
    states = processor(*inputs)[0]
    (states * torch.randn_like(states)).sum().backward()
    gradients = [parameter.grad for parameter in processor.parameters()]
    assert not any(x is None or x.any() for x in (states, *gradients))


def test_embeddings_and_slots_start_at_zero_and_linear_layers_do_not() -> None:
    at_zero = {name for name, parameter in MemNet(8).named_parameters() if not parameter.any()}
    assert at_zero == {"query_embeddings", "story_embeddings", "slot_biases", "output_embeddings"}


def test_the_position_encoding_is_no_part_of_the_state_dict() -> None:
    assert "encoding" not in MemNet(8).state_dict()


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_the_position_encoding_is_that_of_dm_clrs(clrs: Any, default: torch.dtype) -> None:
    theirs = importlib.import_module("clrs._src.processors")
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        ours = position_encoding(12, 7)
    finally:
        torch.set_default_dtype(before)
    np.testing.assert_array_equal(ours, theirs._position_encoding(12, 7), strict=True)


def test_a_graph_may_have_one_node_less_than_there_are_slots() -> None:
    assert MemNet(4, memory_size=6).double()(*random_words(4, num_nodes=5))[0].shape == (2, 5, 4)


def test_a_graph_with_as_many_nodes_as_slots_is_refused() -> None:
    with pytest.raises(UserError, match="expected num_nodes ≤ memory_size - 1 = 5, given 6"):
        MemNet(4, memory_size=6).double()(*random_words(4, num_nodes=6))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "senders", "embedding_dim", "memory_size"),
    [("MemNetMasked", "neighbours", 3, 6), ("MemNetFull", "all", 16, 128)],
)
def test_equals_dm_clrs_with_copied_weights(
    clrs: Any, kind: str, senders: Any, embedding_dim: int, memory_size: int
) -> None:
    theirs = getattr(clrs._src.processors, kind)
    settings = {"vocab_size": 8, "sentence_size": 8, "linear_output_size": 8}
    settings |= {"embedding_size": embedding_dim, "memory_size": memory_size}
    assert_equals_dm_clrs(
        randomised(MemNet(8, senders=senders, embedding_dim=embedding_dim, memory_size=memory_size), STD),
        random_words(8),
        lambda *x: theirs(**settings)(*x)[0],
        MEMNET_ENTRIES | MEMNET_LINEARS,
    )
