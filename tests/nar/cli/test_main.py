import csv
import inspect
import io
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import load_file

import nar.cli.trainer
import nar.training.execution
import nar.training.reasoner
from nar.batch import Batch
from nar.datasets import ALGORITHMS, CLRS30, sample
from nar.datasets.splits.splits import TrainStream
from nar.model import Reconstruction
from nar.noise import Uniform
from nar.processors import PGN
from nar.processors.reductions import Max, Recurrent
from nar.training.checkpoint import config_of, load_reasoner, read_checkpoint
from nar.training.progress import ProgressLines
from nar.training.reasoner import Reasoner

CONFIG_FOLDER = Path(__file__).parents[3] / "scripts" / "configs"
CONFIGS = sorted(
    path for path in CONFIG_FOLDER.glob("*.yaml") if path.stem.partition("_")[0] not in ("salsa", "transnar")
)
SUPPORT = Path(__file__).parents[2] / "support"
NAR = Path(sys.executable).with_name("nar")

QUIET = ("--trainer.enable_progress_bar", "--trainer.enable_model_summary", "false")
"""What is not shown of short runs."""

Run = Callable[..., None]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path)["state_dict"])


def assert_equal_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_trains_and_its_checkpoint_is_tested(
    config: Path, run: Run, small: list[str], tmp_path: Path
) -> None:
    few = ["bfs", "heapsort", "insertion_sort"] if config.stem == "generalist" else ["bfs"]
    run("fit", "--config", str(config), *small, "--data.algorithms", f"[{','.join(few)}]")
    run("test", "--ckpt_path", str(tmp_path / "run" / "best.ckpt"), "--data.test_sizes", "[4,6]")
    scores = [row for row in rows(tmp_path / "run" / "ood.csv") if row["kind"] == "mean"]
    assert [(row["algorithm"], row["num_nodes"]) for row in scores] == [(name, n) for name in few for n in ("4", "6")]
    assert all(0 <= float(row["score"]) <= 1 for row in scores)


def test_the_generalist_learns_all_algorithms_in_as_many_steps_of_each_as_a_model_of_one() -> None:
    one, generalist = (
        yaml.safe_load((CONFIGS[0].parent / f"{name}.yaml").read_text()) for name in ("clrs30", "generalist")
    )
    for name in ("max_steps", "val_check_interval"):
        assert generalist["trainer"].pop(name) == len(ALGORITHMS) * one["trainer"].pop(name)
    assert (generalist["data"].pop("algorithms"), one["data"].pop("algorithms")) == ("all", "bfs")
    assert generalist["data"].pop("chunk_length") == 16
    of_generalist, of_one = (config["model"].pop("processor") for config in (generalist, one))
    assert of_generalist == {"class_path": of_one, "init_args": {"gated": False}}
    assert generalist == one


