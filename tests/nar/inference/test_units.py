"""A user's own numbers, as pages show them."""

from typing import Any

import networkx as nx
import numpy as np
import pytest
from knowing import instances_of

from nar.datasets import ALGORITHMS
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30, run_on
from nar.inference.drawn import own_form
from nar.inference.units import POWERS, units_of
from nar.processors import PGN
from nar.specs import Type
from nar.training.reasoner import Reasoner

SHIFTED = ("insertion_sort", "bubble_sort", "heapsort", "quicksort", "minimum", "quickselect", "binary_search")
SHIFTED += ("activity_selector", "segments_intersect", "graham_scan", "jarvis_march")
AS_THEY_ARE = ("pos", "atans", "i_rank", "t")
"""Scalars that say the same in all units."""


def enlarged(algorithm: str, drawn: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a sampler drew, in units of a 64th; where that changes no answer, from another zero."""
    shift = 10.0 if algorithm in SHIFTED else 0.0
    if algorithm == "task_scheduling":
        return drawn[0], drawn[1] * 64
    return tuple(x if isinstance(x, int) else x * 64.0 + shift for x in drawn)


WITHOUT_WEIGHTS = {name for name, known in CLRS_30.items() if known.graph is not None and known.graph.weights is None}


@pytest.mark.parametrize("algorithm", sorted({*POWERS} - WITHOUT_WEIGHTS - {"optimal_bst"}))  # which divides by sums
def test_scalars_in_units_are_those_of_the_algorithm_on_the_users_numbers(algorithm: str) -> None:
    known, spec = CLRS_30[algorithm], recipe_spec(algorithm)
    own = enlarged(algorithm, known.draw(np.random.RandomState(0), 6))
    data, options = own_form(algorithm, own)
    (instance,) = instances_of(algorithm, data, **options)
    units = units_of(instance)
    true = run_on(algorithm, [own], num_nodes=instance.num_nodes)
    given = instance.trajectory("all")
    for expected, found in ((true.features.inputs, given.features.inputs), (true.features.hints, given.features.hints)):
        for name in found:
            if name in spec and spec[name].type is Type.SCALAR and name not in AS_THEY_ARE:
                factor, shift = units.get(name, (1.0, 0.0))
                shown = found[name] * factor + shift
                np.testing.assert_allclose(shown, expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_every_algorithm_that_is_given_numbers_has_units() -> None:
    without = {"lcs_length", "naive_string_matcher", "kmp_matcher"}
    assert POWERS.keys() == {*ALGORITHMS} - without


def test_frequencies_of_a_search_tree_are_shown_as_they_were_given() -> None:
    (instance,) = instances_of("optimal_bst", ([3.0, 5.0], [1.0, 2.0, 9.0]))
    assert units_of(instance) == dict.fromkeys(("p", "q", "e", "w"), (20.0, 0.0))


def test_a_page_has_the_users_weights_and_keys() -> None:
    reasoner = Reasoner({name: recipe_spec(name) for name in ("dijkstra", "minimum")}, PGN(hidden_dim=4))
    graph = nx.Graph()
    graph.add_weighted_edges_from([("a", "b", 100.0), ("b", "c", 250.0)])
    answer = reasoner.run("dijkstra", graph, source="a")
    tracks = {track.name: track for track in answer.show().trajectory.tracks}
    assert tracks["A"].true[0][:3] == [0.0, 100.0, 0.0]
    assert tracks["d"].true[-1] == [0.0, 100.0, 350.0]
    assert tracks["d"].predicted[-1] == pytest.approx(answer.prediction.hints["d"][-1] * answer.scale, abs=1e-3)
    assert tracks["d"].tolerance == pytest.approx(35.0)
    keys = reasoner.run("minimum", [30.0, 10.0, 20.0]).show().trajectory
    assert [label[0] for label in keys.labels] == ["30", "10", "20"]


def test_nothing_is_changed_of_numbers_that_were_not() -> None:
    (instance,) = instances_of("minimum", [0.5, 0.25])
    assert units_of(instance) == {}
