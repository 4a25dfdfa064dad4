from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler

from nar.errors import UserError
from nar.training.reasoner import Reasoner
from nar.training.schedules import WarmupCosine, with_scheduler

Run = Callable[..., None]


def rates(make: Callable[[SGD], LRScheduler], steps: int) -> list[float]:
    """The learning rate of each step."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_learning_rate_rises_in_equal_steps_and_falls_along_half_a_cosine_to_zero() -> None:
    found = rates(lambda optimizer: WarmupCosine(optimizer, warmup_steps=4, total_steps=10), 12)
    half = 3**0.5 / 2
    falling = [2, 1 + half, 1.5, 1, 0.5, 1 - half]  # 2 (1 + cos(π k / 6)) / 2
    assert found == pytest.approx([0.5, 1, 1.5, 2, *falling, 0, 0])


def test_without_a_warm_up_the_learning_rate_falls_at_once() -> None:
    assert rates(lambda optimizer: WarmupCosine(optimizer, 0, 2), 3) == pytest.approx([2, 1, 0])


def test_training_may_end_before_the_warm_up_does() -> None:
    assert rates(lambda optimizer: WarmupCosine(optimizer, 4, 2), 2) == pytest.approx([0.5, 1])


@pytest.mark.parametrize(("warmup_steps", "total_steps"), [(-1, 5), (1, 0), (1, -1), (1, None)])
def test_a_schedule_without_an_end_or_from_before_its_start_is_refused(warmup_steps: int, total_steps: int) -> None:
    with pytest.raises(UserError, match=rf"given ({warmup_steps}|{total_steps})$"):
        rates(lambda optimizer: WarmupCosine(optimizer, warmup_steps, total_steps), 1)


def test_what_a_scheduler_of_torch_says_of_its_arguments_is_for_the_user() -> None:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    with pytest.raises(UserError, match=r"lr_scheduler: .*pct_start"):
        with_scheduler(
            optimizer,
            {
                "class_path": "torch.optim.lr_scheduler.OneCycleLR",
                "init_args": {"max_lr": 1, "total_steps": 5, "pct_start": 7},
            },
        )


@pytest.mark.parametrize("class_path", ["nar.training.schedules.Missing", "missing.WarmupCosine", "WarmupCosine", None])
def test_a_scheduler_that_there_is_not_is_an_error(class_path: str | None) -> None:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    with pytest.raises(UserError, match="lr_scheduler: "):
        with_scheduler(optimizer, {"class_path": class_path})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of each step of a reasoner, relative to the default."""
    found = []
    original = Reasoner.training_step

    def training_step(self: Reasoner, *args: Any) -> torch.Tensor:
        found.append(self.trainer.optimizers[0].param_groups[0]["lr"] / 1e-3)
        return original(self, *args)

    monkeypatch.setattr(Reasoner, "training_step", training_step)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], [1, 1, 1, 1]),
        (["WarmupCosine", "--lr_scheduler.warmup_steps", "2"], [0.5, 1, 1, 0.5]),
        (["WarmupCosine", "--lr_scheduler.warmup_steps", "0", "--lr_scheduler.total_steps", "2"], [1, 0.5, 0, 0]),
        (["torch.optim.lr_scheduler.StepLR", "--lr_scheduler.step_size", "2"], [1, 1, 0.1, 0.1]),
        # Of as many steps as there are, the first has a 25th of the maximum, the second the maximum, the last nothing.
        (["OneCycleLR", "--lr_scheduler.max_lr", "0.001", "--lr_scheduler.pct_start", "0.5"], [0.04, 1, 0.5, 0]),
    ],
    ids=["constant", "ours", "ours, with an end of its own", "torch's", "torch's, which is told the end"],
)
def test_the_command_line_changes_the_learning_rate_after_every_step(
    flags: list[str], expected: list[float], run: Run, small: list[str], seen: list[float]
) -> None:
    run("fit", *small, *(["--lr_scheduler", *flags] if flags else []))
    assert seen == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_a_run_that_goes_on_longer_than_was_planned_has_the_later_end(
    run: Run, small: list[str], seen: list[float]
) -> None:
    schedule = ["--lr_scheduler", "WarmupCosine", "--lr_scheduler.warmup_steps", "0"]
    run("fit", *small, *schedule)
    run("fit", *small, "--ckpt_path", "last", "--trainer.max_steps", "8")  # the checkpoint knows the schedule
    later = [rate / 2 for rate in rates(lambda optimizer: WarmupCosine(optimizer, 0, 8), 8)]
    assert seen[5:] == pytest.approx(later[5:])  # the step before has the rate that the checkpoint ended with


@pytest.mark.slow
def test_a_run_goes_on_with_the_schedule_it_was_made_with_alone(
    run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", *small, "--lr_scheduler", "WarmupCosine")
    capsys.readouterr()
    for other in (["WarmupCosine", "--lr_scheduler.warmup_steps", "7"], ["ExponentialLR", "--lr_scheduler.gamma", "1"]):
        with pytest.raises(SystemExit):
            run("fit", *small, "--ckpt_path", "last", "--lr_scheduler", *other)
        error = capsys.readouterr().err
        assert "last.ckpt was made with model.lr_scheduler" in error
        assert f"{other[0]}', 'init_args': {{'{other[1].rpartition('.')[2]}': {other[2]}" in error


def test_a_schedule_that_there_is_not_is_refused_in_one_line(
    run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("fit", *small, "--lr_scheduler", "Warmup")
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line)
    assert error.endswith("(known are those of nar.training.schedules and torch.optim.lr_scheduler)")
