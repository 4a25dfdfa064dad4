"""Kadane's algorithm, beside all subarrays and, on odd inputs, beside dm-clrs."""

from typing import Any

import numpy as np
import pytest
from engine import assert_equals_dm_clrs, by_hand

from nar.batch import NumpyArray
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.engine.algorithm import trajectories

NAME = "find_maximum_subarray_kadane"


def found(keys: NumpyArray) -> tuple[int, int]:
    """The first and the last index of the maximum subarray."""
    outputs = by_hand(NAME, keys).outputs
    return int(outputs["start"][0]), int(outputs["end"][0])


@pytest.mark.parametrize("num_nodes", [2, 3, 16, 100, 512])
def test_no_other_subarray_has_a_larger_sum(num_nodes: int) -> None:
    rng = np.random.RandomState(num_nodes)
    (inputs, _, _), outputs = trajectories(CLRS_30[NAME], num_nodes=num_nodes, num_samples=8, rng=rng, hints="none")
    for keys, start, end in zip(inputs["key"], outputs["start"], outputs["end"], strict=True):
        before, up_to = np.cumsum(keys) - keys, np.cumsum(keys)
        sums = np.where(np.tri(num_nodes, dtype=bool).T, up_to - before[:, None], -np.inf)
        assert (start, end) == np.unravel_index(sums.argmax(), sums.shape)


def test_of_negative_keys_the_largest_is_taken_alone() -> None:
    assert found(np.array([-3.0, -2.0, -1.0, -2.0])) == (2, 2)


def test_of_positive_keys_all_are_taken() -> None:
    assert found(np.array([0.1, 0.2, 0.3])) == (0, 2)


def test_of_equally_good_subarrays_the_first_to_end_is_taken() -> None:
    assert found(np.array([1.0, -1.0, 1.0])) == (0, 0)
    assert found(np.zeros(5)) == (0, 0)


def test_a_single_key_is_a_subarray() -> None:
    assert found(np.array([-1.0])) == (0, 0)


@pytest.mark.parametrize(
    "keys",
    [[0.0, 0.0, 0.0], [-0.0, 0.0], [0.5, 0.5, 0.5, 0.5], [-1.0, -1.0], [1.0, -1.0, 1.0, -1.0], [-5.0, 3.0, -3.0, 3.0]],
)
def test_odd_inputs_equal_dm_clrs(clrs: Any, keys: list[float]) -> None:
    assert_equals_dm_clrs(clrs, NAME, np.array(keys))


def test_ties_equal_dm_clrs(clrs: Any) -> None:
    rng = np.random.RandomState(0)
    for num_nodes in range(2, 20):
        assert_equals_dm_clrs(clrs, NAME, rng.randint(-1, 2, num_nodes).astype(float))
