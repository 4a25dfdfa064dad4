"""Minimum, binary search and quickselect, beside NumPy and, on odd inputs, beside dm-clrs."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from engine import assert_equals_dm_clrs, by_hand

from nar.batch import Feedback, NumpyArray
from nar.datasets.algorithm import trajectories
from nar.datasets.clrs30 import SPECS
from nar.datasets.samplers import CLRS_30
from nar.datasets.searching import SEARCHING

SIZES = (2, 3, 16, 100, 512)

every_algorithm = pytest.mark.parametrize("name", SEARCHING)


def outcomes(name: str, num_nodes: int, **args: Any) -> Feedback[NumpyArray]:
    """Inputs and outputs of some random trajectories."""
    rng = np.random.RandomState(num_nodes)
    return trajectories(CLRS_30[name], num_nodes=num_nodes, num_samples=8, rng=rng, hints="none", **args)


def with_target(name: str, keys: NumpyArray, target: float) -> tuple[Any, ...]:
    """What the algorithm is given: the keys, or a target and the sorted keys."""
    return (target, np.sort(keys)) if name == "binary_search" else (keys,)


@pytest.mark.parametrize("num_nodes", SIZES)
def test_minimum_is_numpys(num_nodes: int) -> None:
    (inputs, _, _), outputs = outcomes("minimum", num_nodes)
    assert outputs["min"].tolist() == inputs["key"].argmin(1).tolist()


@pytest.mark.parametrize("num_nodes", SIZES)
def test_binary_search_is_numpys_within_the_array(num_nodes: int) -> None:
    (inputs, _, _), outputs = outcomes("binary_search", num_nodes)
    for keys, target, found in zip(inputs["key"], inputs["target"], outputs["return"], strict=True):
        assert found == min(np.searchsorted(keys, target), num_nodes - 1)


@pytest.mark.parametrize("num_nodes", SIZES)
def test_quickselect_finds_the_upper_median(num_nodes: int) -> None:
    (inputs, _, _), outputs = outcomes("quickselect", num_nodes)
    assert outputs["median"].tolist() == inputs["key"].argsort(1)[:, num_nodes // 2].tolist()


def test_binary_search_takes_one_step_for_each_halving() -> None:
    assert set(outcomes("binary_search", 512).features.lengths) == {1 + 9}


def test_the_first_of_equal_minima_is_found() -> None:
    assert by_hand("minimum", np.array([2.0, 1.0, 3.0, 1.0])).outputs["min"] == [1]


@pytest.mark.parametrize(("target", "found"), [(-1.0, 0), (0.0, 0), (1.0, 1), (2.0, 3), (9.0, 4)])
def test_the_first_key_not_below_the_target_is_found(target: float, found: int) -> None:
    assert by_hand("binary_search", target, np.array([0.0, 1.0, 1.0, 2.0, 2.0])).outputs["return"] == [found]


def test_quickselect_finds_a_median_among_equal_keys() -> None:
    rng = np.random.RandomState(0)
    for num_nodes in range(1, 40):
        keys = rng.randint(0, 4, num_nodes).astype(float)
        median = by_hand("quickselect", keys).outputs["median"]
        assert keys[median] == np.sort(keys)[num_nodes // 2]


@every_algorithm
@pytest.mark.parametrize(
    "keys",
    [[0.5, 0.5, 0.5, 0.5], [0.0, 0.0], [1.0, 0.0], [1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.0], [-1.0, 1e300]],
)
def test_odd_inputs_equal_dm_clrs(clrs: Any, name: str, keys: list[float]) -> None:
    for target in (-2.0, 0.5, 3.0, 1e301):
        assert_equals_dm_clrs(clrs, name, *with_target(name, np.array(keys), target))


@every_algorithm
def test_ties_equal_dm_clrs(clrs: Any, name: str) -> None:
    rng = np.random.RandomState(0)
    for num_nodes in range(2, 20):
        keys = rng.randint(0, 4, num_nodes).astype(float)
        assert_equals_dm_clrs(clrs, name, *with_target(name, keys, float(rng.randint(0, 4))))


@every_algorithm
def test_a_single_key_is_found(name: str) -> None:
    for target in (0.0, 1.0):
        ((output, index),) = by_hand(name, *with_target(name, np.array([0.5]), target)).outputs.items()
        assert (SPECS[name][output].stage, index.tolist()) == ("output", [0])


@every_algorithm
def test_the_data_stay_as_they_are(name: str) -> None:
    keys = np.random.RandomState(0).uniform(size=20)
    data = with_target(name, keys, 0.5)
    before = deepcopy(data)
    by_hand(name, *data)
    assert np.array_equal(data[-1], before[-1])
