"""Minimum, binary search and quickselect, beside NumPy."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from engine import by_hand

from nar.batch import Feedback, NumpyArray
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.clrs30.searching import SEARCHING
from nar.datasets.engine.algorithm import trajectories

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


@every_algorithm
def test_the_data_stay_as_they_are(name: str) -> None:
    keys = np.random.RandomState(0).uniform(size=20)
    data = with_target(name, keys, 0.5)
    before = deepcopy(data)
    by_hand(name, *data)
    assert np.array_equal(data[-1], before[-1])
