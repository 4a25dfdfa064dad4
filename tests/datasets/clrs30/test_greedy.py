"""Activity selection and task scheduling, beside independent computations and, on odd inputs, beside dm-clrs."""

from bisect import bisect_right
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from engine import assert_equals_dm_clrs, by_hand

from nar.batch import NumpyArray
from nar.datasets.clrs30.greedy import GREEDY
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.engine.algorithm import trajectories

SIZES = (2, 3, 16, 100, 512)

every_algorithm = pytest.mark.parametrize("name", GREEDY)


def outcomes(name: str, num_nodes: int, **args: Any) -> list[tuple[NumpyArray, ...]]:
    """What some random trajectories are given, and which nodes they select."""
    rng = np.random.RandomState(num_nodes)
    feedback = trajectories(CLRS_30[name], num_nodes=num_nodes, num_samples=8, rng=rng, hints="none", **args)
    _, first, second = feedback.features.inputs.values()
    return list(zip(first, second, feedback.outputs["selected"].astype(bool), strict=True))


def selected(name: str, *data: list[float]) -> list[int]:
    """A mask of the nodes that are selected on the given data."""
    mask: list[int] = by_hand(name, *map(np.array, data)).outputs["selected"][0].tolist()
    return mask


def most_activities(s: NumpyArray, f: NumpyArray) -> int:
    """How many activities can be had without overlap, by dynamic programming over the finish times."""
    finishes = np.sort(f).tolist()
    most = [0]
    for start in s[f.argsort()]:
        compatible = bisect_right(finishes, start, hi=len(most) - 1)
        most.append(max(most[-1], most[compatible] + 1))
    return most[-1]


@pytest.mark.parametrize("num_nodes", SIZES)
def test_selected_activities_do_not_overlap_and_are_as_many_as_can_be(num_nodes: int) -> None:
    for s, f, mask in outcomes("activity_selector", num_nodes):
        starts, finishes = np.sort(s[mask]), np.sort(f[mask])
        assert (starts[1:] >= finishes[:-1]).all()
        assert mask.sum() == most_activities(s, f)


@pytest.mark.parametrize("num_nodes", SIZES)
@pytest.mark.parametrize("max_deadline", [None, 1, 5])
def test_a_task_is_selected_if_those_of_more_value_leave_time_for_it(num_nodes: int, max_deadline: int | None) -> None:
    for d, w, mask in outcomes("task_scheduling", num_nodes, max_deadline=max_deadline):
        for deadline, value, is_selected in zip(d, w, mask, strict=True):
            assert is_selected == (mask[w > value].sum() < deadline)


def test_tasks_with_one_deadline_are_selected_by_value() -> None:
    assert selected("task_scheduling", [3, 3, 3, 3, 3], [0.1, 0.5, 0.2, 0.4, 0.3]) == [0, 1, 0, 1, 1]


def test_deadlines_go_from_one_to_the_largest() -> None:
    d = np.concatenate([d for d, _, _ in outcomes("task_scheduling", 100, max_deadline=3)])
    assert set(d) == {1, 2, 3}


def test_an_activity_may_start_when_another_finishes() -> None:
    assert selected("activity_selector", [0.0, 1.0, 2.0], [1.0, 2.0, 3.0]) == [1, 1, 1]


def test_of_activities_at_the_same_time_one_is_selected() -> None:
    assert sum(selected("activity_selector", [0.0] * 5, [1.0] * 5)) == 1


def test_activities_that_take_no_time_do_not_overlap() -> None:
    assert selected("activity_selector", [0.5] * 5, [0.5] * 5) == [1] * 5


@pytest.mark.slow
@every_algorithm
def test_a_single_node_is_selected(name: str) -> None:
    assert selected(name, [1.0], [2.0]) == [1]


@pytest.mark.slow
@every_algorithm
def test_equal_values_equal_dm_clrs(clrs: Any, name: str) -> None:
    for num_nodes in (2, 5, 40):
        for first, second in ((1, 1), (1, 2), (2, 0)):
            assert_equals_dm_clrs(clrs, name, np.full(num_nodes, first), np.full(num_nodes, float(second)))


@every_algorithm
def test_ties_equal_dm_clrs(clrs: Any, name: str) -> None:
    rng = np.random.RandomState(0)
    for num_nodes in [*range(2, 30), 64, 300]:
        deadlines, values = rng.randint(1, 5, num_nodes), rng.randint(0, 5, num_nodes).astype(float)
        times = (np.minimum(deadlines, values), np.maximum(deadlines, values))
        assert_equals_dm_clrs(clrs, name, *(times if name == "activity_selector" else (deadlines, values)))


@every_algorithm
def test_the_data_stay_as_they_are(name: str) -> None:
    data = GREEDY[name].draw(np.random.RandomState(0), 20)
    before = deepcopy(data)
    by_hand(name, *data)
    assert all(map(np.array_equal, data, before))
