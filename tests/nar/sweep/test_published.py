"""Published figures: their checksums, their flags, and what else is known of the algorithms."""

import inspect
import statistics
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from nar.datasets import ALGORITHMS
from nar.datasets.clrs30.samplers import CLRS_30
from nar.sweep.published import FLAGS, SOURCES, published

ROOT = Path(__file__).resolve().parents[3]
# Table 1 of Ibarz et al. (2022).
CATEGORIES = {
    "divide and conquer": 76.36,
    "dynamic programming": 81.99,
    "geometry": 94.09,
    "graphs": 81.41,
    "greedy": 91.21,
    "search": 58.61,
    "sorting": 60.37,
    "strings": 49.09,
}


def means_of_categories(source: str) -> dict[str, float]:
    by_category: dict[str, list[float]] = {}
    for facts in published().values():
        by_category.setdefault(facts.category, []).append(facts.scores[source].value)
    return {name: statistics.mean(values) for name, values in by_category.items()}


def test_the_30_algorithms_are_there_in_their_order() -> None:
    assert sorted(published()) == sorted(ALGORITHMS)


def test_the_means_over_categories_are_those_that_are_published() -> None:
    assert means_of_categories("ibarz") == pytest.approx(CATEGORIES, abs=0.0101)


@pytest.mark.parametrize(("source", "over_30", "over_8"), [("ibarz", 75.98, 74.14), ("evoprompting", 76.53, 74.15)])
def test_the_means_over_30_algorithms_and_over_8_categories_are_those_that_are_published(
    source: str, over_30: float, over_8: float
) -> None:
    assert statistics.mean(facts.scores[source].value for facts in published().values()) == pytest.approx(
        over_30, abs=0.0051
    )
    means = means_of_categories(source)
    assert len(means) == 8
    assert statistics.mean(means.values()) == pytest.approx(over_8, abs=0.0051)


def test_every_figure_says_where_it_is_from() -> None:
    for facts in published().values():
        assert facts.scores.keys() == SOURCES.keys()
        assert {score.flag for score in facts.scores.values()} <= FLAGS.keys() <= {"v", "c", "d"}


def test_as_many_score_above_90_80_and_60_as_is_published() -> None:
    values = [facts.scores["ibarz"].value for facts in published().values()]
    assert [sum(value > bound for value in values) for bound in (90, 80, 60)] == [11, 17, 24]


def test_categories_are_the_modules_of_dm_clrs(clrs: Any) -> None:
    folder = {"search": "searching", "divide and conquer": "divide_and_conquer"}
    for name, facts in published().items():
        module = import_module(f"clrs._src.algorithms.{folder.get(facts.category, facts.category.replace(' ', '_'))}")
        assert inspect.isfunction(getattr(module, name))


def test_test_splits_have_as_many_batches_as_it_says() -> None:
    assert {name: facts.test_batches for name, facts in published().items()} == {
        name: CLRS_30[name].samples_multiplier for name in ALGORITHMS
    }


def test_the_figures_come_with_the_package() -> None:
    package_data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "published.csv" in package_data["nar.sweep"]
