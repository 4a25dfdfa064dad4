"""The table, the CSV file and the picture of a campaign."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nar.sweep.campaign import Campaign, Run, Variant
from nar.sweep.published import published
from nar.sweep.report import write_report
from nar.sweep.run import Reached

Scores = Mapping[tuple[str, str, int], Mapping[int, float]]


def written(
    out: Path,
    scores: Scores,
    *,
    variants: Sequence[str] = ("plain",),
    sizes: Sequence[int] = (16, 64),
    num_seeds: int = 2,
    steps: Callable[[Run], int] = lambda run: 100,
    validation: Mapping[int, float] | None = None,
) -> list[str]:
    """The lines of a campaign's table, in which every run has trained that has scores."""
    algorithms = {name: name for name in sorted({algorithm for _, algorithm, _ in scores})}
    campaign = Campaign(out, [Variant(name, (), 100) for name in variants], algorithms, num_seeds, sizes)
    for run in campaign.runs():
        if run in scores:
            folder = campaign.folder(run)
            folder.mkdir(parents=True)
            reached = Reached(steps(run), 12.3, steps(run) == 100, dict(scores[run]), steps(run) - 10)
            reached.validation = dict(validation or {})
            reached.write(folder)
    paths = write_report(campaign)
    assert [path.name for path in paths] == ["table.md", "scores.csv", "scores.png"]
    return paths[0].read_text().splitlines()


def test_a_row_has_mean_and_standard_deviation_over_seeds_beside_what_is_published(tmp_path: Path) -> None:
    scores = {
        ("plain", "bfs", 0): {16: 1.0, 64: 0.9},
        ("plain", "bfs", 1): {16: 1.0, 64: 0.8},
        ("plain", "heapsort", 0): {16: 0.5, 64: 0.25},
        ("plain", "heapsort", 1): {16: 0.7, 64: 0.25},
    }
    assert written(tmp_path, scores)[:5] == [
        "| algorithm | seeds | steps | s/step | n = 16 | n = 64 | Ibarz et al. | EvoPrompting |",
        "|---|---|---|---|---|---|---|---|",
        "| bfs | 2 | 100 | 0.12 | 100.0 ± 0.0 | 85.0 ± 7.1 | 99.73 ± 0.04 (v) | 99.80 (d) |",
        "| heapsort | 2 | 100 | 0.12 | 60.0 ± 14.1 | 25.0 ± 0.0 | 31.04 ± 5.82 (c) | 19.45 (d) |",
        # Over seeds of the means over algorithms, which are (1 + .5) / 2 and (1 + .7) / 2; (.9 + .25) / 2 and ...
        "| mean over these 2 algorithms | 2 |  |  | 80.0 ± 7.1 | 55.0 ± 3.5 | 65.39 | 59.62 |",
    ]


def test_what_is_published_is_explained_and_only_beside_the_size_that_it_is_of(tmp_path: Path) -> None:
    (_, _, *more) = written(tmp_path / "with", {("plain", "heapsort", 0): {16: 0.5, 64: 0.2}})
    text = "\n".join(more)
    assert "Ibarz et al.: Ibarz et al.," in text
    assert "(c) quoted" in text
    assert "(d) read off" in text
    assert "(v)" not in text
    without = "\n".join(written(tmp_path / "without", {("plain", "heapsort", 0): {16: 0.5, 32: 0.2}}, sizes=(16, 32)))
    assert "Ibarz" not in without
    assert "(c)" not in without


def test_a_campaign_of_all_has_the_mean_over_30_algorithms_and_that_over_8_categories(tmp_path: Path) -> None:
    scores = {("plain", name, 0): {64: facts.scores["ibarz"].value / 100} for name, facts in published().items()}
    lines = written(tmp_path, scores, sizes=(64,), num_seeds=1)
    assert lines[32:34] == [
        "| mean over the 30 algorithms | 1 |  |  | 76.0 | 75.98 | 76.53 |",
        "| mean over the 8 categories' means | 1 |  |  | 74.1 | 74.14 | 74.15 |",
    ]


def test_runs_that_have_come_less_far_are_in_the_table_as_they_are(tmp_path: Path) -> None:
    scores = {
        ("plain", "bfs", 0): {16: 1.0, 64: 0.9},
        ("plain", "bfs", 1): {16: 0.9},
        ("plain", "dfs", 0): {16: 0.4, 64: 0.3},
    }
    lines = written(tmp_path, scores, num_seeds=3, steps=lambda run: 100 - 30 * run.seed)
    assert lines[2].startswith("| bfs | 2 | 70 to 100 | 0.15 | 95.0 ± 7.1 | 90.0 |")
    assert lines[3].startswith("| dfs | 1 | 100 | 0.12 | 40.0 | 30.0 |")
    assert lines[4].startswith("| mean over these 2 algorithms | 1 |  |  | 70.0 | 60.0 |")


