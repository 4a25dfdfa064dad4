"""The sorting algorithms, beside NumPy's."""

import numpy as np
import pytest
from engine import by_hand, order

from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.clrs30.sorting import SORTING
from nar.datasets.engine.algorithm import trajectories

every_algorithm = pytest.mark.parametrize("name", SORTING)


@every_algorithm
@pytest.mark.parametrize("num_nodes", [2, 3, 16, 100, 512])
def test_the_order_is_numpys(name: str, num_nodes: int) -> None:
    rng = np.random.RandomState(num_nodes)
    (inputs, _, _), outputs = trajectories(CLRS_30[name], num_nodes=num_nodes, num_samples=4, rng=rng, hints="none")
    for keys, pred in zip(inputs["key"], outputs["pred"], strict=True):
        assert order(pred) == keys.argsort().tolist()


@every_algorithm
def test_the_keys_stay_as_they_are(name: str) -> None:
    keys = np.array([2.0, 1.0, 3.0])
    by_hand(name, keys)
    assert keys.tolist() == [2.0, 1.0, 3.0]
