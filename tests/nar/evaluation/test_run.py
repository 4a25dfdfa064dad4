"""Checkpoints evaluated at several sizes."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nar.datasets import CLRS30
from nar.datasets.splits.cache import Cache
from nar.errors import UserError
from nar.evaluation import compare, evaluate
from nar.evaluation import instances as instances_module
from nar.evaluation import run as run_module
from nar.evaluation.compare import markdown as compared
from nar.evaluation.instances import NEVER, Question, mark
from nar.evaluation.report import COLUMNS, _cells_of, rows_of, write_report
from nar.evaluation.statistics import is_exact
from nar.model.metrics import counts, hint_scores, pooled_score, scores
from nar.processors import MPNN
from nar.training.checkpoint import read_checkpoint, write_checkpoint
from nar.training.reasoner import Reasoner

ALGORITHMS = ["bfs", "insertion_sort", "naive_string_matcher"]


def make(path: Path, algorithms: list[str], seed: int) -> Path:
    """A checkpoint of an untrained model."""
    torch.manual_seed(seed)
    data = CLRS30(algorithms)
    with path.open("wb") as file:
        write_checkpoint(file, Reasoner(data.specs, MPNN(hidden_dim=8)), data)
    return path


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return [make(folder / f"{seed}.ckpt", ALGORITHMS, seed) for seed in range(2)]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {"out": tmp_path / "out", "sizes": [4, 8], "cache_dir": str(tmp_path / "cache")}


@pytest.mark.slow
def test_scores_are_those_that_lightning_tests_find(checkpoints: list[Path], settings: dict[str, Any]) -> None:
    evaluation = evaluate(checkpoints[:1], **settings)
    model, _ = run_module._reasoner(str(checkpoints[0]))
    for unit, marks in evaluation.marks.items():
        split, feedback = Question(unit.algorithm, run_module.num_nodes_at(unit.algorithm, unit.size)).draw(
            Cache(settings["cache_dir"])
        )
        (batch,) = list(instances_module.SplitBatches([(split, feedback)], len(feedback.features.lengths)))
        logits = model(batch, with_hints=False).outputs
        expected = scores(
            model.specs[unit.algorithm], counts(model.specs[unit.algorithm], logits, batch.feedback.outputs)
        )
        found = {row.probe: row.estimate.score for row in rows_of(evaluation.specs, unit, marks) if row.kind == "mean"}
        assert found["score"] == pytest.approx(expected["score"])


def test_marks_do_not_depend_on_the_size_of_batches(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = run_module._reasoner(str(checkpoints[0]))
    spec, cpu = model.specs["bfs"], torch.device("cpu")
    split, feedback = Question("bfs", 8, with_hints=True).draw(Cache(tmp_path))
    large = mark(model.model, spec, split, feedback, cpu)
    monkeypatch.setattr(instances_module, "STATES_IN_A_BATCH", 64 * 3)
    small = mark(model.model, spec, split, feedback, cpu)
    assert all(np.array_equal(value, small.arrays()[name]) for name, value in large.arrays().items())


def test_a_batch_that_does_not_fit_into_memory_is_made_smaller(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = run_module._reasoner(str(checkpoints[0]))
    split, feedback = Question("bfs", 8).draw(Cache(tmp_path))
    whole = mark(model.model, model.specs["bfs"], split, feedback, torch.device("cpu"))
    forward, tried = type(model.model).forward, []

    def small_memory(self: Any, algorithm: str, features: Any, **kwargs: Any) -> Any:
        tried.append(len(features.lengths))
        if len(features.lengths) > 5:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")
        return forward(self, algorithm, features, **kwargs)

    monkeypatch.setattr(type(model.model), "forward", small_memory)
    parts = mark(model.model, model.specs["bfs"], split, feedback, torch.device("cpu"))
    assert tried[:4] == [32, 32, 16, 8] or tried[:3] == [32, 16, 8]
    assert np.array_equal(whole.outputs["pi"], parts.outputs["pi"])


def test_hints_are_scored_as_dm_clrs_does_and_part_where_the_first_is_wrong(
    checkpoints: list[Path], tmp_path: Path
) -> None:
    model, _ = run_module._reasoner(str(checkpoints[0]))
    spec = model.specs["bfs"]
    split, feedback = Question("bfs", 8, with_hints=True).draw(Cache(tmp_path))
    marks = mark(model.model, spec, split, feedback, torch.device("cpu"))
    (batch,) = list(instances_module.SplitBatches([(split, feedback)], len(feedback.features.lengths)))
    expected = hint_scores(spec, model(batch), batch.feedback)
    for name, by_graph in marks.hints.items():
        pooled = [float(pooled_score(spec[name].type, at.sum(axis=0))) for at in by_graph]
        assert pooled == pytest.approx(expected[name].by_time)
    for graph, time in enumerate(marks.parted):
        wrong = [
            at + 1
            for at in range(len(marks.hints["pi_h"]))
            if marks.hints["reach_h"][at, graph, 1:].any()
            or marks.hints["pi_h"][at, graph, 0] < marks.hints["pi_h"][at, graph, 1]
        ]
        assert time == (wrong[0] if wrong else NEVER)


@pytest.mark.slow
def test_what_is_there_is_not_computed_again(
    checkpoints: list[Path], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(checkpoints, **settings)
    monkeypatch.setattr(run_module, "mark", lambda *args: pytest.fail("computed again"))
    monkeypatch.setattr(run_module, "make_reasoner", lambda config: pytest.fail("made a model for nothing"))
    again = evaluate(checkpoints, **settings)
    assert again.specs == first.specs
    assert first.marks.keys() == again.marks.keys()
    for unit, marks in first.marks.items():
        assert all(np.array_equal(x, again.marks[unit].arrays()[name]) for name, x in marks.arrays().items())


def test_each_checkpoint_is_read_once(
    checkpoints: list[Path], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def reading(path: str) -> Any:
        read.append(path)
        return read_checkpoint(path)

    monkeypatch.setattr(run_module, "read_checkpoint", reading)
    evaluate(checkpoints, **{**settings, "sizes": [4], "algorithms": ["bfs"]})
    assert read == [str(path) for path in checkpoints]
    monkeypatch.setattr(run_module, "MOST_KEPT", 0)
    evaluate(checkpoints, **{**settings, "sizes": [5], "algorithms": ["bfs"]})
    assert len(read) == 3 * len(checkpoints)


@pytest.mark.parametrize("family", [None, "grid"])
@pytest.mark.parametrize("num_samples", [None, 3])
def test_what_is_drawn_is_what_the_instances_are_made_of(
    family: str | None, num_samples: int | None, tmp_path: Path
) -> None:
    question = Question("dijkstra", 6, family, num_samples=num_samples)
    _, feedback = question.draw(Cache(tmp_path))
    drawn = question.drawn()
    assert len(drawn) == len(feedback.features.lengths)
    assert feedback.features.inputs["s"].tolist() == [source for _, source in drawn]
    assert np.array_equal(feedback.features.inputs["A"], np.stack([weights for weights, _ in drawn]))


@pytest.mark.slow
def test_an_instance_that_is_exact_is_valid(checkpoints: list[Path], settings: dict[str, Any]) -> None:
    evaluation = evaluate(checkpoints[:1], **settings, families=["dm-clrs", "grid"])
    for unit, marks in evaluation.marks.items():
        exact = is_exact(evaluation.specs[unit.algorithm], marks.outputs)
        assert marks.valid.shape == exact.shape
        assert (marks.valid | ~exact).all()
        rows = {row.kind: row.estimate.score for row in rows_of(evaluation.specs, unit, marks)}
        assert rows["valid"] == marks.valid.mean()


@pytest.mark.slow
def test_an_evaluation_that_was_ended_goes_on_and_ends_equal(
    checkpoints: list[Path], settings: dict[str, Any], tmp_path: Path
) -> None:
    def end(evaluation: Any) -> None:
        if len(evaluation.marks) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(checkpoints, **settings, after_each=end)
    damaged = sorted((settings["out"] / "instances").glob("*.npz"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    resumed = evaluate(checkpoints, **settings)
    whole = evaluate(checkpoints, **{**settings, "out": tmp_path / "other"})
    write_report(resumed, settings["out"])
    write_report(whole, tmp_path / "other")
    for name in ("scores.csv", "table.md", "table.tex"):
        assert (settings["out"] / name).read_text() == (tmp_path / "other" / name).read_text()


def test_another_number_of_samples_is_another_evaluation(checkpoints: list[Path], settings: dict[str, Any]) -> None:
    given = {**settings, "sizes": [4], "algorithms": ["bfs"]}
    evaluate(checkpoints[:1], **given)
    (marks,) = evaluate(checkpoints[:1], **given, num_samples=7).marks.values()
    assert len(marks.parted) == 7


@pytest.mark.slow
def test_the_report_has_a_line_for_every_score_and_chance(checkpoints: list[Path], settings: dict[str, Any]) -> None:
    evaluation = evaluate(checkpoints, **settings, families=["dm-clrs", "grid"], with_hints=True)
    paths = write_report(evaluation, settings["out"])
    assert [path.name for path in paths] == ["scores.csv", "table.md", "table.tex", "scores.png", "hints.csv"]
    with paths[0].open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    of_instances = {"exact", "valid", "exact hints", "part"}
    assert {row["kind"] for row in rows} == {"mean", "output", "chance", "hint", *of_instances}
    assert {row["family"] for row in rows if row["algorithm"] == "bfs"} == {"dm-clrs", "grid"}
    assert {row["family"] for row in rows if row["algorithm"] == "insertion_sort"} == {"dm-clrs"}
    assert {row["num_nodes"] for row in rows if row["algorithm"] == "naive_string_matcher"} == {"5", "10"}
    scored = [row for row in rows if row["kind"] in ("mean", "output", "exact")]
    assert all(float(row["ci_low"]) <= float(row["score"]) + 1e-9 for row in scored)
    chances = {(row["algorithm"], row["num_nodes"]): float(row["score"]) for row in rows if row["kind"] == "chance"}
    assert chances["bfs", "8"] == pytest.approx(1 / 8)
    table = paths[1].read_text()
    assert "mean over 3 algorithms" in table
    assert [line for line in table.splitlines() if line.startswith("**")] == [
        f"**MPNN{name}**{ending}" for name in ("", f" ({checkpoints[1]})") for ending in ("", ", graphs of grid")
    ]
    assert r"\toprule" in paths[2].read_text()


def test_several_seeds_are_a_mean_with_standard_deviation_and_error(
    checkpoints: list[Path], settings: dict[str, Any], tmp_path: Path
) -> None:
    for seed, checkpoint in enumerate(checkpoints):
        folder = tmp_path / "campaign" / "variant" / "bfs" / f"seed{seed}"
        folder.mkdir(parents=True)
        (folder / "best.ckpt").write_bytes(checkpoint.read_bytes())
    evaluation = evaluate([tmp_path / "campaign"], **{**settings, "sizes": [4], "algorithms": ["bfs"]})
    rows = [row for unit, marks in evaluation.marks.items() for row in rows_of(evaluation.specs, unit, marks)]
    ((by_algorithm),) = _cells_of(rows).values()
    cell = by_algorithm["bfs"][4]
    assert cell.standard_error == pytest.approx(np.std(cell.scores, ddof=1) / np.sqrt(2))
    assert cell.text == f"{np.mean(cell.scores):.1f} ± {np.std(cell.scores, ddof=1):.1f} ({cell.standard_error:.1f})"


def test_two_models_are_compared_on_the_same_instances(checkpoints: list[Path], settings: dict[str, Any]) -> None:
    evaluation = evaluate(checkpoints, **{**settings, "algorithms": ["bfs"]})
    rows = compare(evaluation, *map(str, checkpoints))
    assert [(row.algorithm, row.size) for row in rows] == [("bfs", 4), ("bfs", 8)]
    assert all(row.difference.score == pytest.approx(row.second - row.first) for row in rows)
    back = compare(evaluation, *map(str, reversed(checkpoints)))
    assert [row.difference.score for row in back] == pytest.approx([-row.difference.score for row in rows])
    assert [row.p_value for row in back] == pytest.approx([row.p_value for row in rows])
    text = "\n".join(compared(rows, "a", "b"))
    assert "paired bootstrap test" in text
    assert "Holm" in text


def test_a_folder_stands_for_the_best_checkpoints_in_it(checkpoints: list[Path], tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / "sweep" / name).mkdir(parents=True)
        (tmp_path / "sweep" / name / "best.ckpt").write_bytes(checkpoints[0].read_bytes())
    assert run_module.found([tmp_path / "sweep", checkpoints[1]]) == [
        str(tmp_path / "sweep" / "x" / "best.ckpt"),
        str(tmp_path / "sweep" / "y" / "best.ckpt"),
        str(checkpoints[1]),
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"algorithms": ["dfs"]}, "expected algorithms that a checkpoint knows, .*; given dfs"),
        ({"families": ["torus"]}, "expected families among dm-clrs, .*; given torus"),
        ({"sizes": []}, "expected sizes ≥ 1, given"),
        ({"algorithms": ["insertion_sort"], "families": ["grid"]}, "is about graphs"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    checkpoints: list[Path], settings: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(checkpoints[:1], **{**settings, **changed})


def test_no_checkpoint_and_equal_ones_are_refused(
    checkpoints: list[Path], settings: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "copy.ckpt").write_bytes(checkpoints[0].read_bytes())
    with pytest.raises(UserError, match="no checkpoint in"):
        evaluate([tmp_path / "empty"], **settings)
    with pytest.raises(UserError, match="expected different checkpoints"):
        evaluate([checkpoints[0], tmp_path / "copy.ckpt"], **settings)
    with pytest.raises(UserError, match="no checkpoint at"):
        evaluate([tmp_path / "none.ckpt"], **settings)
