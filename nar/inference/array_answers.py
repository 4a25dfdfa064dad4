"""Answers on keys, intervals, strings, points and tables of dynamic programming."""
# Within this file nodes are numbers, outside of it they have names; own values are in the user's units.

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from nar.datasets.clrs30.dynamic_programming import DIAGONAL, UP
from nar.datasets.engine.arguments import shown
from nar.inference.answers import Answer, close

Tree = Any
"""A leaf, or a tuple of parts of a tree."""


class SortedKeys(Answer):
    """Keys in ascending order."""

    @cached_property
    def order(self) -> list[Hashable]:
        """The names of the keys from the smallest to the largest, as far as predicted pointers tell."""
        return [self.names[node] for node in self._order]

    @cached_property
    def sorted(self) -> list[float]:
        """The user's keys in that order."""
        return [float(self._instance.own["keys"][node]) for node in self._order]

    @cached_property
    def _order(self) -> list[int]:
        """The chain of which each node points at its predecessor and the first at itself, up to where it breaks."""
        pointers = [int(node) for node in self.prediction.outputs["pred"]]
        following = {before: node for node, before in enumerate(pointers) if before != node}
        chain = [next(node for node, before in enumerate(pointers) if before == node)]
        while chain[-1] in following and len(chain) < len(pointers):
            chain.append(following[chain[-1]])
        return chain

    def problem(self) -> str:
        """Why the keys are not in order, in words; equal keys may be in any order."""
        if len(set(self._order)) < len(self.names):
            missing = next(node for node in range(len(self.names)) if node not in self._order)
            return f"{shown(self.names[missing])} is not in the order"
        for place in range(1, len(self.sorted)):
            before, after = self.sorted[place - 1 : place + 1]
            if before > after:
                return f"{before:g} comes before {after:g}"
        return ""


class FoundKey(Answer):
    """One of the keys."""

    @property
    def index(self) -> Hashable:
        """The name of the key; its place in the user's list, if that had no names."""
        return self.names[self._found]

    @property
    def value(self) -> float:
        """The key that was found, as the user gave it."""
        return float(self._instance.own["keys"][self._found])

    @property
    def _found(self) -> int:
        (place,) = self.prediction.outputs.values()
        return int(place)

    def problem(self) -> str:
        """Which key should have been found, in words; an equal one is right too."""
        true = self.classical.value
        return "" if self.value == true else f"{self.value:g} was found, and not {true:g}"


class Subarray(Answer):
    """A part of a list of the largest sum."""

    @property
    def start(self) -> Hashable:
        """The name of its first key."""
        return self.names[int(self.prediction.outputs["start"])]

    @property
    def end(self) -> Hashable:
        """The name of its last key."""
        return self.names[int(self.prediction.outputs["end"])]

    @property
    def subarray(self) -> list[float]:
        """The user's keys from the first to the last, both included."""
        first, last = (int(self.prediction.outputs[name]) for name in ("start", "end"))
        return [float(key) for key in self._instance.own["keys"][first : last + 1]]

    @property
    def sum(self) -> float:
        """The sum of these keys."""
        return math.fsum(self.subarray)

    def problem(self) -> str:
        """Why this is no maximum subarray; any of the largest sum is right."""
        if not self.subarray:
            return f"it ends, at {shown(self.end)}, before it begins, at {shown(self.start)}"
        most = self.classical.sum
        size = math.fsum(abs(key) for key in self._instance.own["keys"])
        return "" if abs(self.sum - most) <= 1e-9 * size else f"its sum is {self.sum:g}, and the largest {most:g}"


class Selection(Answer):
    """Activities or tasks that are selected."""

    @cached_property
    def selected(self) -> list[Hashable]:
        """The names of those that are selected, in the user's order."""
        return [self.names[node] for node in self._selected]

    @property
    def _selected(self) -> list[int]:
        return [int(node) for node in np.flatnonzero(self.prediction.outputs["selected"] > 0)]


class Activities(Selection):
    """The activities that are chosen: as many as possible of which no two overlap."""

    def problem(self) -> str:
        """Which chosen activities overlap, or how many more could be chosen, in words."""
        start, finish = self._instance.own["start"], self._instance.own["finish"]
        by_start = sorted(self._selected, key=lambda node: (start[node], finish[node]))
        for first, second in pairwise(by_start):
            if finish[first] > start[second]:
                return f"{shown(self.names[first])} and {shown(self.names[second])} overlap"
        number, most = len(self.selected), len(self.classical.selected)
        return "" if number >= most else f"{number} are selected, and {most} can be"


