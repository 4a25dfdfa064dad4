"""``nar view``."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nar.datasets.clrs30.recipe import recipe_spec
from nar.processors import PGN
from nar.training.checkpoint import load_reasoner, write_checkpoint
from nar.training.reasoner import Reasoner
from nar.viewer import show

Run = Callable[..., None]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """That of a tiny model with random weights."""
    torch.manual_seed(0)
    made = Reasoner({name: recipe_spec(name) for name in ("bfs", "minimum")}, PGN(hidden_dim=4))
    with (tmp_path / "best.ckpt").open("wb") as file:
        write_checkpoint(file, made)
    return tmp_path / "best.ckpt"


def error_of(run: Run, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line of a refused command."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        run("view", *args)
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("nar: error: ")


@pytest.mark.slow
def test_a_page_is_written(run: Run, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("view", "--ckpt_path", str(checkpoint))
    assert capsys.readouterr().out == "written: view.html\n"
    assert Path("view.html").read_text() == show(load_reasoner(checkpoint), "bfs").html


def test_the_instance_is_the_one_asked_for(run: Run, checkpoint: Path) -> None:
    own = ("--algorithm", "minimum", "--num_nodes", "7", "--seed", "3", "--out", "other.html")
    run("view", "--ckpt_path", str(checkpoint), *own)
    expected = show(load_reasoner(checkpoint), "minimum", num_nodes=7, seed=3)
    assert len(expected.trajectory.nodes) == 7
    assert Path("other.html").read_text() == expected.html


def test_what_cannot_be_shown_is_refused_in_a_line(
    run: Run, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_model = ("--ckpt_path", str(checkpoint))
    assert error_of(run, capsys) == "nar view needs a checkpoint: --ckpt_path runs/quickstart/best.ckpt"
    unknown = error_of(run, capsys, *of_model, "--algorithm", "minmum")
    assert unknown == "expected an algorithm of the model (bfs, minimum), given minmum (did you mean minimum?)"
    assert error_of(run, capsys, *of_model, "--num_nodes", "1") == "bfs needs at least 2 nodes, given 1"
    assert "num_nodes" in error_of(run, capsys, *of_model, "--num_nodes", "0")
    assert "cannot write" in error_of(run, capsys, *of_model, "--out", "missing/view.html")
    assert not Path("view.html").exists()
