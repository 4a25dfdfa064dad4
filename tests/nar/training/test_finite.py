"""That training stops where a loss is not finite, though nobody waits for a GPU to say so."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nar.datasets.clrs30.recipe import recipe_spec
from nar.errors import UserError
from nar.processors import TripletGMPNN
from nar.training.finite import PendingLosses
from nar.training.reasoner import Reasoner


class Event:
    """One of a GPU that is done at once."""

    def record(self) -> None:
        """Do nothing."""

    def synchronize(self) -> None:
        """Do nothing."""


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Reasoner]:
    """What a training step does with its losses, on a stand-in for a GPU or on a CPU."""
    reasoner = Reasoner({"bfs": recipe_spec("bfs")}, TripletGMPNN(8))

    def step(number: int, value: float, *, on_gpu: bool) -> Reasoner:
        by_name = {"loss/reach": torch.tensor(1.0), "loss/pi": torch.tensor(value)}
        with monkeypatch.context() as patch:
            patch.setattr(Reasoner, "global_step", number)
            patch.setattr(torch.cuda, "Event", Event)
            patch.setattr(Tensor, "is_cuda", on_gpu)
            reasoner.check_finite(by_name, torch.tensor(1.0 + value), "bfs")
        return reasoner

    return step


def test_on_a_cpu_training_stops_at_once(step: Callable[..., Any]) -> None:
    step(1, 2.0, on_gpu=False)
    with pytest.raises(UserError, match="bfs's probe pi is nan after step 2; expected"):
        step(2, torch.nan, on_gpu=False)


def test_on_a_gpu_training_stops_one_step_later(step: Callable[..., Any]) -> None:
    step(1, 2.0, on_gpu=True)
    step(2, torch.inf, on_gpu=True)
    with pytest.raises(UserError, match="bfs's probe pi is inf after step 2; expected"):
        step(3, torch.nan, on_gpu=True)


@pytest.mark.parametrize(
    "hook",
    [Reasoner.on_validation_start, lambda reasoner: reasoner.on_save_checkpoint({}), Reasoner.on_train_end],
)
def test_nothing_is_evaluated_or_saved_before(hook: Callable[[Reasoner], None], step: Callable[..., Any]) -> None:
    hook(step(1, 2.0, on_gpu=True))
    reasoner = step(2, torch.nan, on_gpu=True)
    with pytest.raises(UserError, match="bfs's probe pi is nan after step 2; expected"):
        hook(reasoner)
    hook(reasoner)  # which says so once


def sent(by_name: dict[str, float], loss: float, algorithm: str | None = "bfs") -> PendingLosses:
    tensors = {name: torch.tensor(value) for name, value in by_name.items()}
    return PendingLosses.send(tensors, torch.tensor(loss), step=3, algorithm=algorithm)


@pytest.mark.parametrize(
    ("pending", "message"),
    [
        (
            sent({"loss/pi": torch.nan, "penalty/order": torch.inf}, torch.nan),
            "bfs's probe pi is nan and of bfs's penalty",
        ),
        (sent({"loss/pi": 1.0}, torch.nan), "the loss, here or in another process, is no number after step 3;"),
        (sent({"loss": torch.inf}, torch.inf, None), "the loss is inf after step 3; expected a finite number"),
    ],
    ids=["probes and penalties", "another process", "texts"],
)
def test_what_is_not_finite_is_named(pending: PendingLosses, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pending.check_finite()


def test_losses_that_are_finite_are_nothing_to_stop_for() -> None:
    sent({"loss/pi": 1.0}, 1.0).check_finite()