class Tasks(Selection):
    """Tasks of one unit of time each that can all be done before their deadlines."""

    @property
    def value(self) -> float:
        """The sum of the user's values of those that are selected."""
        return math.fsum(float(self._instance.own["values"][node]) for node in self._selected)

    def problem(self) -> str:
        """Why these cannot all be done, or are worth less than those that the greedy algorithm selects."""
        deadlines = self._instance.own["deadlines"]
        by_deadline = sorted(self._selected, key=lambda node: deadlines[node])
        for done, node in enumerate(by_deadline):
            if deadlines[node] < done + 1:
                last = f"such as {shown(self.names[node])}"
                return f"{done + 1} are selected that have to be done by {deadlines[node]:g}, {last}"
        value, most = self.value, self.classical.value
        return "" if value >= most or close(value, most) else f"they are worth {value:g}, and others {most:g}"


class MatrixChain(Answer):
    """The order in which to multiply a chain of matrices."""

    @cached_property
    def order(self) -> Tree:
        """The matrices in nested pairs, each to be multiplied: ``((1, 2), 3)``; None if predicted splits are none."""
        return self._order(1, self._num_matrices, self._instance.own["matrices"])

    @property
    def cost(self) -> float:
        """The number of multiplications of numbers, by the user's dimensions; NaN if predicted splits are none."""
        return self._cost(1, self._num_matrices)

    @property
    def _num_matrices(self) -> int:
        return len(self._instance.own["dimensions"]) - 1

    def _order(self, i: int, j: int, matrices: Sequence[Hashable]) -> Tree:
        if i == j:
            return matrices[i - 1]
        k = int(self.prediction.outputs["s"][i, j])
        if not i <= k < j:
            return None
        parts = self._order(i, k, matrices), self._order(k + 1, j, matrices)
        return None if None in parts else parts

    def _cost(self, i: int, j: int) -> float:
        if i >= j:
            return 0.0
        p, k = self._instance.own["dimensions"], int(self.prediction.outputs["s"][i, j])
        if not i <= k < j:
            return math.nan
        return self._cost(i, k) + self._cost(k + 1, j) + float(p[i - 1] * p[k] * p[j])

    def problem(self) -> str:
        """Why this is not the cheapest order; any of the least cost is right."""
        if math.isnan(self.cost):
            return "a chain is split where it has no matrix"
        least = self.classical.cost
        return "" if close(self.cost, least) else f"it costs {self.cost:g} multiplications, and the cheapest {least:g}"


class KeyTree(Answer):
    """A binary search tree of keys that are looked for with given frequencies."""

    @cached_property
    def tree(self) -> Tree:
        """The keys in nested triples: what is on the left, the key, and what is on the right; None is nothing."""
        return self._tree(0, len(self._instance.own["p"]))

    @property
    def root(self) -> Hashable:
        """The key at the root."""
        key: Hashable = self._instance.own["keys"][self._root(0, len(self._instance.own["p"]))]
        return key

    @property
    def cost(self) -> float:
        """The expected number of keys to look at, from 1, times the user's frequencies; NaN if a predicted root is none
        of its keys.
        """
        return self._cost(0, len(self._instance.own["p"]), 1)

    def _root(self, i: int, j: int) -> int:
        """The predicted root of keys i to j - 1, the nearest of these if it is none of them."""
        return min(max(int(self.prediction.outputs["root"][i, j]), i), j - 1)

    def _tree(self, i: int, j: int) -> Tree:
        if i == j:
            return None
        root = self._root(i, j)
        return self._tree(i, root), self._instance.own["keys"][root], self._tree(root + 1, j)

    def _cost(self, i: int, j: int, depth: int) -> float:
        """The cost of keys i to j - 1; what lies between keys is as deep as if it were a key."""
        p, q = self._instance.own["p"], self._instance.own["q"]
        if i == j:
            return float(depth * q[i])
        root = int(self.prediction.outputs["root"][i, j])
        if not i <= root < j:
            return math.nan
        return float(depth * p[root]) + self._cost(i, root, depth + 1) + self._cost(root + 1, j, depth + 1)

    def problem(self) -> str:
        """Why this is not the best tree; any of the least cost is right."""
        if math.isnan(self.cost):
            return "the root of some keys is none of them"
        least = self.classical.cost
        return "" if close(self.cost, least) else f"it costs {self.cost:g}, and the cheapest {least:g}"


