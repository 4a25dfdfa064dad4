"""Greedy algorithms: activity selection and task scheduling.

Source: Cormen et al., "Introduction to Algorithms"; Gavril, "Algorithms for minimum coloring, maximum clique, minimum
covering by cliques, and maximum independent set of a chordal graph", 1972; ``clrs/_src/algorithms/greedy.py`` of
dm-clrs 2.0.3, whose probes these are.
"""
# NumPy sorts and compiled code selects: numba would put equal values into another order than dm-clrs does.

from typing import Any

import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets.clrs30.given import LARGEST_EXACT, array_of, within
from nar.datasets.clrs30.known import InText, KnownAlgorithm, table
from nar.datasets.clrs30.sorting import sequence
from nar.datasets.engine.algorithm import positions
from nar.datasets.engine.trace import Trace, record
from nar.errors import UserError


def _draw_activities(
    rng: np.random.RandomState, num_nodes: int, *, low: float = 0.0, high: float = 1.0
) -> tuple[NumpyArray, NumpyArray]:
    """Start and finish times: pairs drawn uniformly from [low, high)."""
    times, other_times = rng.uniform(low, high, (2, num_nodes))
    return np.minimum(times, other_times), np.maximum(times, other_times)


def _take_activities(num_nodes: int, s: Any, f: Any) -> tuple[NumpyArray, NumpyArray]:
    """Start and finish times."""
    s, f = array_of("s", s, (num_nodes,)), array_of("f", f, (num_nodes,))
    if (late := np.flatnonzero(s > f)).size:
        raise UserError(f"expected activities that finish after they start, given {s[late[0]]} to {f[late[0]]}")
    return s, f


def _pair_inputs(first: NumpyArray, second: NumpyArray) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """``pos`` and what is given of each node: ``s`` and ``f``, or ``d`` and ``w``."""
    return positions(len(first)), first, second


def activity_selector(s: NumpyArray, f: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Select activities that do not overlap, as many as possible."""
    return _select_activities(s, f, f.argsort(), trace)


@njit(cache=True)
def _select_activities(s: NumpyArray, f: NumpyArray, by_finish: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Take the activity that finishes first, and then each that starts no earlier than the last one taken finishes."""
    pred = sequence(np.arange(len(s)))
    selected = np.zeros(len(s), np.int8)
    record(trace, pred, selected, 0, 0)
    k = by_finish[0]
    for m in by_finish:
        if m == k or s[m] >= f[k]:
            selected[m] = 1
            k = m
        record(trace, pred, selected, m, k)
    return (selected,)


def _draw_tasks(
    rng: np.random.RandomState,
    num_nodes: int,
    *,
    max_deadline: int | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> tuple[NumpyArray, NumpyArray]:
    """Deadlines from 1 to `max_deadline` (the number of tasks if None), and values drawn uniformly from [low, high)."""
    if max_deadline is None:
        max_deadline = num_nodes
    return rng.randint(1, max_deadline + 1, num_nodes), rng.uniform(low, high, num_nodes)


def _take_tasks(num_nodes: int, d: Any, w: Any) -> tuple[NumpyArray, NumpyArray]:
    """Deadlines and values."""
    return within("d", d, (num_nodes,), 1, LARGEST_EXACT, is_whole=True), array_of("w", w, (num_nodes,))


def task_scheduling(d: NumpyArray, w: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Select tasks of one unit of time each, to be done in the order of their values and before their deadlines."""
    return _select_tasks(d, (-w).argsort(), trace)


@njit(cache=True)
def _select_tasks(d: NumpyArray, by_value: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Take one task after another, the most valuable first, unless its deadline is no later than the time t by then."""
    pred = sequence(np.arange(len(d)))
    selected = np.zeros(len(d), np.int8)
    t = 0
    record(trace, pred, selected, 0, t)
    for i in by_value:
        if t < d[i]:
            selected[i] = 1
            t += 1
        record(trace, pred, selected, i, t)
    return (selected,)


GREEDY = table(
    KnownAlgorithm(
        "activity_selector", _draw_activities, _pair_inputs, activity_selector, _take_activities, InText(31, 40)
    ),
    KnownAlgorithm("task_scheduling", _draw_tasks, _pair_inputs, task_scheduling, _take_tasks, InText(31, 41)),
)