@pytest.mark.slow
def test_training_on_chunks_scores_outputs_where_a_sample_ends(
    run: Run, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[torch.Tensor | None] = []
    original = nar.training.execution.losses

    def losses(
        spec: Any, predictions: Any, feedback: Any, ended: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        marks.append(ended)
        return original(spec, predictions, feedback, ended)

    monkeypatch.setattr(nar.training.execution, "losses", losses)
    chunked = ["--data.algorithms", "heapsort", "--data.chunk_length", "6", "--trainer.val_check_interval", "4"]
    run("fit", *small, *chunked, "--trainer.limit_val_batches", "1")
    *training, validation = marks
    stream = TrainStream(["heapsort"], [4, 5], 2, seed=42, chunk_length=6)
    for mark, batch in zip(training, islice(stream, 4), strict=True):
        assert mark is not None
        assert batch.ended is not None
        assert mark.equal(batch.ended)
    assert validation is None


@pytest.mark.slow
def test_the_checkpoint_knows_its_algorithms_its_processor_and_its_sizes(
    run: Run, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = ["--model.processor", "PGN", "--data.algorithms", "[dfs,minimum]", "--data.test_sizes", "[5]"]
    run("fit", *mine, *small)
    capsys.readouterr()
    run("test", "--ckpt_path", "run/best.ckpt")
    assert [row["algorithm"] for row in rows(tmp_path / "run" / "ood.csv") if row["kind"] == "mean"] == [
        "dfs",
        "minimum",
    ]
    printed = capsys.readouterr().out
    assert "dfs" in printed
    assert "minimum" in printed
    model = config_of(read_checkpoint("run/best.ckpt"))["model"]
    assert model["processor"]["class_path"] == "nar.processors.PGN"


@pytest.mark.slow
def test_a_test_writes_the_columns_and_scores_of_an_evaluation(run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", "--data.algorithms", "[bfs,kmp_matcher]", *small)
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[4,8]", "--data.eval_batch_size", "5")
    run("evaluate", "run/best.ckpt", "--sizes", "4", "8", "--cache_dir", str(tmp_path / "cache"))
    tested, evaluated = rows(tmp_path / "run/ood.csv"), rows(tmp_path / "evaluation/scores.csv")
    kinds = ("output", "mean", "exact")
    in_order = sorted(tested, key=lambda row: int(row["num_nodes"]))
    assert in_order == [row for row in evaluated if row["kind"] in kinds]


@pytest.mark.slow
def test_a_second_test_leaves_what_the_first_has_written(run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", *small)
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[4]")
    written = {path: path.read_bytes() for path in (tmp_path / "run").glob("ood.*")}
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[5]")
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[5]", "--data.test_graphs", "grid")
    assert written == {path: path.read_bytes() for path in written}
    names = {path.name for path in (tmp_path / "run").glob("ood*")}
    assert names == {f"ood{number}.{kind}" for number in ("", "_2", "_grid") for kind in ("csv", "png")}
    assert {row["num_nodes"] for row in rows(tmp_path / "run/ood_2.csv")} == {"5"}
    assert {row["family"] for row in rows(tmp_path / "run/ood_grid.csv")} == {"grid"}


@pytest.mark.slow
def test_a_test_writes_a_picture(run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", *small)
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[4,5]")
    with Image.open(tmp_path / "run" / "ood.png") as picture:
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 10


def test_the_score_is_that_of_the_predictions(run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", "--data.algorithms", "insertion_sort", *small)
    run("test", "--ckpt_path", "run/last.ckpt", "--data.test_sizes", "[7]", "--data.eval_batch_size", "5")
    run("predict", "--ckpt_path", "run/last.ckpt", "--data.test_sizes", "[7]")
    predicted = load_file(tmp_path / "run" / "predictions" / "insertion_sort_7.safetensors")["pred"]
    truth = sample("insertion_sort", num_nodes=7, num_samples=32, seed=3).outputs["pred"]
    assert float(rows(tmp_path / "run" / "ood.csv")[0]["score"]) == pytest.approx(np.mean(predicted == truth))


def test_a_loaded_model_scores_what_the_command_line_prints(run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", "--model.processor", "PGN", "--model.use_lstm", "true", *small)
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[6]")
    reasoner = load_reasoner("run/best.ckpt")
    data = CLRS30("bfs", test_sizes=[6], num_workers=0, cache_dir=str(tmp_path / "cache"))
    (batch,) = data.test_dataloader()
    with torch.no_grad():
        right = reasoner(batch).outputs["pi"].argmax(dim=-1) == batch.feedback.outputs["pi"]
    assert float(rows(tmp_path / "run" / "ood.csv")[0]["score"]) == pytest.approx(right.double().mean().item())


@pytest.mark.slow
def test_a_processor_is_found_by_its_import_path(run: Run, small: list[str]) -> None:
    run("fit", "--model.processor", "custom_processor.MeanProcessor", *small)
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[4]")


OWN = "own_algorithm.Components"
DENSER = {"class_path": OWN, "init_args": {"degree": 3.0}}


def algorithms_of(path: str) -> Any:
    """What the YAML that a run saved, or a checkpoint, says of the algorithms."""
    written = yaml.safe_load(Path(path).read_text()) if path.endswith(".yaml") else config_of(read_checkpoint(path))
    return written["data"]["algorithms"]


@pytest.mark.slow
def test_an_algorithm_is_found_by_its_import_path(
    run: Run, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", "--data.algorithms", OWN, *small)
    assert algorithms_of("run/logs/version_0/config.yaml") == {"class_path": OWN, "init_args": {"degree": 1.5}}
    capsys.readouterr()
    run("validate", "--ckpt_path", "run/best.ckpt")
    assert re.search(r"Components *│ 5 │ \S* │ label 0.", capsys.readouterr().out)
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[1,6]")
    assert re.search(r"Components *│ 6 │ \S* │ label 0.", capsys.readouterr().out)
    found = [(row["algorithm"], row["num_nodes"], row["kind"]) for row in rows(tmp_path / "run" / "ood.csv")]
    assert found == [("Components", size, kind) for size in ("1", "6") for kind in ("output", "mean", "exact")]
    run("predict", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[6]")
    predicted = load_file(tmp_path / "run" / "predictions" / "Components_6.safetensors")
    assert predicted["label"].shape == (32, 6)


@pytest.mark.slow
def test_an_algorithm_of_ones_own_has_its_arguments_in_yaml_beside_names(
    run: Run, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "several.yaml"
    config.write_text(yaml.safe_dump({"data": {"algorithms": ["bfs", DENSER]}}))
    run("fit", "--config", str(config), *small)
    assert algorithms_of("run/logs/version_0/config.yaml") == ["bfs", DENSER]
    capsys.readouterr()
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[4]")
    printed = capsys.readouterr().out
    assert "bfs" in printed
    assert "Components" in printed


@pytest.mark.slow
def test_a_run_of_an_algorithm_of_ones_own_can_go_on_from_the_configuration_that_it_saved(
    run: Run, small: list[str], tmp_path: Path
) -> None:
    every_kind = {"class_path": "own_algorithm.EveryKind", "init_args": {"stages": ["hint"]}}
    run("fit", "--data.algorithms", json.dumps([OWN, "bfs", every_kind]), *small)
    run("fit", "--config", "run/logs/version_0/config.yaml", "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == 6


@pytest.mark.slow
def test_a_run_is_in_a_folder_of_the_name_of_its_class(run: Run, small: list[str]) -> None:
    root = small.index("--trainer.default_root_dir")
    run("fit", "--data.algorithms", json.dumps(DENSER), *small[:root], *small[root + 2 :])
    assert algorithms_of("runs/Components/best.ckpt") == [DENSER]


@pytest.fixture
def write_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes a module ``mine`` with a class ``Mine``, components with something else about them."""
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # that of another test

    def write_mine(body: str) -> None:
        source = f"from pathlib import Path\nfrom own_algorithm import Components\nclass Mine(Components):\n{body}"
        (tmp_path / "mine.py").write_text(source)

    return write_mine


@pytest.mark.slow
def test_a_module_in_the_folder_where_the_command_is_given_is_found(
    write_mine: Callable[[str], None], run: Run, small: list[str]
) -> None:
    write_mine("    name = 'other'")
    run("fit", "--data.algorithms", "mine.Mine", *small)
    assert list(load_reasoner("run/best.ckpt").specs) == ["other"]


@pytest.mark.slow
def test_a_checkpoint_of_an_algorithm_whose_module_is_gone_is_loaded_all_the_same(
    run: Run, small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", "--data.algorithms", OWN, *small)
    monkeypatch.setitem(sys.modules, "own_algorithm", None)
    assert list(load_reasoner("run/best.ckpt").specs) == ["Components"]
    error = error_of(run, capsys, "test", "--ckpt_path", "run/best.ckpt")
    assert error.startswith("nar: error: run/best.ckpt was made with settings that are refused: --data.algorithms: ")
    assert f"Problem with given class_path '{OWN}'" in error


@pytest.mark.slow
def test_settings_that_are_no_plain_values_are_kept_as_text(
    write_mine: Callable[[str], None], run: Run, small: list[str]
) -> None:
    body = """
    def __init__(self, path: Path, sizes: tuple[int, ...] = (1, 2)) -> None:
        self.degree, self.path, self.sizes = 1.5, path, sizes
    """
    write_mine(body)
    given = ["--data.algorithms", "{class_path: mine.Mine, init_args: {path: graphs.txt}}"]
    run("fit", *given, *small)
    run("fit", *given, *small, "--ckpt_path", "last", "--trainer.max_steps", "5")
    run("test", "--ckpt_path", "run/last.ckpt", "--data.test_sizes", "[4]")
    kept = {"class_path": "mine.Mine", "init_args": {"path": "graphs.txt", "sizes": [1, 2]}}
    assert algorithms_of("run/last.ckpt") == [kept]


@pytest.mark.slow
def test_what_breaks_a_type_in_a_data_worker_is_refused_in_one_line(
    write_mine: Callable[[str], None], small: list[str], tmp_path: Path
) -> None:
    body = """
    def inputs(self, adj):
        pos, adj = super().inputs(adj)
        return (pos - 1 if len(adj) == 5 else pos), adj
    """
    write_mine(body)
    # What runs first is of the smallest size, and validation is at the largest.
    settings = [*small, "--data.num_workers", "1", "--data.train_sizes", "[6,5,4]"]
    command = [str(NAR), "fit", "--data.algorithms", "mine.Mine", *settings]
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    expected = (
        "nar: error: Mine: expected the positions pos to ascend from 0 to 1, given [-1.0, -0.8, -0.6, -0.4, -0.2]"
    )
    assert result.stderr.splitlines()[-1].startswith(expected[:90])
    assert result.returncode == 2


@pytest.mark.slow
def test_the_smallest_error_of_a_scalar_is_the_best(
    run: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_kind = {"class_path": "own_algorithm.EveryKind", "init_args": {"stages": ["output"]}}
    run("fit", "--data.algorithms", json.dumps(every_kind), *small)
    found = rows(tmp_path / "run" / "logs" / "version_0" / "metrics.csv")[-1]
    prefix = "val/EveryKind/"
    by_output = {
        name.removeprefix(prefix): float(value)
        for name, value in found.items()
        if name.startswith(prefix) and "loss" not in name and name != f"{prefix}score"
    }
    signed = [-value if name.endswith("scalar") else value for name, value in by_output.items()]
    assert len(signed) == 14
    assert float(found["val/score"]) == pytest.approx(sum(signed) / len(signed), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("algorithms", ["bfs", "all", "[bfs,dfs]", OWN, f"[bfs,{OWN}]", json.dumps(["bfs", DENSER])])
def test_a_printed_configuration_asks_for_the_same_algorithms(
    algorithms: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for given in (["--data.algorithms", algorithms], ["--config", "printed.yaml"]):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="0"):
            run("fit", *given, "--print_config")
        printed.append(capsys.readouterr().out)
        Path("printed.yaml").write_text(printed[-1])
    assert printed[0] == printed[1]


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_help_lists_the_flags_of_the_command_of_the_data_and_of_the_model_before_those_of_the_trainer(
    command: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(command, "--help")
    text = capsys.readouterr().out
    flags = [
        f"\n  {flag}"
        for flag in ("--ckpt_path", "--data.algorithms", "--model.use_lstm", "--optimizer", "--trainer.devices")
    ]
    places = [text.index(flag) for flag in flags]
    assert places == sorted(places)
    assert text.startswith(f"usage: nar {command} [--config FILE] [flags]\n")


def test_help_names_the_algorithms_of_no_one(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("fit", "--help")
    text = (
        " ".join(capsys.readouterr().out.split()).partition("--data.algorithms+")[2].partition("--data.train_sizes")[0]
    )
    assert "import path of a subclass of :class:`nar.datasets.Algorithm`" in text
    assert not any(name in text for name in ("Known", "dijkstra", "nar.datasets.clrs30.samplers", "abc."))


def test_losses_and_scores_are_logged_by_probe(run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", *small)
    logs = tmp_path / "run" / "logs" / "version_0"
    columns = rows(logs / "metrics.csv")[0].keys()
    assert {"train/bfs/loss/pi_h", "train/bfs/loss/pi", "val/bfs/loss/reach_h", "val/bfs/pi", "val/score"} <= columns
    assert list(logs.glob("events.out.tfevents.*"))


REGULARISED = "{class_path: Asynchronous, init_args: {update: network, message: mlp}}"


@pytest.mark.slow
def test_penalties_are_logged_by_name_and_added_to_the_loss_by_their_weights(
    run: Run, small: list[str], tmp_path: Path
) -> None:
    given = ["--model.processor", REGULARISED, "--model.penalties", "{action: 10.0, cocycle: 0.5}"]
    run("fit", *given, *small)
    prefix = "train/bfs/"
    for row in rows(tmp_path / "run" / "logs" / "version_0" / "metrics.csv"):
        parts = {name.removeprefix(prefix): float(x) for name, x in row.items() if name.startswith(prefix) and x}
        if parts:
            total = parts.pop("loss")
            weighted = 10 * parts.pop("penalty/action") + 0.5 * parts.pop("penalty/cocycle")
            assert weighted > 0
            assert total == pytest.approx(sum(parts.values()) + weighted, rel=1e-5)
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[4]", "--model.penalties", "null")


@pytest.mark.slow
def test_equal_seeds_make_equal_runs(run: Run, small: list[str], tmp_path: Path) -> None:
    noisy = ["--data.algorithms", "insertion_sort", "--model.dropout", "0.1", *small]
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        run("fit", *noisy, "--seed_everything", seed, "--trainer.default_root_dir", name)
    assert_equal_weights(tmp_path / "a" / "last.ckpt", tmp_path / "b" / "last.ckpt")
    one, other = weights(tmp_path / "a" / "last.ckpt"), weights(tmp_path / "c" / "last.ckpt")
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("steps", ["4", "5"], ids=["ended at a validation", "ended after one"])
def test_a_finished_run_can_go_on(steps: str, run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", *small, "--trainer.max_steps", steps)
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == int(steps)
    run("fit", *small, "--ckpt_path", "last", "--trainer.max_steps", "8")
    run("fit", *small, "--trainer.max_steps", "8", "--trainer.default_root_dir", "whole")
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == 8
    assert_equal_weights(tmp_path / "run" / "last.ckpt", tmp_path / "whole" / "last.ckpt")


def test_last_means_the_last_checkpoint_of_the_run_where_no_folder_is_given(
    run: Run, small: list[str], tmp_path: Path
) -> None:
    root = small.index("--trainer.default_root_dir")
    anywhere = small[:root] + small[root + 2 :]
    run("fit", *anywhere)
    run("fit", *anywhere, "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert read_checkpoint(tmp_path / "runs" / "bfs" / "last.ckpt")["global_step"] == 6


@pytest.mark.slow
def test_a_run_shorter_than_the_validation_interval_is_validated_and_kept(
    run: Run, small: list[str], tmp_path: Path
) -> None:
    run("fit", *small, "--trainer.max_steps", "1")
    assert read_checkpoint(tmp_path / "run" / "best.ckpt")["global_step"] == 1


@pytest.mark.slow
def test_training_data_is_not_repeated_in_another_epoch(
    run: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    original = Reasoner.training_step

    def training_step(self: Reasoner, batch: Batch, batch_idx: int) -> torch.Tensor:
        seeds.append(batch.seed)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Reasoner, "training_step", training_step)
    run("fit", *small, "--trainer.limit_train_batches", "2", "--trainer.val_check_interval", "1")
    assert len(set(seeds)) == 4


@pytest.mark.slow
def test_a_killed_run_resumes_as_if_it_had_never_stopped(small: list[str], tmp_path: Path) -> None:
    # Sorting draws noise in training; a worker process draws data ahead of what was used when the run is killed.
    args = [*small, "--data.algorithms", "insertion_sort", "--data.num_workers", "1", "--trainer.max_steps", "40"]
    whole = ["--trainer.default_root_dir", "whole"]
    subprocess.run([NAR, "fit", *args, *whole], cwd=tmp_path, check=True, capture_output=True)
    with subprocess.Popen(
        [NAR, "fit", *args], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ) as fit:
        last = tmp_path / "run" / "last.ckpt"
        deadline = time.monotonic() + 120
        while not last.exists() and fit.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        fit.send_signal(signal.SIGKILL)
    assert fit.returncode == -signal.SIGKILL
    assert read_checkpoint(last)["global_step"] < 40
    subprocess.run([NAR, "fit", *args, "--ckpt_path", "last"], cwd=tmp_path, check=True, capture_output=True)
    assert read_checkpoint(last)["global_step"] == 40
    assert_equal_weights(last, tmp_path / "whole" / "last.ckpt")


@pytest.mark.slow
def test_two_processes_train_one_model_and_score_every_trajectory_once(
    run: Run, small: list[str], tmp_path: Path
) -> None:
    # Activities are decoded from nodes alone, so that the edge states have no gradient: DDP must put up with it.
    # At the second validation split there is one batch: both processes must have a part of it.
    several = ["--data.algorithms", "[bfs,activity_selector]", *small, "--data.eval_batch_size", "64"]
    ddp = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    ddp += ["--trainer.callbacks", "AveragedWeights", "--lr_scheduler", "WarmupCosine"]  # of which each has its own
    subprocess.run([NAR, "fit", *several, *ddp], cwd=tmp_path, check=True, capture_output=True)
    with_two = tmp_path / "run" / "logs" / "version_0" / "metrics.csv"
    # Losses are means over batches, which are others when two processes share a split; scores are pooled.
    last = rows(with_two)[-1]
    expected = {k: float(v) for k, v in last.items() if k.startswith("val/") and "loss" not in k and v}
    run("validate", "--ckpt_path", "run/last.ckpt")
    found = rows(tmp_path / "run" / "logs" / "version_1" / "metrics.csv")[-1]
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected, rel=1e-4)
    assert {"val/bfs/pi", "val/activity_selector/selected", "val/score"} <= expected.keys()


@pytest.mark.slow
def test_the_best_checkpoint_is_the_first_of_equal_score(
    run: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.7, 0.7, 0.6])
    monkeypatch.setattr(Reasoner, "on_validation_epoch_end", lambda self: self.log("val/score", next(scores)))
    run("fit", *small, "--trainer.val_check_interval", "1")
    assert read_checkpoint(tmp_path / "run" / "best.ckpt")["global_step"] == 2
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == 4


@pytest.mark.slow
def test_mixed_precision_trains(run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", "--data.algorithms", "insertion_sort", *small, "--trainer.precision", "bf16-mixed")
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run" / "last.ckpt").values())


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    run: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = nar.training.execution.losses

    def spoilt(*args: Any) -> dict[str, torch.Tensor]:
        by_probe = original(*args)
        last = tmp_path / "run" / "last.ckpt"
        return {**by_probe, "pi_h": by_probe["pi_h"] * float("nan")} if last.exists() else by_probe

    monkeypatch.setattr(nar.training.execution, "losses", spoilt)
    error = error_of(run, capsys, "fit", *small)
    assert "bfs's probe pi_h is nan after step 2" in error
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == 2


@pytest.mark.slow
def test_a_log_has_lines_in_place_of_bars(run: Run, small: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    settings = [part for part in small if part not in QUIET]
    run("fit", *settings, "--data.algorithms", "minimum")
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[5]")
    printed = "".join(capfd.readouterr())
    lines = printed.splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert [line.split(",")[0] for line in steps] == ["step 2 of 4", "step 4 of 4"]
    assert all(re.search(r", loss \d[\d.]*, val/score \d[\d.]*, \d[\d.e+]* steps per second$", line) for line in steps)
    assert "generated validation split of minimum, n = 5: 1 of 1" in lines
    assert any(re.fullmatch(r"training [\d,]+ parameters", line) for line in lines)
    assert not any(part in printed for part in ("\r", "\x1b", "FLOPs", "TPU", "litlogger", "litmodels", "it/s"))


@pytest.mark.slow
def test_a_run_without_progress_prints_no_summary(
    run: Run, small: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    at = small.index("--trainer.enable_model_summary")
    run("fit", *small[:at], *small[at + 2 :])
    printed = "".join(capfd.readouterr())
    assert not any(part in printed for part in ("FLOPs", "Params", "parameters", "Modules in"))


@pytest.mark.slow
def test_a_terminal_has_a_bar(run: Run, small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [part for part in small if part not in QUIET]
    shown: list[bytes] = []
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (24, 80))

    def read() -> None:
        with suppress(OSError):  # when the other end is closed
            while part := os.read(leader, 4096):
                shown.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with open(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        run("fit", *settings, "--data.algorithms", "minimum", "--trainer.max_steps", "20")
        monkeypatch.undo()
    reader.join()
    text = b"".join(shown).decode()
    assert "\r" in text.replace("\r\n", "")
    assert "it/s" in text
    assert "step 20 of 20" not in text


@pytest.mark.slow
def test_long_silences_of_a_log_are_broken_by_lines(
    run: Run, small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nar.cli.trainer, "ProgressLines", lambda **_: ProgressLines(seconds=0))
    settings = [part for part in small if part not in QUIET]
    run("fit", *settings)
    steps = [line.split(",")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [*dict.fromkeys(steps)] == [f"step {number} of 4" for number in (1, 2, 3, 4)]


def test_what_the_encoding_of_the_output_has_not_is_escaped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii"))
    run("data", "list", "--data.cache_dir", str(tmp_path / "größe"))
    sys.stdout.flush()
    assert output.getvalue().decode().endswith("gr\\xf6\\xdfe: 0 files, 0.00 MB\n")


def test_who_has_no_home_has_a_cache_among_temporary_files(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    run("data", "list")
    expected = Path(tempfile.gettempdir()) / f"nar-{os.getuid()}" / ".cache" / "nar"
    assert capsys.readouterr().out.startswith(f"{expected}: ")
    assert "~nobody" in error_of(run, capsys, "data", "list", "--data.cache_dir", "~nobody-of-this-name/cache")


def error_of(run: Run, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line of a refused command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nar: error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("config", [[], ["--config", str(CONFIG_FOLDER / "clrs30.yaml")]], ids=["", "clrs30.yaml"])
def test_a_processor_that_is_asked_for_has_its_own_defaults(
    config: list[str], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("fit", *config, "--model.processor", "PGN", "--model.processor.hidden_dim", "4", "--print_config")
    written = yaml.safe_load(capsys.readouterr().out)["model"]["processor"]
    assert written["class_path"] == "nar.processors.PGN"
    defaults = {name: p.default for name, p in inspect.signature(PGN).parameters.items()}
    assert written["init_args"] == {**defaults, "hidden_dim": 4}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--data.algorithms", "bsf"], "unknown algorithm bsf; known are articulation_points, activity_selector"),
        (["--data.algorithms", "[bfs,bfs]"], "different algorithms"),
        (["--data.algorithms", "[]"], "expected one or more different algorithms, given []"),
        (["--data.algorithms", f"[{OWN},{OWN}]"], "different algorithms, given ['Components', 'Components']"),
        (["--data.algorithms", "missing.Components"], "'missing.Components': No module named 'missing'"),
        (["--data.algorithms", "[bfs,own_algorithm.None]"], "module 'own_algorithm' has no attribute 'None'"),
        (["--data.algorithms", "own_algorithm.Trace"], "own_algorithm.Trace does not correspond to a subclass of Alg"),
        (["--data.algorithms", "own_algorithm.Algorithm"], "but own_algorithm.Algorithm is abstract"),
        (["--data.algorithms", f"{{class_path: {OWN}, init_args: {{degre: 3}}}}"], "Option 'degre' is not accepted"),
        (["--data.algorithms", f"[bfs,{{class_path: {OWN}, init_args: {{degre: 3}}}}]"], "'degre' is not accepted"),
        (["--data.algorithms", "own_algorithm.Told"], "spec"),
        (
            ["--model.processor", "Triplet"],
            "known processors: GAT, MPNN, PGN, Asynchronous, DeepSets, GATv2, MemNet, PairGMPNN, TripletGMPNN;",
        ),
        (["--model.processor.hidden_dim", "0"], "expected hidden_dim ≥ 1 and triplet_dim ≥ 0, given 0 and 8"),
        (["--model.processor.reduction", "median"], "model.processor"),
        (["--model.processor.reduction", "[max, median]"], "model.processor"),
        (["--model.processor.reduction", "[]"], "a list of such or a Reduction, given []"),
        (["--model.hint_mode", "some"], "model.hint_mode"),
        (
            ["--model.edge_pointers", "triplets", "--model.processor", "PGN"],
            "whose forward takes triplet_fts for edge_pointers 'triplets', given PGN",
        ),
        (["--model.num_processor_steps", "{bsf: 2}"], "unknown algorithm in num_processor_steps bsf; known are art"),
        (["--model.num_frequencies", "99"], "expected num_frequencies ≤ 20, given 99"),
        (["--model.latent_noise", "Discard"], "directions"),
        (["--model.hint_teacher_forcing", "2"], "expected a hint_teacher_forcing between 0 and 1, given 2.0"),
        (["--model.learning_rate", "0"], "expected a learning_rate above 0, given 0.0"),
        (["--model.penalties", "{action: 1}"], "expected a penalty of TripletGMPNN, none, given 'action'"),
        (
            ["--model.processor", "Asynchronous", "--model.penalties", "{level_2: 1}"],
            "expected a penalty of Asynchronous, 'action' or 'cocycle' or 'multimorphism', given 'level_2'",
        ),
        (
            ["--model.processor", "Asynchronous", "--model.penalties", "{action: -1}"],
            "expected a weight of 0 or more for the penalty 'action', given -1.0",
        ),
        (["--data.test_sizes", "[1]"], "bfs needs at least 2 nodes, given 1"),
        (["--data.train_sizes", "[]"], "expected at least one size in train_sizes"),
        (["--data.batch_size", "0"], "expected batch_size ≥ 1, given 0"),
        (["--data.chunk_length", "1"], "expected chunk_length ≥ 2, given 1"),
        (["--data.random_pos", "{bsf: false}"], "unknown algorithm in random_pos bsf; known are articulation_points"),
        (
            ["--trainer.val_check_interval", "{}"],
            "expected --trainer.val_check_interval to be a number, or a time such",
        ),
        (["--trainer.accelerator", "cuda"], "accelerator"),
        (["--trainer.steps", "3"], "unrecognized arguments: --trainer.steps"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--ckpt_path", "missing.ckpt"], "no checkpoint at missing.ckpt"),
    ],
    ids=lambda value: value[0].removeprefix("--") if isinstance(value, list) else "",
)
def test_bad_settings_are_refused_in_one_line(
    args: list[str], expected: str, run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in error_of(run, capsys, "fit", *small, *args)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["fit", "--data.algorithms", "bfs,dfs"], "(did you mean [bfs,dfs]?)"),
        (["fit", "--data.algorithms", "djikstra"], "did you mean dijkstra?"),
        (["fit", "--data.test_sizes", "64"], "--data.test_sizes: expected a list, such as [64], given 64"),
        (
            ["fit", "--data.algorithm", "bfs"],
            "unrecognized arguments: --data.algorithm (did you mean --data.algorithms?)",
        ),
        (["fit", "--model.procesor", "PGN"], "--model.procesor PGN (did you mean --model.processor?)"),
        (["fit", "--model.processor.hiden_dim", "4"], "Option 'hiden_dim' is not accepted (did you mean hidden_dim?)"),
        (["fit", "--model.processor", "TripletMPNN"], "given TripletMPNN (did you mean TripletGMPNN?)"),
        (
            ["fit", "--model.hint_feedback", "sofft"],
            "expected soft, hard or hard_on_eval, given sofft (did you mean soft?)",
        ),
        (["fit", "--trainer.logger", "WandbLogger"], "WandbLogger needs wandb: pip install wandb"),
        (["fit", "--trainer.max_steps", "many"], "--trainer.max_steps: expected a whole number, given many"),
        (["fit", "--trainer.devices", "-1", "--trainer.accelerator", "cpu"], "given --trainer.devices -1"),
        (["test", "best.ckpt"], "unrecognized arguments: best.ckpt (did you mean --ckpt_path best.ckpt?)"),
        (
            ["fit", "--config", "{modell: {dropout: 1}}"],
            "unknown setting --modell.dropout (did you mean --model.dropout?)",
        ),
        (["fit", "--config", "{data: {seeed: 1}}"], "unknown setting --data.seeed (did you mean --data.seed?)"),
        (["fit", "my.yaml"], "unrecognized arguments: my.yaml (did you mean --config my.yaml?)"),
        (["tset"], "given tset (did you mean test?)"),
        (["fit", "--model", "Reasner"], "LanguageReasoner, given Reasner (did you mean Reasoner?)"),
        (["fit", "--model", "torch.nn.Linear"], "--model: expected Reasoner, SparseReasoner, LanguageReasoner, given"),
        (["fit", "--model", "SparseReasoner", "--data", "CLRS30"], "expected SALSA for a SparseReasoner, given CLRS30"),
        (["data", "lst"], "given lst (did you mean list?)"),
        (["fit", "--model", "SparseReasoner", "--data.algorithms", "dijkstr"], "did you mean dijkstra?"),
        (["test", "--data", "SALSA"], "nar test needs a checkpoint: --ckpt_path runs/salsa/"),
        (
            ["fit", "--model", "SparseReasoner", "--model.processor.hidden_dim", "7"],
            "expected a conv that makes 7 channels (hidden_dim) of 14",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_refusal_says_what_may_have_been_meant(
    args: list[str], expected: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in error_of(run, capsys, *args)


def test_a_model_that_does_not_fit_into_memory_is_not_begun(
    run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(run, capsys, "fit", *small, "--model.processor.hidden_dim", "1000000")
    assert re.fullmatch(r"nar: error: the model would take [\d.e+]+ GiB or more, and [\d.]+ GiB are free: .*", error)


@pytest.mark.slow
def test_what_goes_wrong_within_a_step_keeps_its_traceback(
    run: Run, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(Reasoner, "training_step", broken)
    with pytest.raises(ValueError, match="a fault of ours"):
        run("fit", *small)


@pytest.mark.slow
def test_more_nodes_than_a_memory_holds_are_refused_in_one_line(
    run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", "--model.processor", "MemNet", "--model.processor.memory_size", "6", *small)
    error = error_of(run, capsys, "test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[5,6]")
    assert error == "nar: error: expected num_nodes ≤ memory_size - 1 = 5, given 6"


@pytest.fixture
def trained(run: Run, small: list[str], tmp_path: Path) -> Path:
    run("fit", *small)
    return tmp_path / "run" / "best.ckpt"


@pytest.mark.slow
def test_a_truncated_checkpoint_is_refused(trained: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    trained.write_bytes(trained.read_bytes()[:1000])
    assert "damaged" in error_of(run, capsys, "test", "--ckpt_path", str(trained))


@pytest.mark.parametrize("content", [b"", b"seed_everything: 42\n", b"algorithm,num_nodes\n", bytes(range(256))])
def test_a_file_of_another_kind_is_refused(
    content: bytes, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").write_bytes(content)
    assert "no checkpoint at all" in error_of(run, capsys, "test", "--ckpt_path", "other")


def test_another_programs_checkpoint_is_refused(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    assert "another program's" in error_of(run, capsys, "test", "--ckpt_path", "foreign.ckpt")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save(Harmful(), tmp_path / "harmful.ckpt")
    assert "harmful.ckpt" in error_of(run, capsys, "test", "--ckpt_path", "harmful.ckpt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_evaluation_asks_for_a_checkpoint(command: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--ckpt_path" in error_of(run, capsys, command)


@pytest.mark.slow
def test_a_checkpoint_for_other_algorithms_is_refused(
    trained: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(run, capsys, "test", "--ckpt_path", str(trained), "--data.algorithms", "dfs")
    assert "for ['bfs'], but the configuration asks for ['dfs']" in error


@pytest.mark.slow
def test_a_checkpoint_for_other_settings_of_an_algorithm_is_refused(
    run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", "--data.algorithms", OWN, *small)
    error = error_of(run, capsys, "test", "--ckpt_path", "run/best.ckpt", "--data.algorithms", json.dumps(DENSER))
    assert f"for ['{OWN}(degree=1.5)'], but the configuration asks for ['{OWN}(degree=3.0)']" in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "setting", "value"),
    [
        ("test", "model.processor.hidden_dim", "8"),
        ("test", "model.use_lstm", "true"),
        ("fit", "model.learning_rate", "0.5"),
        ("fit", "data.batch_size", "7"),
        ("fit", "data.chunk_length", "7"),
        ("fit", "data.val_size", "7"),
        ("fit", "data.random_pos", "false"),
        ("test", "model.difference_scales", "3"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    command: str, setting: str, value: str, trained: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(run, capsys, command, "--ckpt_path", str(trained), f"--{setting}", value)
    assert f"was made with {setting.removesuffix('.hidden_dim')}" in error


@pytest.mark.slow
def test_hint_feedback_may_be_changed_for_a_test(trained: Path, run: Run) -> None:
    run("test", "--ckpt_path", str(trained), "--model.hint_feedback", "hard", "--data.test_sizes", "[5]")


REDUCTION = "model.processor.init_args.reduction"


@pytest.fixture
def tested(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., torch.Tensor]:
    """Tests the last checkpoint with further arguments, and returns the logits that are scored."""
    logits: list[torch.Tensor] = []
    original = nar.training.reasoner.counts_by_graph

    def counts_by_graph(spec: Any, outputs: Any, truth: Any) -> dict[str, torch.Tensor]:
        logits.append(outputs["pi"])
        return original(spec, outputs, truth)

    def tested(*args: str) -> torch.Tensor:
        logits.clear()
        monkeypatch.setattr(nar.training.reasoner, "counts_by_graph", counts_by_graph)
        run("test", "--ckpt_path", "run/last.ckpt", "--data.test_sizes", "[6]", *args)
        return torch.cat(logits)

    return tested


@pytest.mark.slow
def test_a_model_may_be_tested_with_another_reduction_and_with_noise(
    run: Run, small: list[str], tested: Callable[..., torch.Tensor]
) -> None:
    run("fit", *small, f"--{REDUCTION}", "softmax", f"--{REDUCTION}_in_evaluation", "max")
    usual, sharp = tested(), json.dumps({"class_path": "Softmax", "init_args": {"temperature": 1e-9}})
    torch.testing.assert_close(tested(f"--{REDUCTION}_in_evaluation", sharp), usual)
    assert not torch.allclose(tested(f"--{REDUCTION}_in_evaluation", "softmax"), usual)
    assert not torch.allclose(tested("--model.latent_noise", "Corrupt"), usual)
    assert tested("--model.latent_noise", "Corrupt", "--model.latent_noise.when", "training").equal(usual)


@pytest.mark.slow
def test_a_model_of_several_reductions_is_trained_and_tested(
    run: Run, small: list[str], tested: Callable[..., torch.Tensor]
) -> None:
    run("fit", *small, "--model.processor.reduction", "[max, recurrent]")
    assert tested().isfinite().all()
    processor = load_reasoner("run/last.ckpt").model.processor
    assert [type(part) for part in processor.reduction.usual.parts] == [Max, Recurrent]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "setting", "value"),
    [
        ("test", REDUCTION, "softmax"),
        ("test", "model.latent_decay", "0.9"),
        ("fit", f"{REDUCTION}_in_evaluation", "softmax"),
        ("fit", "model.latent_noise", "Uniform"),
    ],
)
def test_what_a_model_was_trained_with_stays(
    command: str, setting: str, value: str, trained: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(run, capsys, command, "--ckpt_path", str(trained), f"--{setting}", value)
    assert f"was made with {setting.partition('.init_args')[0]} " in error


@pytest.mark.slow
def test_a_model_with_noise_is_loaded_with_it(run: Run, small: list[str]) -> None:
    noise = ["--model.latent_noise", "Uniform", "--model.latent_noise.scale", "0.5"]
    run("fit", *small, *noise, "--model.latent_decay", "0.5", "--model.latent_decay_to", "mean")
    model = load_reasoner("run/best.ckpt").model
    assert isinstance(model.latent_noise, Uniform)
    assert (model.latent_noise.scale, model.latent_decay, model.latent_decay_to) == (0.5, 0.5, "mean")


@pytest.mark.slow
def test_a_model_that_reconstructs_its_hints_is_loaded_and_tested_as_one(run: Run, small: list[str]) -> None:
    settings = ["--model.reconstruction", "Reconstruction", "--model.reconstruction.mask_ratio", "0.25"]
    run("fit", *small, *settings)
    model = load_reasoner("run/best.ckpt").model
    assert isinstance(model.reconstruction, Reconstruction)
    assert (model.reconstruction.weight, model.reconstruction.mask_ratio) == (0.1, 0.25)
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[6]")
    assert Path("run/ood.csv").exists()


@pytest.mark.slow
def test_settings_that_a_checkpoint_does_not_know_yet_are_their_defaults(
    trained: Path, run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = torch.load(trained, weights_only=True)
    model = checkpoint["nar_config"]["model"]
    for settings, name in ((model, "latent_decay"), (model["processor"]["init_args"], "reduction")):
        del settings[name]
    torch.save(checkpoint, trained)
    run("test", "--ckpt_path", str(trained), "--data.test_sizes", "[5]")
    assert load_reasoner(trained).model.latent_decay == 1
    error = error_of(run, capsys, "test", "--ckpt_path", str(trained), "--model.latent_decay", "0.5")
    assert "was made with model.latent_decay 1.0, but the configuration asks for 0.5" in error


@pytest.mark.slow
def test_a_folder_with_checkpoints_is_not_trained_into_again(
    trained: Path, run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = trained.read_bytes()
    assert "holds the checkpoints of another run" in error_of(run, capsys, "fit", *small)
    assert trained.read_bytes() == before
