"""How many steps a model is run for: known by sizes, seen in predicted hints, or at most."""

from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from knowing import Knowing, instances_of
from own_algorithm import EveryKind

from nar.batch import Batch, num_steps_of, to_tensors
from nar.datasets import ALGORITHMS
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30, run_on, sample
from nar.inference import run
from nar.inference.drawn import own_form
from nar.inference.steps import COMPARING, LENGTHS, LENGTHS_BY_REACH, length_by_size, longest
from nar.model.losses import losses
from nar.processors import MPNN
from nar.training.reasoner import Reasoner

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
STANDING_STILL = ("bellman_ford", "bfs", "lcs_length", "matrix_chain_order")
"""The algorithms that end when nothing changes any more."""
KNOWN_BY_SIZE = (*LENGTHS, *LENGTHS_BY_REACH)


@every_algorithm
@settings(derandomize=True, deadline=None, max_examples=4)
@given(size=st.integers(4, 40), seed=st.integers(0, 99))
def test_lengths_by_size_are_those_of_the_classical_algorithm(algorithm: str, size: int, seed: int) -> None:
    drawn = CLRS_30[algorithm].draw(np.random.RandomState(seed), size)
    data, options = own_form(algorithm, drawn)
    (instance,) = instances_of(algorithm, data, **options)
    length = int(run_on(algorithm, [drawn], num_nodes=size, hints="none").features.lengths[0])
    if algorithm in KNOWN_BY_SIZE:
        assert length_by_size(instance) == length
    else:
        assert length_by_size(instance) is None
        assert algorithm in COMPARING or num_steps_of(length) <= longest(instance)


@pytest.mark.slow
@every_algorithm
@settings(derandomize=True, deadline=None, max_examples=5)
@given(size=st.integers(4, 12), seed=st.integers(0, 99))
def test_true_hints_tell_the_last_step(algorithm: str, size: int, seed: int) -> None:
    data, options = own_form(algorithm, CLRS_30[algorithm].draw(np.random.RandomState(seed), size))
    model = Knowing(algorithm, instances_of(algorithm, data, **options), with_hints=True, strict=True)
    answer = run(model, data, **options)
    check = answer.check()
    # Right after the classical number of steps alone; these two may change distances or costs by little at the end.
    assert check.same or algorithm in ("bellman_ford", "matrix_chain_order")
    reasons = {"length": KNOWN_BY_SIZE, "still": STANDING_STILL, "classical": COMPARING}
    assert answer.stopped_by == next((reason for reason, names in reasons.items() if algorithm in names), "end")
    assert len(answer.steps) == answer.num_steps


@pytest.mark.parametrize(
    ("algorithm", "data"),
    [
        ("articulation_points", nx.star_graph(60)),
        ("bridges", nx.relabel_nodes(nx.star_graph(60), {0: 60, 60: 0})),
        ("bridges", nx.complete_graph(20)),
        ("quicksort", np.arange(40)),
        ("quickselect", np.arange(40)[::-1]),
        ("heapsort", np.arange(40)),
        ("mst_kruskal", nx.path_graph(60)),
    ],
)
def test_the_limit_is_no_less_than_the_longest_run(algorithm: str, data: Any) -> None:
    (instance,) = instances_of(algorithm, data, weight=None)
    assert num_steps_of(int(instance.trajectory("none").features.lengths[0])) <= longest(instance)


@pytest.mark.parametrize("algorithm", COMPARING)
@pytest.mark.parametrize(("haystack", "needle"), [("abcabcd", "abcd"), ("aaaa", "b"), ("aaab", "ab"), ("ab", "ab")])
def test_string_matchers_are_run_for_as_long_as_letters_are_compared(
    algorithm: str, haystack: str, needle: str
) -> None:
    reasoner = Reasoner({algorithm: recipe_spec(algorithm)}, MPNN(hidden_dim=4))
    auto, classical = (reasoner.run((haystack, needle), steps=steps) for steps in ("auto", "classical"))
    assert (auto.num_steps, auto.stopped_by) == (classical.num_steps, "classical")
    assert auto.outputs == classical.outputs
    assert reasoner.run((haystack, needle), steps=2).num_steps == 2


def test_an_algorithm_of_a_users_own_is_run_until_its_hints_stand_still() -> None:
    algorithm = EveryKind()
    reasoner = Reasoner({algorithm.name: recipe_spec(algorithm)}, MPNN(hidden_dim=4))
    data = algorithm.draw(np.random.RandomState(0), 5)
    answer = reasoner.run(algorithm, data)
    assert answer.stopped_by in ("still", "limit")
    assert answer.num_steps <= 20
    assert reasoner.run(algorithm, data, steps="classical").num_steps == 2


def test_a_limit_ends_what_does_not_stand_still() -> None:
    graph = nx.path_graph(8)
    model = Knowing("bfs", instances_of("bfs", graph, source=0), with_hints=True)
    answer = run(model, graph, source=0, limit=3)
    assert (answer.num_steps, answer.stopped_by) == (3, "limit")
    untrained = Reasoner({"bfs": recipe_spec("bfs")}, MPNN(hidden_dim=4)).run(graph, source=0)
    assert untrained.num_steps <= 8


def test_steps_that_are_given_are_taken() -> None:
    graph = nx.path_graph(8)
    model = Knowing("bfs", instances_of("bfs", graph, source=0), with_hints=True, strict=True)
    for steps in (1, 7, 9):
        answer = run(model, graph, source=0, steps=steps)
        assert (answer.num_steps, answer.stopped_by) == (steps, "given")
        assert answer.check().same == (steps == 7)
    assert run(model, graph, source=0, steps="classical").num_steps == 7


FAMILIES = ("path", "tree", "erdos_renyi")


def share_of_right_entries(answers: list[Any]) -> float:
    """The share of all entries of all answers that the classical algorithm has too."""
    counts = [answer.check().entries["pi"] for answer in answers]
    return sum(right for right, _ in counts) / sum(number for _, number in counts)


@pytest.mark.slow
def test_a_trained_model_knows_when_to_stop_on_graphs_of_twelve_nodes() -> None:
    reasoner = Reasoner({"bfs": recipe_spec("bfs")}, MPNN(hidden_dim=16))
    optimizer = torch.optim.Adam(reasoner.parameters(), lr=3e-3)
    for step in range(150):
        drawn = sample("bfs", graphs=FAMILIES[step % 3], num_nodes=(5, 8, 11)[step % 3], num_samples=16, seed=step)
        batch = Batch("bfs", 0, 0, to_tensors(apply_recipe("bfs", drawn), recipe_spec("bfs")))
        loss = torch.stack(list(losses(reasoner.specs["bfs"], reasoner(batch), batch.feedback).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    inputs = sample("bfs", graphs="path", num_nodes=12, num_samples=16, seed=99).features.inputs
    graphs, sources = list(inputs["A"]), [int(s) for s in inputs["s"]]
    classical, by_itself, too_few = (
        share_of_right_entries(reasoner.run(graphs, source=sources, steps=steps)) for steps in ("classical", "auto", 1)
    )
    assert classical > 0.9
    assert by_itself > classical - 0.05
    assert too_few < classical / 2
