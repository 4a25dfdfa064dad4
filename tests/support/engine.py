"""The engine's algorithms on given data, beside dm-clrs's."""

from copy import deepcopy
from typing import Any

import numpy as np

from nar.batch import Feedback, NumpyArray
from nar.datasets import SPECS, to_dm_clrs
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.engine.algorithm import trajectories


def by_hand(name: str, *data: Any, **settings: Any) -> Feedback[NumpyArray]:
    """The trajectory of an algorithm on the given data."""
    rng = np.random.RandomState(0)
    return trajectories(
        CLRS_30[name], num_nodes=0, num_samples=1, rng=rng, draw=lambda rng, num_nodes: data, **settings
    )


def order(pred: NumpyArray) -> list[int]:
    """The chain that pointers to predecessors form, from its first node, which points at itself."""
    (first,) = np.flatnonzero(pred == np.arange(len(pred)))
    successors = {int(sender): node for node, sender in enumerate(pred) if node != first}
    chain = [int(first)]
    while chain[-1] in successors:
        chain.append(successors[chain[-1]])
    assert len(chain) == len(pred)
    return chain


def assert_equals_dm_clrs(clrs: Any, name: str, *data: Any) -> None:
    """Fail if on the given data a probe differs from dm-clrs's."""
    _, probes = getattr(clrs._src.algorithms, name)(*deepcopy(data))
    assert_equals_probes(clrs, name, by_hand(name, *data), probes)


def assert_equals_probes(clrs: Any, name: str, ours: Feedback[NumpyArray], probes: Any) -> None:
    """Fail if one trajectory differs from the probes of dm-clrs's."""
    (inputs, hints, _), outputs = to_dm_clrs(SPECS[name], ours)
    theirs = clrs._src.probing.split_stages(probes, clrs._src.specs.SPECS[name])
    for stage, points in zip((inputs, outputs, hints), theirs, strict=True):
        for point in points:
            np.testing.assert_array_equal(stage[point.name], point.data, err_msg=point.name)
