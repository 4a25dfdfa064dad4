"""How many steps a model is run for on an instance of which nobody has told it how long the algorithm takes.

A test split tells, for it has the length of every trajectory. For an instance of a user's own the number is

1. what the user says, or else
2. the classical algorithm's, where that follows from sizes: of the instance, or of the part that the source reaches;
   and where it is how many letters are compared, which the two strings of a string matcher tell; or
3. seen when it is reached: the model predicts the algorithm's probes at every step, and these tell that it has ended,
   such as that all nodes are black or the heap has one key left; where an algorithm ends when nothing changes any more,
   that two predictions in a row are the same (of which the first is that of the last step); and at the latest
4. the limit that is given, or else the most that the algorithm takes at this size.

None of this runs the algorithm on the instance, which would give away a part of the answer, but for string matchers:
their number is that of comparisons up to the match, which predicted hints miss if they are a single place off. The
number tells a model no more than a test does.
"""
# n is the number of nodes, m that of letters of a needle. A step leads to the next record of hints: there is one record
# more than there are steps.

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from nar.batch import NumpyArray, num_steps_of
from nar.datasets.clrs30.graph_traversal import BLACK
from nar.datasets.engine.arguments import check_between, check_whole, shown
from nar.errors import UserError
from nar.inference.instances import Instance

StoppedBy = Literal["given", "classical", "length", "end", "still", "limit"]
"""Why a model was run for no more steps: the user gave the number; it is the classical algorithm's, as the user asked
or letters were compared; it follows from sizes; predicted hints said that the algorithm has ended, or stood still; or
neither came about.
"""

Values = Mapping[str, NumpyArray]

MOST_STEPS = 10**6
"""The largest number of steps that a user can ask for."""

_WAVERING: Mapping[str, float] = {"lcs_length": 0.5, "matrix_chain_order": 0.01}
"""By how much predicted scalars may change from step to step and still be said to stand still; else by any amount.

Predicted distances of Bellman-Ford never come to rest, and pointers do when the algorithm ends. But of a matrix chain,
and of common subsequences, pointers often rest for a step while costs and lengths (which are whole numbers) change.
"""


class Plan(NamedTuple):
    """How long to run a model on an instance.

    Attributes:
        num_steps: The number of steps where it is known before, else the limit.
        known_by: What it is known by, or ``"limit"``.
        inputs: The instance's input probes.
        has_ended: Whether predicted hints say that the algorithm has ended; None where it ends when nothing changes.
        wavering: By how much scalars may change where nothing is said to change.
    """

    num_steps: int
    known_by: StoppedBy
    inputs: Values
    has_ended: Callable[[Values, Values], bool] | None = None
    wavering: float = math.inf


def plan(instance: Instance, inputs: Values, steps: Any, limit: Any, classical_length: int) -> Plan:
    """How long to run a model on an instance.

    Args:
        instance: The instance.
        inputs: Its input probes, as arrays.
        steps: ``"auto"``, ``"classical"`` (what a test split would tell) or a number.
        limit: Of steps where the number is not known before; None for one that depends on the algorithm and the size.
        classical_length: The number of records of the classical algorithm, looked at for ``"classical"`` and for
            :data:`COMPARING` alone.

    Raises:
        UserError: If `steps` or `limit` is none of these.
    """
    if limit is not None:
        check_whole("limit", limit, at_least=1)
    if steps == "classical":
        return Plan(num_steps_of(classical_length), "classical", inputs)
    if steps != "auto":
        if isinstance(steps, str):
            raise UserError(f"expected steps to be 'auto', 'classical' or a number, given {shown(steps)}")
        check_whole("steps", steps, at_least=1)
        check_between("steps", steps, 1, MOST_STEPS)
        return Plan(int(steps), "given", inputs)
    length = length_by_size(instance)
    if length is not None:
        return Plan(num_steps_of(length), "length", inputs)
    name = instance.algorithm.name
    if name in COMPARING:
        return Plan(num_steps_of(classical_length), "classical", inputs)
    has_ended = IsPartitioned() if name == "quicksort" else _ENDS.get(name)
    return Plan(int(limit or longest(instance)), "limit", inputs, has_ended, _WAVERING.get(name, math.inf))


def length_by_size(instance: Instance) -> int | None:
    """The classical algorithm's number of records, if it follows from sizes; else None."""
    name = instance.algorithm.name
    if name in LENGTHS:
        return LENGTHS[name](instance.num_nodes)
    if name in LENGTHS_BY_REACH:
        return LENGTHS_BY_REACH[name](num_reached(instance.own["weights"], instance.own["source"]))
    return None


def num_reached(weights: NumpyArray, source: int) -> int:
    """How many nodes there are paths to from the source, which is one of them."""
    return int(are_reached(weights, source).sum())


def are_reached(weights: NumpyArray, source: int) -> NumpyArray:
    """Whether there is a path to each node from the source, which is one of them, [N]."""
    edges, reached = weights != 0, np.zeros(len(weights), np.bool_)
    new = np.arange(len(weights)) == source
    while new.any():
        reached |= new
        new = edges[new].any(axis=0) & ~reached
    return reached


LENGTHS: Mapping[str, Callable[[int], int]] = {
    **dict.fromkeys(("insertion_sort", "minimum", "find_maximum_subarray_kadane", "floyd_warshall"), lambda n: n),
    **dict.fromkeys(("activity_selector", "task_scheduling", "optimal_bst"), lambda n: n + 1),
    "bubble_sort": lambda n: 1 + n * (n - 1) // 2,
    "dfs": lambda n: 3 * n,
    "segments_intersect": lambda n: 5,
}
"""The number of records where the number of nodes (of an optimal search tree, of keys) tells it."""

