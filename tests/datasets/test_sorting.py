"""The sorting algorithms, beside NumPy's and, on odd inputs, beside dm-clrs."""

from typing import Any

import numpy as np
import pytest
from engine import assert_equals_dm_clrs, by_hand

from nar.batch import NumpyArray
from nar.datasets.algorithm import trajectories
from nar.datasets.samplers import CLRS_30
from nar.datasets.sorting import SORTING

every_algorithm = pytest.mark.parametrize("name", SORTING)


def order(pred: NumpyArray) -> list[int]:
    """The chain that pointers to predecessors form, from its first node, which points at itself."""
    (first,) = np.flatnonzero(pred == np.arange(len(pred)))
    successors = {int(sender): node for node, sender in enumerate(pred) if node != first}
    chain = [int(first)]
    while chain[-1] in successors:
        chain.append(successors[chain[-1]])
    assert len(chain) == len(pred)
    return chain


@every_algorithm
@pytest.mark.parametrize("num_nodes", [2, 3, 16, 100, 512])
def test_the_order_is_numpys(name: str, num_nodes: int) -> None:
    rng = np.random.RandomState(num_nodes)
    (inputs, _, _), outputs = trajectories(CLRS_30[name], num_nodes=num_nodes, num_samples=4, rng=rng, hints="none")
    for keys, pred in zip(inputs["key"], outputs["pred"], strict=True):
        assert order(pred) == keys.argsort().tolist()


@every_algorithm
def test_equal_keys_are_all_there_and_in_order(name: str) -> None:
    rng = np.random.RandomState(0)
    for num_nodes in range(1, 40):
        keys = rng.randint(0, 4, num_nodes).astype(float)
        pred = by_hand(name, keys).outputs["pred"][0]
        assert keys[order(pred)].tolist() == np.sort(keys).tolist()


@pytest.mark.parametrize("name", ["insertion_sort", "bubble_sort"])
def test_equal_keys_stay_in_their_order(name: str) -> None:
    keys = np.array([1.0, 0.0, 1.0, 0.0, 1.0])
    assert order(by_hand(name, keys).outputs["pred"][0]) == [1, 3, 0, 2, 4]


@every_algorithm
@pytest.mark.parametrize(
    "keys",
    [[0.5, 0.5, 0.5, 0.5], [0.0, 0.0], [1.0, 0.0], [1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.0], [-0.0, 0.0]],
)
def test_odd_inputs_equal_dm_clrs(clrs: Any, name: str, keys: list[float]) -> None:
    assert_equals_dm_clrs(clrs, name, np.array(keys))


@every_algorithm
def test_ties_equal_dm_clrs(clrs: Any, name: str) -> None:
    rng = np.random.RandomState(0)
    for num_nodes in range(2, 20):
        assert_equals_dm_clrs(clrs, name, rng.randint(0, 4, num_nodes).astype(float))


@every_algorithm
def test_a_single_key_is_in_order(name: str) -> None:
    assert by_hand(name, np.array([0.5])).outputs["pred"].tolist() == [[0]]


@every_algorithm
def test_the_keys_stay_as_they_are(name: str) -> None:
    keys = np.array([2.0, 1.0, 3.0])
    by_hand(name, keys)
    assert keys.tolist() == [2.0, 1.0, 3.0]