class CommonSubsequence(Answer):
    """A longest common subsequence of two strings."""

    @property
    def subsequence(self) -> Any:
        """The letters, as text if both strings are; as far as predicted directions lead along equal letters."""
        first = self._instance.own["first"]
        letters = [first[i] for i, _ in self.pairs]
        return "".join(letters) if self._instance.own["is_text"] else letters

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """The places of its letters in both strings."""
        return self._walk()[0]

    def _walk(self) -> tuple[list[tuple[int, int]], tuple[int, int] | None]:
        """The places along predicted directions, and where they say that different letters are equal."""
        first, second = self._instance.own["first"], self._instance.own["second"]
        b, n = self.prediction.outputs["b"], len(first)
        i, j = n - 1, len(second) - 1
        pairs: list[tuple[int, int]] = []
        while i >= 0 and j >= 0:
            direction = int(b[i, n + j])
            if direction == DIAGONAL:
                if first[i] != second[j]:
                    return pairs[::-1], (i, j)
                pairs.append((i, j))
                i, j = i - 1, j - 1
            elif direction == UP:
                i -= 1
            else:
                j -= 1
        return pairs[::-1], None

    def problem(self) -> str:
        """Why this is no longest common subsequence; any is right."""
        if wrong := self._walk()[1]:
            i, j = wrong
            letters = shown(self._instance.own["first"][i]), shown(self._instance.own["second"][j])
            return f"{letters[0]} at {i} and {letters[1]} at {j} are taken for the same letter"
        number, most = len(self.pairs), len(self.classical.pairs)
        return "" if number >= most else f"it has {number} letters, and the longest {most}"


class Match(Answer):
    """The first place of a needle in a haystack."""

    @property
    def match(self) -> int | None:
        """Where the needle begins, from 0; None if the model says nowhere."""
        place = int(self.prediction.outputs["match"])
        return place if place < len(self._instance.own["first"]) else None

    def problem(self) -> str:
        """Where the needle is first found, if that is not where the model says; else nothing."""
        ours, true = self.match, self.classical.match
        where, instead = ("nowhere" if place is None else f"at {place}" for place in (true, ours))
        return "" if ours == true else f"the needle is first found {where}, and not {instead}"


class Crossing(Answer):
    """Whether two segments intersect."""

    @property
    def intersect(self) -> bool:
        """Whether the model says that the segments intersect."""
        return bool(self.prediction.outputs["intersect"] > 0)

    def problem(self) -> str:
        """Whether the segments intersect, if the model is wrong about it; else nothing."""
        true = self.classical.intersect
        return "" if self.intersect == true else f"they {'do' if true else 'do not'} intersect"


class Hull(Answer):
    """The convex hull of points."""

    @cached_property
    def hull(self) -> list[Hashable]:
        """The corners of the hull, counter-clockwise from the lowest one."""
        xs, ys = self._instance.own["xs"], self._instance.own["ys"]
        corners = np.flatnonzero(self.prediction.outputs["in_hull"] > 0)
        if corners.size == 0:
            return []
        x, y = xs[corners], ys[corners]
        angles = np.arctan2(y - y.mean(), x - x.mean())
        around = corners[np.argsort(angles, kind="stable")]
        lowest = np.lexsort((xs[around], ys[around]))[0]
        return [self.names[corner] for corner in np.roll(around, -lowest)]

    def problem(self) -> str:
        """The first point of which the model is wrong about whether it is a corner; nothing if there is none."""
        ours, true = set(self.hull), set(self.classical.hull)
        for name in self.names:
            if (name in ours) != (name in true):
                return f"{shown(name)} is {'no' if name in ours else 'a'} corner of the hull"
        return ""


ARRAY_ANSWERS: Mapping[str, type[Answer]] = {
    **dict.fromkeys(("insertion_sort", "bubble_sort", "heapsort", "quicksort"), SortedKeys),
    **dict.fromkeys(("minimum", "quickselect", "binary_search"), FoundKey),
    "find_maximum_subarray_kadane": Subarray,
    "activity_selector": Activities,
    "task_scheduling": Tasks,
    "matrix_chain_order": MatrixChain,
    "optimal_bst": KeyTree,
    "lcs_length": CommonSubsequence,
    **dict.fromkeys(("naive_string_matcher", "kmp_matcher"), Match),
    "segments_intersect": Crossing,
    **dict.fromkeys(("graham_scan", "jarvis_march"), Hull),
}
"""The form of the answer of each algorithm that is given no graph."""