def test_variants_are_rows_of_their_own(tmp_path: Path) -> None:
    scores = {(variant, "bfs", 0): {16: score} for variant, score in (("one", 0.1), ("two", 0.2))}
    lines = written(tmp_path, scores, variants=["one", "two"], sizes=(16,))
    assert lines[0] == "| algorithm | variant | seeds | steps | s/step | n = 16 |"
    assert lines[2:4] == ["| bfs | one | 1 | 100 | 0.12 | 10.0 |", "| bfs | two | 1 | 100 | 0.12 | 20.0 (+10.0) |"]
    assert not any("mean over" in line for line in lines)


def test_the_gain_over_the_first_variant_has_two_standard_errors_and_is_bold_beyond_them(tmp_path: Path) -> None:
    by_variant = {"one": (0.5, 0.6), "much": (0.7, 0.8), "little": (0.52, 0.62), "less": (0.1, 0.1)}
    scores = {(v, a, s): {16: x} for v, both in by_variant.items() for a in ("bfs", "dfs") for s, x in enumerate(both)}
    lines = written(tmp_path, scores, variants=list(by_variant), sizes=(16,))
    # Each has a variance of 50 over two seeds, but for the last, of 0: two standard errors are 2 √(50 / 2 + 50 / 2).
    expected = [
        "55.0 ± 7.1",
        "75.0 ± 7.1 (**+20.0 ± 14.1**)",
        "57.0 ± 7.1 (+2.0 ± 14.1)",
        "10.0 ± 0.0 (**-45.0 ± 10.0**)",
    ]
    assert [line.split(" | ")[-1].removesuffix(" |") for line in lines[2:6]] == expected
    assert [line.split(" | ")[-1].removesuffix(" |") for line in lines[10:14]] == expected
    assert any(line.startswith("In parentheses: the gain over one ± two") for line in lines)


def test_the_score_in_validation_is_in_the_table_and_in_the_csv_file(tmp_path: Path) -> None:
    scores = {("plain", "bfs", 0): {16: 1.0, 64: 0.25}, ("plain", "bfs", 1): {16: 0.5}}
    lines = written(tmp_path, scores, validation={32: 0.875})
    assert lines[0].startswith("| algorithm | seeds | steps | s/step | validation, n = 32 | n = 16 | n = 64 |")
    assert lines[2].startswith("| bfs | 2 | 100 | 0.12 | 87.5 ± 0.0 | 75.0 ± 35.4 | 25.0 |")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["num_nodes"], row["val_size"], row["val_score"]) for row in rows] == [
        ("16", "32", "0.875"),
        ("64", "32", "0.875"),
        ("16", "32", "0.875"),
    ]


def test_a_campaign_without_tests_is_compared_by_validation_alone(tmp_path: Path) -> None:
    scores: Scores = {(variant, "bfs", 0): {} for variant in ("one", "two")}
    lines = written(tmp_path, scores, variants=["one", "two"], sizes=(), validation={32: 0.875})
    assert lines[0] == "| algorithm | variant | seeds | steps | s/step | validation, n = 32 |"
    assert lines[2:4] == ["| bfs | one | 1 | 100 | 0.12 | 87.5 |", "| bfs | two | 1 | 100 | 0.12 | 87.5 (+0.0) |"]
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["num_nodes"], row["score"], row["val_score"]) for row in rows] == [
        ("one", "", "", "0.875"),
        ("two", "", "", "0.875"),
    ]
    with Image.open(tmp_path / "scores.png") as picture:
        assert picture.width > 300


def test_an_algorithm_of_the_users_own_has_nothing_published(tmp_path: Path) -> None:
    lines = written(tmp_path, {("plain", "Own", 0): {16: 0.1, 64: 0.2}, ("plain", "bfs", 0): {16: 0.1, 64: 0.2}})
    assert lines[2] == "| Own | 1 | 100 | 0.12 | 10.0 | 20.0 |  |  |"
    assert lines[4] == "| mean over these 2 algorithms | 1 |  |  | 10.0 | 20.0 |  |  |"


def test_the_csv_file_has_a_row_for_each_run_and_size(tmp_path: Path) -> None:
    written(tmp_path, {("plain", "bfs", 0): {16: 1.0, 64: 0.25}, ("plain", "bfs", 1): {16: 0.5}})
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["num_nodes"], float(row["score"])) for row in rows] == [
        ("0", "16", 1.0),
        ("0", "64", 0.25),
        ("1", "16", 0.5),
    ]
    assert (rows[0]["variant"], rows[0]["algorithm"], rows[0]["seconds"]) == ("plain", "bfs", "12")
    assert (rows[0]["steps"], rows[0]["max_steps"], rows[0]["tested_at_step"]) == ("100", "100", "90")


@pytest.mark.parametrize("sizes", [(64,), (4, 16, 64, 128)])
def test_a_picture_is_drawn_of_any_number_of_sizes_variants_and_algorithms(
    sizes: Sequence[int], tmp_path: Path
) -> None:
    scores = {(v, a, 0): dict.fromkeys(sizes, 0.5) for v in ("one", "two", "three") for a in ("bfs", "Own")}
    written(tmp_path, scores, variants=["one", "two", "three"], sizes=sizes)
    with Image.open(tmp_path / "scores.png") as picture:
        assert picture.width > 300 * len(sizes)


