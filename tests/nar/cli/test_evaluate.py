"""``nar evaluate``, ``nar compare`` and ``nar list``."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nar.datasets import CLRS30
from nar.processors import MPNN
from nar.training import folders
from nar.training.checkpoint import write_checkpoint
from nar.training.reasoner import Reasoner


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two untrained models in the folder in which commands are given."""
    monkeypatch.chdir(tmp_path)
    data = CLRS30(["bfs"], train_sizes=[4])
    for seed, name in enumerate(["a.ckpt", "b.ckpt"]):
        torch.manual_seed(seed)
        with Path(name).open("wb") as file:
            write_checkpoint(file, Reasoner(data.specs, MPNN(hidden_dim=8)), data)
    return ["a.ckpt", "b.ckpt"]


SMALL = ["--sizes", "4", "5", "--cache_dir", "cache"]


def test_checkpoints_are_evaluated_at_every_size(
    checkpoints: list[str], run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run("evaluate", *checkpoints, *SMALL, "--families", "dm-clrs", "grid", "--hints", "true", "--out", "found")
    printed = capsys.readouterr().out
    assert "| algorithm | n = 4 | n = 5 |" in printed
    for name in ("scores.csv", "table.md", "table.tex", "scores.png", "hints.csv"):
        assert f"found/{name}" in printed
        assert Path("found", name).stat().st_size > 0


def test_two_checkpoints_are_compared(
    checkpoints: list[str], run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run("compare", *checkpoints, *SMALL)
    printed = capsys.readouterr().out
    assert "A: a.ckpt" in printed
    assert "paired bootstrap test" in printed
    assert Path("evaluation/comparison.md").read_text() in printed


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["evaluate"], "checkpoints"),
        (["evaluate", "none.ckpt"], "no checkpoint at none.ckpt"),
        (["evaluate", "a.ckpt", "--sizes", "0"], "sizes"),
        (["evaluate", "a.ckpt", "--families", "torus"], "expected families among"),
        (["evaluate", "a.ckpt", "--algorithms", "dfs"], "expected algorithms that a checkpoint knows, bfs; given dfs"),
        (["compare", "a.ckpt"], "second"),
        (["compare", "a.ckpt", "a.ckpt"], "expects two checkpoints, given a.ckpt twice"),
        (["list", "--all", "true"], "--all"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_refused_in_one_line(
    args: list[str],
    message: str,
    checkpoints: list[str],
    run: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*args)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_reasoners_of_the_library_are_listed(
    tmp_path: Path, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(folders, "SHIPPED", tmp_path)
    data = CLRS30(["bfs"], train_sizes=[4])
    scores = {"64": {"score": 0.9876, "low": 0.9, "high": 1.0, "num_samples": 32}}
    Reasoner(data.specs, MPNN(hidden_dim=4)).save_pretrained(tmp_path / "bfs", facts={"steps": 300, "scores": scores})
    run("list")
    printed = capsys.readouterr().out
    assert "n = 64" in printed
    assert any({"bfs", "300", "98.8"} <= {*line.replace("│", " ").split()} for line in printed.splitlines())