COMPARING = ("naive_string_matcher", "kmp_matcher")
"""The algorithms that record each comparison of two letters, until there is a match."""

LENGTHS_BY_REACH: Mapping[str, Callable[[int], int]] = {
    **dict.fromkeys(("dijkstra", "mst_prim"), lambda reached: reached + 1),
    "dag_shortest_paths": lambda reached: 3 * reached + 1,
}
"""The number of records where the number of nodes that the source reaches tells it."""


def longest(instance: Instance) -> int:
    """The most steps of an algorithm whose number of steps depends on more than sizes; Kruskal's hardly takes more."""
    n, name = instance.num_nodes, instance.algorithm.name
    match name:
        case "binary_search":
            return 1 + math.ceil(math.log2(n))
        case "heapsort":
            return 2 * n * (2 + math.ceil(math.log2(n)))
        case "quicksort" | "quickselect":
            return n * (n + 1) // 2
        case "topological_sort":
            return 3 * n
        case "strongly_connected_components":
            return 6 * n
        case "articulation_points" | "bridges":
            degrees = np.sort((instance.own["weights"] != 0).sum(axis=1))[::-1]
            # All edges of a node are looked at anew after each child: these may all be where most edges are.
            children = np.clip(n - (degrees.cumsum() - degrees), 0, degrees)
            return int(3 * n + (degrees * (1 + children)).sum())
        case "mst_kruskal":
            num_edges = np.count_nonzero(np.triu(instance.own["weights"], k=1))
            return 1 + int(num_edges) * (4 + math.ceil(math.log2(n)))
        case "graham_scan":
            return 2 * n + 2
        case "jarvis_march":
            return 1 + n * (n + 1)
        case "matrix_chain_order" | "bfs" | "bellman_ford" | "lcs_length":
            return n
    return 4 * n  # of an algorithm that is a user's own


def _is_black(hints: Values, inputs: Values) -> bool:
    """Whether depth-first search has finished every node."""
    return bool((hints["color"] == BLACK).all())


def _is_black_again(hints: Values, inputs: Values) -> bool:
    """Whether the second depth-first search has finished every node."""
    return bool(hints["phase"] == 1) and _is_black(hints, inputs)


def _is_narrowed(hints: Values, inputs: Values) -> bool:
    """Whether binary search has come down to one key."""
    return bool(hints["low"] == hints["high"])


def _is_of_target_rank(hints: Values, inputs: Values) -> bool:
    """Whether quickselect has put a pivot where it belongs, and that is the place looked for."""
    n = len(inputs["key"])
    return bool(hints["j"] == hints["r"]) and round(float(hints["i_rank"]) * n) == round(float(hints["target"]) * n)


def _is_emptied(hints: Values, inputs: Values) -> bool:
    """Whether heapsort has taken all but one key from its heap, and mended that."""
    parents = hints["parent"]
    return bool(hints["phase"] == 2) and bool((parents == np.arange(len(parents))).all())


class IsPartitioned:
    """Whether quicksort has put a pivot where it belongs in every part of more than one key: it sees all hints."""

    def __init__(self) -> None:
        self.placed: set[int] = set()

    def __call__(self, hints: Values, inputs: Values) -> bool:
        """Look at the next hints; pivots stay where they are put."""
        before, n = hints["pred_h"], len(hints["pred_h"])
        if hints["j"] == hints["r"]:
            node, place = int(hints["i"]), 0
            while before[node] != node and place < n:
                node, place = int(before[node]), place + 1
            self.placed.add(place)
        return all(end - start <= 2 for start, end in pairwise(sorted({-1, n, *self.placed})))


def _is_around(hints: Values, inputs: Values) -> bool:
    """Whether Graham's scan has pushed the point of the largest angle."""
    angles = hints["atans"].copy()
    angles[hints["best"]] = -1
    return bool(hints["phase"] == 4) and bool(hints["i"] == angles.argmax())


def _is_back(hints: Values, inputs: Values) -> bool:
    """Whether Jarvis's march has looked at all points and come to one that is in the hull already."""
    is_last = hints["i"] == len(hints["in_hull_h"]) - 1
    return bool(hints["phase"] == 1) and bool(is_last) and bool(hints["in_hull_h"][hints["endpoint"]])


def _is_past_the_heaviest(hints: Values, inputs: Values) -> bool:
    """Whether Kruskal's algorithm is done with the edge that comes last in the order of weights."""
    u, v = np.nonzero(np.triu(inputs["A"], k=1))
    if len(u) == 0:
        return True
    last = np.argsort(inputs["A"][u, v])[-1]
    return bool(hints["phase"] == 0) and {int(hints["u"]), int(hints["v"])} == {int(u[last]), int(v[last])}


_ENDS: Mapping[str, Callable[[Values, Values], bool]] = {
    **dict.fromkeys(("topological_sort", "articulation_points", "bridges"), _is_black),
    "strongly_connected_components": _is_black_again,
    "binary_search": _is_narrowed,
    "quickselect": _is_of_target_rank,
    "heapsort": _is_emptied,
    "graham_scan": _is_around,
    "jarvis_march": _is_back,
    "mst_kruskal": _is_past_the_heaviest,
}
"""``has_ended(hints, inputs)`` of the algorithms whose last record is told from all others by what is in it.

Of quicksort the records before have to be known too: see :class:`IsPartitioned`.
"""


def stands_still(before: Values, now: Values, wavering: float) -> bool:
    """Whether all hints are what they were a step before, scalars but for so much."""

    def is_same(old: NumpyArray, new: NumpyArray) -> bool:
        return bool(np.abs(new - old).max() <= wavering) if new.dtype.kind == "f" else np.array_equal(old, new)

    return all(is_same(before[name], value) for name, value in now.items())
