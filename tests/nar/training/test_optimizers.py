"""Other optimizers than Adam."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nar.errors import UserError
from nar.training.checkpoint import config_of, read_checkpoint
from nar.training.schedules import optimizer_of

Run = Callable[..., None]
ADAMW = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.3, "weight_decay": 0.1}}
FLAGS = ("--optimizer", "torch.optim.AdamW", "--optimizer.lr", "3e-4")


def test_an_optimizer_is_made_of_its_name_and_its_arguments() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    made = optimizer_of([("weight", weight)], ADAMW)
    assert isinstance(made, torch.optim.AdamW)
    (group,) = made.param_groups
    assert (group["lr"], group["weight_decay"], group["param_names"]) == (0.3, 0.1, ["weight"])


@pytest.mark.parametrize(
    "given", [{"class_path": "torch.optim.Nothing"}, {"class_path": "missing.Adam"}, {**ADAMW, "init_args": {"lr": -1}}]
)
def test_what_is_no_optimizer_is_refused_in_one_line(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^optimizer: ") as error:
        optimizer_of([("weight", torch.nn.Parameter(torch.ones(2)))], given)
    assert "\n" not in str(error.value)


def states(path: str) -> dict[str, Any]:
    """The settings of the one group of the optimizer in a checkpoint."""
    ((group,),) = (state["param_groups"] for state in read_checkpoint(path)["optimizer_states"])
    return dict(group)


@pytest.mark.slow
def test_a_run_has_the_optimizer_that_it_is_given_and_goes_on_with_it(run: Run, small: list[str]) -> None:
    run("fit", *small, *FLAGS)
    given = config_of(read_checkpoint("run/last.ckpt"))["model"]["optimizer"]
    assert (given["class_path"], given["init_args"]["lr"]) == ("torch.optim.AdamW", 3e-4)
    group = states("run/last.ckpt")
    assert (group["lr"], group["weight_decay"]) == (3e-4, 0.01)
    run("fit", *small, "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert states("run/last.ckpt")["lr"] == 3e-4
    run("fit", *small, *FLAGS, "--trainer.max_steps", "6", "--trainer.default_root_dir", "whole")
    one, other = (read_checkpoint(f"{folder}/last.ckpt")["state_dict"] for folder in ("run", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    run("test", "--ckpt_path", "run/last.ckpt", "--data.test_sizes", "[4]")


def test_without_one_it_is_adam_with_the_learning_rate_of_the_model(run: Run, small: list[str]) -> None:
    run("fit", *small, "--model.learning_rate", "0.01")
    assert config_of(read_checkpoint("run/last.ckpt"))["model"]["optimizer"] is None
    group = states("run/last.ckpt")
    assert (group["lr"], group["weight_decay"]) == (0.01, 0)


@pytest.mark.slow
def test_a_schedule_changes_the_learning_rate_of_another_optimizer(run: Run, small: list[str]) -> None:
    schedule = ("--lr_scheduler", "torch.optim.lr_scheduler.StepLR", "--lr_scheduler.step_size", "3")
    run("fit", *small, "--optimizer", "SGD", "--optimizer.lr", "0.5", *schedule)
    assert states("run/last.ckpt")["lr"] == pytest.approx(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--optimizer", "Adamm"], "given Adamm (known are those of torch.optim)"),
        (["--optimizer", "torch.optim.Adamm"], "module 'torch.optim' has no attribute 'Adamm'"),
        (["--optimizer", "torch.nn.Linear"], "does not correspond to a subclass of Optimizer"),
        (["--optimizer.lr", "x", "--optimizer", "SGD"], "--optimizer"),
        (["--optimizer", "SGD", "--optimizer.lrr", "1"], "Option 'lrr' is not accepted"),
        (["--optimizer", "SGD", "--optimizer.lr", "-1"], "optimizer: Invalid learning rate: -1"),
        ([*FLAGS, "--model.learning_rate", "0.1"], "expected --optimizer.lr in place of --model.learning_rate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_an_optimizer_is_refused_by_the_command(
    args: list[str], expected: str, run: Run, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("fit", *small, *args)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nar: error: ")]
    assert expected in line
    assert not list((tmp_path / "run").glob("*.ckpt"))


@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_optimizer(
    run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", *small)
    with pytest.raises(SystemExit, match="2"):
        run("fit", *small, "--ckpt_path", "last", *FLAGS)
    assert "run/last.ckpt was made with model.optimizer None, but the configuration asks" in capsys.readouterr().err