def test_nothing_has_been_tested_yet(tmp_path: Path) -> None:
    lines = written(tmp_path, {("plain", "bfs", 0): {}})
    assert lines[0].startswith("| algorithm | seeds | steps |")
    assert lines[2] == ""
    assert (tmp_path / "scores.csv").read_text().count("\n") == 1


def answers(model: str, clrs: float, sizes: Sequence[int] = (10, 14)) -> list[dict[str, Any]]:
    """Rows of answers to texts of two algorithms."""
    scores = {"texts": 8, "parse": 1.0, "shape": 0.75, "clrs": clrs, "exact": 0.25}
    return [
        {"model": model, "algorithm": algorithm, "num_nodes": size, **scores}
        for algorithm in ("bfs", "dfs")
        for size in sizes
    ]


def of_texts(out: Path, by_run: Mapping[tuple[str, int], list[dict[str, Any]]]) -> list[str]:
    """The lines of the tables of language models whose runs, by variant and seed, have these answers."""
    variants = [Variant(name, (), 100) for name in dict.fromkeys(name for name, _ in by_run)]
    campaign = Campaign(out, variants, {"several": "[bfs, dfs]"}, 2, (10, 14))
    for (variant, seed), rows in by_run.items():
        folder = campaign.folder(Run(variant, "several", seed))
        folder.mkdir(parents=True)
        scores = {10: rows[0]["clrs"], 14: rows[0]["clrs"]}
        Reached(100, 12.3, True, scores, 90, answers=rows).write(folder)
    return write_report(campaign)[0].read_text().splitlines()


def test_answers_to_texts_have_a_table_for_each_score_with_every_algorithm_and_the_reasoner_once(
    tmp_path: Path,
) -> None:
    alone = answers("reasoner alone", 0.9)
    by_run = {("hybrid", seed): [*answers("hybrid", 0.5 + seed / 10), *alone] for seed in (0, 1)}
    by_run |= {("other", 0): [*answers("hybrid with shuffled graphs", 0.2), *alone]}
    lines = of_texts(tmp_path, by_run)
    titles = ["Parse score:", "Shape score:", "CLRS score:", "Exact answers:"]
    assert [line for line in lines if line.endswith(":")] == titles
    begin = lines.index("CLRS score:") + 2
    assert lines[begin : begin + 11] == [
        "| algorithm | variant | seeds | steps | s/step | n = 10 | n = 14 |",
        "|---|---|---|---|---|---|---|",
        "| bfs | hybrid | 2 | 100 | 0.12 | 55.0 ± 7.1 | 55.0 ± 7.1 |",
        "| bfs | other | 1 | 100 | 0.12 | 20.0 (-35.0) | 20.0 (-35.0) |",
        "| bfs | reasoner alone | 1 |  |  | 90.0 (+35.0) | 90.0 (+35.0) |",
        "| dfs | hybrid | 2 | 100 | 0.12 | 55.0 ± 7.1 | 55.0 ± 7.1 |",
        "| dfs | other | 1 | 100 | 0.12 | 20.0 (-35.0) | 20.0 (-35.0) |",
        "| dfs | reasoner alone | 1 |  |  | 90.0 (+35.0) | 90.0 (+35.0) |",
        "| mean over these 2 algorithms | hybrid | 2 |  |  | 55.0 ± 7.1 | 55.0 ± 7.1 |",
        "| mean over these 2 algorithms | other | 1 |  |  | 20.0 (-35.0) | 20.0 (-35.0) |",
        "| mean over these 2 algorithms | reasoner alone | 1 |  |  | 90.0 (+35.0) | 90.0 (+35.0) |",
    ]
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (2 + 1 + 1) * 4
    assert (rows[0]["parse"], rows[0]["shape"], rows[0]["clrs"], rows[0]["exact"]) == ("1.0", "0.75", "0.5", "0.25")
    assert (rows[0]["texts"], rows[0]["tested_at_step"], rows[-1]["tested_at_step"]) == ("8", "90", "")


def test_reasoners_that_differ_are_rows_of_their_own(tmp_path: Path) -> None:
    by_run = {
        (name, 0): [*answers("hybrid", 0.5), *answers("reasoner alone", x)] for name, x in (("a", 0.9), ("b", 0.8))
    }
    lines = of_texts(tmp_path, by_run)
    assert "| bfs | reasoner alone | 1 |  |  | 90.0 (+40.0) | 90.0 (+40.0) |" in lines
    assert "| bfs | reasoner alone (b) | 1 |  |  | 80.0 (+30.0) | 80.0 (+30.0) |" in lines


def test_no_published_score_of_graphs_stands_beside_answers_to_texts(tmp_path: Path) -> None:
    rows = answers("hybrid", 0.5, sizes=(64,))
    campaign = Campaign(tmp_path, [Variant("v", (), 100)], {"several": ""}, 1, (64,))
    folder = campaign.folder(Run("v", "several", 0))
    folder.mkdir(parents=True)
    Reached(100, 1.0, True, {64: 0.5}, 90, answers=rows).write(folder)
    assert "Ibarz" not in write_report(campaign)[0].read_text()
