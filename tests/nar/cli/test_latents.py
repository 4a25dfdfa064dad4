"""``nar latents`` and the callback that draws a latent space in training."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from nar.analysis.callbacks import LatentPCA
from nar.analysis.latents import collect
from nar.analysis.report import write_latents
from nar.batch import Batch, to_tensors
from nar.datasets import CLRS30, sample
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.model.unroll import EncodeProcessDecode
from nar.processors import PGN
from nar.training.checkpoint import load_reasoner, read_checkpoint

Run = Callable[..., None]
LATENTS = ("latents", "--ckpt_path", "run/best.ckpt")
BELLMAN_FORD = ("--data.algorithms", "bellman_ford")


def rows(name: str) -> list[dict[str, str]]:
    with (Path("run/latents") / name).open() as file:
        return list(csv.DictReader(file))


def error_of(run: Run, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line of a refused command."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        run(*args)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("nar: error: "))
    return line.removeprefix("nar: error: ")


@pytest.mark.slow
def test_all_that_is_known_is_written_and_listed(
    run: Run, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", *small, *BELLMAN_FORD)
    capsys.readouterr()
    run(*LATENTS, "--num_trajectories", "5", "--num_extra_steps", "2")
    files = sorted(path.name for path in (tmp_path / "run" / "latents").iterdir())
    listed = [line.rsplit("/", 1)[1] for line in capsys.readouterr().out.splitlines() if line.startswith("written: ")]
    assert sorted(listed) == files
    pictures = [f"{name}_bellman_ford_5.png" for name in ("attractors", "noise", "pca", "symmetries")]
    tables = ["attractors.csv", "noise.csv", "pca_points.csv", "pca_variances.csv", "symmetries_bellman_ford.csv"]
    assert files == sorted([*pictures, *tables, "latents.safetensors", "directions_bellman_ford_5.safetensors"])
    for name in pictures:
        with Image.open(tmp_path / "run" / "latents" / name) as picture:
            assert len(picture.convert("RGB").getcolors(2**24) or []) > 10

    states = load_file("run/latents/latents.safetensors")
    num_steps = states["bellman_ford_5.num_steps"]
    assert states["bellman_ford_5.hidden"].shape == (num_steps.sum(), 5, 4)
    assert states["bellman_ford_5.graph_hidden"].shape == (5, num_steps.max() + 2, 4)
    assert len(rows("attractors.csv")) == 5 * (int(num_steps.max()) + 2)
    assert [row["component"] for row in rows("pca_variances.csv") if row["points"] == "steps"] == ["1", "2", "3", "4"]
    assert len([row for row in rows("pca_points.csv") if row["points"] == "steps"]) == num_steps.sum()
    symmetries = rows("symmetries_bellman_ford.csv")
    assert len(symmetries) == 3 * 8 * 16
    assert all(float(row["distance"]) > 0 for row in symmetries)

    data = CLRS30("bellman_ford", train_sizes=[4, 5], cache_dir=str(tmp_path / "cache"))
    batch = next(iter(data.val_dataloader()))
    expected = collect(load_reasoner("run/best.ckpt").model, [batch])
    torch.testing.assert_close(states["bellman_ford_5.hidden"], expected.hidden[: int(num_steps.sum())])


@pytest.mark.slow
def test_the_score_without_noise_is_that_of_a_test(run: Run, small: list[str]) -> None:
    run("fit", *small)
    run("test", "--ckpt_path", "run/best.ckpt", "--data.test_sizes", "[6,7]")
    run(*LATENTS, "--split", "test", "--data.test_sizes", "[6,7]", "--out", "run/latents")
    with open("run/ood.csv") as file:
        tested = [float(row["score"]) for row in csv.DictReader(file) if row["kind"] == "mean"]
    assert [float(row["score"]) for row in rows("noise.csv") if row["noise"] == "none"] == pytest.approx(tested)
    assert not Path("run/latents/symmetries_bellman_ford.csv").exists()


@pytest.mark.slow
def test_what_cannot_be_analysed_is_refused_in_one_line(
    run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", *small)
    assert "needs a checkpoint" in error_of(run, capsys, "latents")
    assert "no checkpoint at nothing.ckpt" in error_of(run, capsys, "latents", "--ckpt_path", "nothing.ckpt")
    assert "expected num_trajectories ≥ 2, given 1" in error_of(run, capsys, *LATENTS, "--num_trajectories", "1")
    assert "num_extra_steps" in error_of(run, capsys, *LATENTS, "--num_extra_steps", "-1")
    assert "split" in error_of(run, capsys, *LATENTS, "--split", "training")
    assert "best.ckpt" in error_of(run, capsys, *LATENTS, "--out", "run/best.ckpt")
    assert "asks for ['dfs']" in error_of(run, capsys, *LATENTS, "--data.algorithms", "dfs")


def test_a_latent_space_of_one_dimension_is_refused(tmp_path: Path) -> None:
    feedback = to_tensors(apply_recipe("bfs", sample("bfs", num_nodes=4, num_samples=2, seed=0)), recipe_spec("bfs"))
    specs = {"bfs": recipe_spec("bfs")}
    model, batches = EncodeProcessDecode(specs, PGN(1)), {("bfs", 4): [Batch("bfs", 4, 0, feedback)]}
    with pytest.raises(ValueError, match="in 2 dimensions, given"):
        write_latents(model, specs, batches, {}, tmp_path, num_extra_steps=0)


@pytest.mark.slow
def test_a_callback_draws_while_training_goes_on_as_without(run: Run, small: list[str], tmp_path: Path) -> None:
    callback = ["--trainer.callbacks+=nar.analysis.callbacks.LatentPCA", "--trainer.callbacks.every_n_steps", "2"]
    run("fit", *small, *callback)
    pictures = sorted(path.name for path in (tmp_path / "run" / "latents").iterdir())
    assert pictures == ["pca_bfs_2.png", "pca_bfs_4.png"]
    run("fit", *small, "--trainer.default_root_dir", "other")
    one, other = (read_checkpoint(f"{folder}/last.ckpt")["state_dict"] for folder in ("run", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_callback_that_would_never_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="every_n_steps ≥ 1, given 0"):
        LatentPCA(every_n_steps=0)


def test_help_has_all_flags_and_none_of_a_trainer(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("latents", "--help")
    text = capsys.readouterr().out
    flags = ("--ckpt_path", "--out", "--split", "--num_trajectories", "--num_extra_steps", "--data.test_sizes")
    assert all(f"\n  {flag}" in text for flag in flags)
    assert "--trainer" not in text
