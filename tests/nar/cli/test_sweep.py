"""``nar sweep``, whose runs are of a command line that takes no time (see ``fake_nar.py``), but for the last test."""

import csv
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from fake_nar import PAUSE, install, steps_in_text

import nar.cli.train
from nar.cli.commands.sweep import _planned, _shared_gpu, _variant_of, make_parser
from nar.datasets import ALGORITHMS
from nar.datasets.clrs30.recipe import recipe_spec
from nar.errors import UserError
from nar.files import newest
from nar.processors import TripletGMPNN
from nar.sweep import campaign as sweep
from nar.sweep.run import Reached
from nar.training.checkpoint import read_checkpoint, write_checkpoint
from nar.training.reasoner import Reasoner

CONFIGS = Path(__file__).parents[3] / "scripts" / "configs"
VARIANTS = CONFIGS / "variants"
CONTROL = str(VARIANTS / "transnar_control.yaml")
SMALL_TRANSNAR = str(CONFIGS / "transnar_small.yaml")
ONLY_BFS = ["--config", SMALL_TRANSNAR, "--model.reasoner", "bfs", "--data.algorithms", "[bfs]"]

Run = Callable[..., None]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line in place of ``nar``."""
    install(monkeypatch)


def status_of(run: Run, *args: str) -> int:
    """The status with which ``nar sweep`` ends."""
    with pytest.raises(SystemExit) as stop:
        run("sweep", *args)
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.slow
def test_variants_algorithms_and_seeds_of_the_command_line_are_trained_with_its_flags(
    fake: None, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--config", str(CONFIGS / "clrs30.yaml"), "--variant", str(CONFIGS / "clrs30_averaged.yaml")]
    args += ["--variant", "model.latent_decay=0.5 model.dropout=0.1", "--data.algorithms", "[bfs,dfs]", "--seeds", "2"]
    args += ["--trainer.max_steps", "20", "--out", "out", "--sizes", "16,64", "--jobs", "2"]
    assert status_of(run, *args) == 0
    printed = capsys.readouterr().out
    assert "| bfs | clrs30_averaged | 2 | 20 |" in printed
    assert "clrs30/dfs/seed1: 20 steps," in printed
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    variants = ["clrs30", "clrs30_averaged", "model.latent_decay=0.5_model.dropout=0.1"]
    assert [(row["variant"], row["algorithm"], row["seed"], row["num_nodes"]) for row in rows] == [
        (v, a, s, n) for v in variants for a in ("bfs", "dfs") for s in ("0", "1") for n in ("16", "64")
    ]
    calls = (tmp_path / "out" / "calls.txt").read_text()
    (averaged,) = (line for line in calls.splitlines() if " fit clrs30_averaged/bfs/seed1 " in line)
    assert f"--config {CONFIGS / 'clrs30.yaml'} --config {CONFIGS / 'clrs30_averaged.yaml'}" in averaged
    (flags,) = (line for line in calls.splitlines() if f" fit {variants[2]}/bfs/seed0 " in line)
    assert "--model.latent_decay 0.5 --model.dropout 0.1 --trainer.max_steps 20" in flags
    fewer = [part.replace("[bfs,dfs]", "bfs") for part in args]
    assert status_of(run, *fewer, "--minutes", "0") == 0
    assert (tmp_path / "out" / "calls.txt").read_text() == calls
    assert "dfs" not in (tmp_path / "out" / "table.md").read_text()


def rehearse_as(monkeypatch: pytest.MonkeyPatch, algorithms: Sequence[str], max_steps: int) -> None:
    """Have every command line be one of a campaign of these algorithms."""
    known = {"kind": "dense", "algorithms": algorithms, "max_steps": max_steps}
    monkeypatch.setattr(nar.cli.train, "rehearse", lambda flags, sizes: {**known, "sizes": sizes})


def plan(*args: str, algorithms: Sequence[Any] = ("bfs",), max_steps: int = 7) -> tuple[Any, list[list[str]]]:
    """The campaign of a command line, and what was rehearsed."""
    rehearsed: list[list[str]] = []

    def rehearse(flags: Sequence[str], sizes: Any) -> dict[str, Any]:
        rehearsed.append(list(flags))
        return {"kind": "dense", "algorithms": algorithms, "sizes": sizes, "max_steps": max_steps}

    given, more = make_parser().parse_known_args(args)
    return _planned(given, more, rehearse), rehearsed


def test_a_flag_of_the_command_line_counts_more_than_a_variant_and_a_variant_more_than_a_configuration() -> None:
    args = ["--config", "/a.yaml", "--variant", "/b.yaml", "--trainer.max_steps", "5", "--config=/c.yaml"]
    campaign, rehearsed = plan(*args)
    base = ["--config", "/a.yaml", "--config", "/c.yaml"]
    assert rehearsed == [
        [*base, "--trainer.max_steps", "5"],
        [*base, "--config", "/b.yaml", "--trainer.max_steps", "5"],
    ]
    assert [(v.name, list(v.flags), v.max_steps) for v in campaign.variants] == [
        ("c", rehearsed[0], 7),
        ("b", rehearsed[1], 7),
    ]


def test_algorithms_of_the_users_own_have_the_names_of_their_classes() -> None:
    own = {"class_path": "my.Own", "init_args": {"degree": 2}}
    campaign, _ = plan(algorithms=["bfs", "my.module.Mine", own])
    assert campaign.algorithms == {
        "bfs": "bfs",
        "Mine": "my.module.Mine",
        "Own": '{"class_path": "my.Own", "init_args": {"degree": 2}}',
    }
    with pytest.raises(UserError, match=r"algorithms of different names, given my\.Own, other\.Own"):
        plan(algorithms=["my.Own", "other.Own"])


@pytest.mark.parametrize(
    ("text", "name", "flags"),
    [
        ("model.processor=PGN", "model.processor=PGN", ["--model.processor", "PGN"]),
        ("--model.processor=PGN", "model.processor=PGN", ["--model.processor", "PGN"]),
        ("data.train_sizes=[4,5]", "data.train_sizes=_4,5_", ["--data.train_sizes", "[4,5]"]),
        ("a='x y' b=../c=d", "a=_x_y_b=.._c=d", ["--a", "x y", "--b", "../c=d"]),
        ("/configs/b.yaml", "b", ["--config", "/configs/b.yaml"]),
    ],
)
def test_a_variant_is_a_configuration_or_values_of_flags(text: str, name: str, flags: list[str]) -> None:
    assert _variant_of(text) == (name, flags)


@pytest.mark.parametrize("text", ["", "PGN", "=PGN", "--model.processor PGN"])
def test_what_is_no_variant_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected a variant such as"):
        _variant_of(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--data.algorithms", "bsf"], "unknown algorithm bsf; known are"),
        (["--data.algorithms", "[bfs,bfs]"], "different algorithms"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--variant", "missing.yaml"], "missing.yaml"),
        (["--variant", "PGN"], "expected a variant such as"),
        (["--variant", "model.processor=Missing"], "known processors"),
        (["--variant", "model.dropout=1", "--variant", "model.dropout=1"], "two called model.dropout=1"),
        (["--model.hidden_dim", "3"], "model.hidden_dim"),
        (["--trainer.max_steps", "-1"], "expected trainer.max_steps ≥ 1, given -1"),
        (["--seeds", "0"], "expected a whole number ≥ 1, given 0"),
        (["--seeds", "1.5"], "expected a whole number ≥ 1, given 1.5"),
        (["--jobs", "none"], "expected a whole number ≥ 1, given none"),
        (["--minutes", "-1"], "expected a number of minutes ≥ 0, given -1"),
        (["--minutes", "nan"], "expected a number of minutes ≥ 0, given nan"),
        (["--sizes", "16,x"], "expected sizes such as 16,32,64, or none, given 16,x"),
        (["--sizes", "0"], "expected sizes such as 16,32,64, or none, given 0"),
        (["--seed_everything", "3"], "nar sweep gives every run its own --seed_everything"),
        (["--trainer.default_root_dir=x"], "nar sweep gives every run its own --trainer.default_root_dir"),
        (["--ckpt_path", "last"], "nar sweep gives every run its own --ckpt_path"),
        (["--model", "SparseReasoner"], "trains no models of sparse graphs: expected no SparseReasoner"),
        (["--model.language_model", "gpt2"], "expected a reasoner, as in --model.reasoner runs/several/best.ckpt"),
        (["--config", SMALL_TRANSNAR, "--model.reasoner", "no.ckpt"], "no checkpoint at no.ckpt"),
        (
            ["--config", SMALL_TRANSNAR, "--model.reasoner", "bfs", "--data.algorithms", "[bfs,heapsort]"],
            "expected algorithms that the reasoner knows (bfs), given heapsort",
        ),
        (
            [*ONLY_BFS, "--model.max_position", "100"],
            "expected texts of at most 100 tokens, the language model's context or max_position, given one of",
        ),
        ([*ONLY_BFS, "--model.shuffle_graphs", "true", "--data.batch_size", "9"], "an even batch_size, to exchange"),
        ([*ONLY_BFS, "--variant", CONTROL, "--data.num_val", "33"], "no text alone in batches of 32, to exchange"),
        ([*ONLY_BFS, "--sizes", "10,80"], "expected texts of at most 2048 tokens, the language model's context"),
        (["--cluster", "tcp://127.0.0.1:9"], "no Dask scheduler answers at tcp://127.0.0.1:9"),
        (["--out", "there"], "there holds something else than a campaign"),
        (["--out", "there/file"], "there/file"),
        (["--out", "there/file/below"], "there/file"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    args: list[str],
    expected: str,
    fake: None,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sweep, "PATIENCE", 0.2)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    assert status_of(run, "--trainer.accelerator", "cpu", *args) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line and "Seed set" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("nar: error: ")
    assert expected in lines[0]


def test_a_full_disk_is_told_in_one_line(
    fake: None, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr(sweep, "replace", full)
    assert status_of(run, "--out", "out") == 2
    assert "out/campaign.json: No space left on device" in capsys.readouterr().err


def test_failed_runs_are_named_and_the_status_says_so(
    fake: None, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rehearse_as(monkeypatch, ["fails", "bfs", "is_killed"], 10)
    assert status_of(run, "--trainer.max_steps", "10", "--sizes", "16", "--out", "out") == 1
    printed = capsys.readouterr()
    assert "nar: default/fails/seed0 failed: nar fit failed: it fails" in printed.err
    assert "nar: default/is_killed/seed0 failed: nar fit was ended by SIGKILL" in printed.err
    assert "nar: 2 runs failed: default/" in printed.err
    assert "| bfs | 1 | 10 |" in printed.out
    assert "2 of 3 runs are not finished: the same command goes on" in printed.out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_campaign_which_goes_on_with_the_same_command(
    number: signal.Signals, fake: None, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearse_as(monkeypatch, ["bfs", "dfs"], 100)
    args = ["--trainer.max_steps", "100", "--sizes", "16", "--out"]
    assert status_of(run, *args, "whole") == 0
    saved = tmp_path / "out" / "default" / "dfs" / "seed0" / "last.ckpt"

    def send() -> None:
        while steps_in_text(saved) < PAUSE:
            time.sleep(0.005)
        os.kill(os.getpid(), number)

    (tmp_path / "pause").touch()
    thread = Thread(target=send)
    thread.start()
    handler = signal.getsignal(number)
    assert status_of(run, *args, "out") == 128 + number
    thread.join()
    assert signal.getsignal(number) is handler
    assert steps_in_text(saved) == PAUSE
    (tmp_path / "pause").unlink()
    assert status_of(run, *args, "out") == 0
    one, other = (read_scores(tmp_path / folder / "scores.csv") for folder in ("whole", "out"))
    assert one == other


def read_scores(path: Path) -> list[tuple[str, ...]]:
    """All that does not depend on the time."""
    with path.open() as file:
        return [tuple(value for name, value in row.items() if name != "seconds") for row in csv.DictReader(file)]


@pytest.mark.slow
def test_all_are_the_30_algorithms(run: Run) -> None:
    rehearsed = nar.cli.train.rehearse(["--config", str(CONFIGS / "clrs30.yaml"), "--data.algorithms", "all"])
    assert rehearsed == {"kind": "dense", "algorithms": list(ALGORITHMS), "sizes": None, "max_steps": 10_000}


@pytest.mark.slow
def test_every_shipped_variant_is_a_recipe_of_its_own_over_the_configuration_that_it_is_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []
    original = nar.cli.train.Rehearsal.instantiate_classes

    def keep(self: nar.cli.train.Rehearsal) -> None:
        made.append(self.plain_config())
        original(self)

    monkeypatch.setattr(nar.cli.train.Rehearsal, "instantiate_classes", keep)
    base = ["--config", str(CONFIGS / "layers.yaml")]
    variants = sorted({*(CONFIGS / "variants").glob("*.yaml")} - {*(CONFIGS / "variants").glob("transnar_*.yaml")})
    for more in ([], *(["--config", str(path)] for path in variants)):
        nar.cli.train.rehearse([*base, *more])
    assert len(made) == 1 + len(variants) > 1
    assert all(config["model"]["processor"]["init_args"]["hidden_dim"] == 32 for config in made)
    assert all(made.count(config) == 1 for config in made)


def test_every_command_is_in_the_help_and_sweep_has_its_own(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("--help")
    assert "sweep" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        run("sweep", "--help")
    text = capsys.readouterr().out
    for flag in ("--variant", "--seeds", "--jobs", "--minutes", "--cluster", "--out", "--sizes", "--config"):
        assert flag in text


@pytest.mark.parametrize("status", [0, 1])
def test_a_gpu_is_shared_by_mps_where_it_starts(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    control = tmp_path / "nvidia-cuda-mps-control"
    said = tmp_path / "said"
    control.write_text(
        f'#!/bin/sh\nif [ "$1" = -d ]; then echo $CUDA_MPS_PIPE_DIRECTORY >> {said}; exit {status}; fi\n'
    )
    with control.open("a") as file:
        file.write(f"echo $CUDA_MPS_PIPE_DIRECTORY `cat` >> {said}\n")
    control.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with _shared_gpu():
        where = os.environ.get("CUDA_MPS_PIPE_DIRECTORY")
    assert (where is None) == bool(status)
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert said.read_text().splitlines()[1:] == ([] if status else [f"{where} quit"])


def test_mps_that_somebody_started_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "control").touch()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("it is started"))
    with _shared_gpu():
        assert os.environ["CUDA_MPS_PIPE_DIRECTORY"] == str(tmp_path)


@pytest.mark.slow
def test_real_runs_are_trained_and_tested(run: Run, small: list[str], tmp_path: Path) -> None:
    flags = [
        part
        for name, value in zip(small[::2], small[1::2], strict=True)
        for part in (name, value)
        if name not in ("--trainer.default_root_dir", "--trainer.enable_progress_bar")
    ]
    args = [*flags, "--data.algorithms", "bfs", "--sizes", "4,6", "--out", "out"]
    assert status_of(run, *args) == 0
    folder = tmp_path / "out" / "default" / "bfs" / "seed0"
    reached = Reached.read(folder)
    assert (reached.steps, reached.is_finished, sorted(reached.scores)) == (4, True, [4, 6])
    assert read_checkpoint(folder / "best.ckpt")["global_step"] == reached.tested > 0
    with newest(folder / "logs" / "version_0", "metrics.csv").open(newline="") as file:
        in_validation = [float(row["val/score"]) for row in csv.DictReader(file) if row["val/score"]]
    assert reached.validation == {5: pytest.approx(max(in_validation))}
    (folder / "run.json").unlink()
    assert Reached.read(folder).validation == {}  # a run that has not begun
    args[args.index("4,6")] = "none"
    assert status_of(run, *args, "--data.val_size", "6", "--out", "without") == 0
    untested = Reached.read(tmp_path / "without" / "default" / "bfs" / "seed0")
    assert (list(untested.validation), untested.scores) == ([6], {})


TINY = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


@pytest.mark.slow
def test_language_models_are_tested_on_all_algorithms_with_all_scores_beside_their_reasoner_alone(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    algorithms = ["bfs", "minimum"]
    torch.manual_seed(0)
    made = Reasoner({name: recipe_spec(name) for name in algorithms}, TripletGMPNN(8))
    with (tmp_path / "reasoner.ckpt").open("wb") as file:
        write_checkpoint(file, made)
    args = ["--config", SMALL_TRANSNAR, "--model.reasoner", "reasoner.ckpt", "--model.language_model", json.dumps(TINY)]
    args += ["--data.algorithms", f"[{', '.join(algorithms)}]", "--data.train_sizes", "[4,5]", "--data.num_val", "2"]
    args += [
        "--data.num_test",
        "3",
        "--data.batch_size",
        "16",
        "--data.num_workers",
        "0",
        "--trainer.accelerator",
        "cpu",
    ]
    args += ["--trainer.max_steps", "2", "--trainer.val_check_interval", "1", "--out", "out"]
    args += ["--variant", "model.language_model_only=true", "--variant", str(VARIANTS / "transnar_control.yaml")]
    assert status_of(run, *args, "--sizes", "4") == 0
    assert status_of(run, *args, "--sizes", "4,6") == 0
    variants = ["transnar_small", "model.language_model_only=true", "transnar_control"]
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    cells = [(name, size) for name in algorithms for size in ("4", "6")]
    assert sorted((row["variant"], row["algorithm"], row["num_nodes"]) for row in rows) == sorted(
        (variant, *cell) for variant in (*variants, "reasoner alone") for cell in cells
    )
    assert {row["texts"] for row in rows} == {"3"}
    assert [row["steps"] for row in rows if row["variant"] == "reasoner alone"] == [""] * len(cells)
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in ("parse", "shape", "clrs", "exact"))
    (folders,) = {tuple(sorted(path.name for path in (tmp_path / "out" / name).iterdir())) for name in variants}
    assert folders == ("several",)
    of_control = read_checkpoint(tmp_path / "out" / "transnar_control" / "several" / "seed0" / "best.ckpt")
    assert of_control["nar_config"]["model"]["shuffle_graphs"]
    table = (tmp_path / "out" / "table.md").read_text()
    for title in ("Parse score:", "Shape score:", "CLRS score:", "Exact answers:"):
        assert title in table.splitlines()


def test_a_language_model_is_one_for_all_algorithms_and_tested_at_the_sizes_of_its_data() -> None:
    known = {"kind": "text", "algorithms": ["bfs", "dfs"], "sizes": [10, 12], "max_steps": 7}
    given, more = make_parser().parse_known_args([])
    campaign = _planned(given, more, lambda flags, sizes: known)
    assert campaign.algorithms == {"several": '["bfs", "dfs"]'}
    assert campaign.sizes == [10, 12]
    one = _planned(given, more, lambda flags, sizes: {**known, "algorithms": ["bfs"]})
    assert one.algorithms == {"bfs": "bfs"}
    given, more = make_parser().parse_known_args(["--variant", "a=1"])
    with pytest.raises(
        UserError, match=r"^expected variants of one kind of models, given a=1 of another than default$"
    ):
        _planned(given, more, lambda flags, sizes: {**known, "kind": "text" if flags else "dense"})
