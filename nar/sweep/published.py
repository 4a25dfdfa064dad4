"""Published scores of CLRS-30 at n = 64, and how long the algorithms take, as ``published.csv`` has them.

Every score has a flag: ``v`` is quoted from the source or a copy of it, ``c`` is quoted from memory and reproduces the
source's means over categories, ``d`` is computed from figures of the source.
"""

import csv
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import NamedTuple

FLAGS = {
    "v": "read in the source, or in a copy of its table",
    "c": "quoted, and the source's means over categories follow from it",
    "d": "read off the source's table, whose column of names is shifted by one row",
}
SOURCES = {
    "ibarz": (
        "Ibarz et al.",
        'Ibarz et al., "A Generalist Neural Algorithmic Learner" (LoG 2022, arXiv 2209.11142), table 2: Triplet-GMPNN, '
        "10,000 steps, mean ± standard error over 10 seeds",
    ),
    "evoprompting": (
        "EvoPrompting",
        'Chen et al., "EvoPrompting" (NeurIPS 2023, arXiv 2302.14838): their own run of the Triplet-GMPNN',
    ),
}
"""The sources of published scores: the heading of each one's column in tables, and the reference."""


class Score(NamedTuple):
    """A published score.

    Attributes:
        value: In per cent, at n = 64.
        error: The standard error of the mean over seeds; None if it is not published.
        flag: One of `FLAGS`.
    """

    value: float
    error: float | None
    flag: str


class Facts(NamedTuple):
    """The published scores of an algorithm, and how long its trajectories are.

    Attributes:
        category: One of the eight of CLRS-30.
        length_16: Mean length of a trajectory in training at n = 16.
        length_64: Mean length of a trajectory in tests at n = 64.
        test_batches: How many times 32 trajectories a test split has.
        scores: By the key of a source, what it publishes.
    """

    category: str
    length_16: float
    length_64: float
    test_batches: int
    scores: dict[str, Score]


@cache
def published() -> dict[str, Facts]:
    """The 30 algorithms by name."""
    with files("nar.sweep").joinpath("published.csv").open(encoding="utf-8") as file:
        return {row["algorithm"]: _facts(row) for row in csv.DictReader(file)}


def by_category(algorithms: Iterable[str]) -> list[list[str]]:
    """Algorithms of CLRS-30 in groups, one for each of its categories that they are of, in the order of the first."""
    groups: dict[str, list[str]] = {}
    for name in algorithms:
        groups.setdefault(published()[name].category, []).append(name)
    return list(groups.values())


def _facts(row: dict[str, str]) -> Facts:
    scores = {}
    for source in SOURCES:
        error = row.get(f"{source}_error")
        scores[source] = Score(float(row[source]), float(error) if error else None, row[f"{source}_flag"])
    lengths = float(row["length_16"]), float(row["length_64"])
    return Facts(row["category"], *lengths, int(row["test_batches"]), scores)
