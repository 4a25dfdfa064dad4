"""Averages of weights: their values, where they are used, and that training goes on as it would without."""

import copy
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

import nar.ops.parallel
from nar.analysis.callbacks import AveragedWeights
from nar.training.checkpoint import load_reasoner, read_checkpoint
from nar.training.reasoner import Reasoner

CONFIGS = Path(__file__).parents[3] / "scripts" / "configs"
AVERAGED = ["--trainer.callbacks", "AveragedWeights", "--trainer.callbacks.decay"]

Run = Callable[..., None]
Weights = dict[str, Tensor]


def weights(path: Path, key: str = "state_dict") -> Weights:
    return dict(read_checkpoint(path)[key])


def assert_equal(ours: Weights, theirs: Weights) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def average_of(trained: list[Weights], decay: float) -> Weights:
    """The definition, in double precision."""
    average = {name: value.double() for name, value in trained[0].items()}
    for step, now in enumerate(trained[1:], start=2):
        kept = min(decay, step / (9 + step))
        average = {name: kept * average[name] + (1 - kept) * now[name].double() for name in now}
    return average


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Weights]:
    """The weights after every step."""
    found: list[Weights] = []
    original = AveragedWeights.on_train_batch_end

    def on_train_batch_end(self: AveragedWeights, trainer: Any, module: LightningModule, *args: Any) -> None:
        if trainer.global_step > len(found):
            found.append(copy.deepcopy(dict(module.state_dict())))
        original(self, trainer, module, *args)

    monkeypatch.setattr(AveragedWeights, "on_train_batch_end", on_train_batch_end)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decay", "more"),
    [
        (0.999, []),
        (0.2, ["--data.batch_size", "8"]),
        (0.2, ["--data.chunk_length", "4"]),
        (0.999, ["--trainer.accumulate_grad_batches", "2"]),
    ],
    ids=["whole trajectories", "halves", "windows", "several batches a step"],
)
def test_the_average_is_that_of_the_weights_after_every_step(
    decay: float,
    more: list[str],
    run: Run,
    small: list[str],
    trained: list[Weights],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nar.ops.parallel, "num_threads", 2)
    validated: list[tuple[int, Weights]] = []
    original = Reasoner.validation_step

    def validation_step(self: Reasoner, *args: Any) -> None:
        validated.append((self.global_step, copy.deepcopy(dict(self.state_dict()))))
        original(self, *args)

    monkeypatch.setattr(Reasoner, "validation_step", validation_step)
    run("fit", *small, *AVERAGED, str(decay), *more, "--trainer.limit_val_batches", "1")
    assert len(trained) == 4
    assert len(validated) > 1
    for steps, found in (*validated, (4, weights(tmp_path / "run" / "last.ckpt"))):
        for name, expected in average_of(trained[:steps], decay).items():
            torch.testing.assert_close(found[name].double(), expected, rtol=1e-5, atol=1e-8)
    assert_equal(weights(tmp_path / "run" / "last.ckpt", "current_model_state"), trained[-1])


@pytest.mark.slow
def test_training_goes_on_as_it_would_without_an_average(run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", *small, *AVERAGED, "0.9")
    run("fit", *small, "--trainer.default_root_dir", "plain")
    plain = weights(tmp_path / "plain" / "last.ckpt")
    assert_equal(weights(tmp_path / "run" / "last.ckpt", "current_model_state"), plain)
    assert not torch.equal(
        torch.cat([value.ravel() for value in weights(tmp_path / "run" / "last.ckpt").values()]),
        torch.cat([value.ravel() for value in plain.values()]),
    )


def test_what_is_tested_is_the_average(run: Run, small: list[str], tmp_path: Path) -> None:
    run("fit", *small, *AVERAGED, "0.9")
    path = tmp_path / "run" / "best.ckpt"
    tested: list[Weights] = []
    original = Reasoner.test_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Reasoner, "test_step", lambda self, *args: tested.append(dict(self.state_dict())) or original(self, *args)
        )
        run("test", "--ckpt_path", str(path), "--data.test_sizes", "[4]")
    assert_equal(tested[0], weights(path))
    assert_equal(dict(load_reasoner(path).state_dict()), weights(path))


class KilledError(Exception):
    """What ends a run in the middle of a step."""


def fails_at(monkeypatch: pytest.MonkeyPatch, method: str, step: int) -> None:
    """Have a run end in that method of the reasoner after so many steps, once."""
    original = getattr(Reasoner, method)

    def failing(self: Reasoner, *args: Any) -> Any:
        if self.trainer.global_step == step:
            monkeypatch.setattr(Reasoner, method, original)
            raise KilledError
        return original(self, *args)

    monkeypatch.setattr(Reasoner, method, failing)


def is_terminated_at(monkeypatch: pytest.MonkeyPatch, method: str, step: int) -> None:
    """Have a run be told to end in that method of the reasoner after so many steps, once."""
    original = getattr(Reasoner, method)

    def told(self: Reasoner, *args: Any) -> Any:
        if self.trainer.global_step == step:
            monkeypatch.setattr(Reasoner, method, original)
            signal.raise_signal(signal.SIGTERM)
        return original(self, *args)

    monkeypatch.setattr(Reasoner, method, told)


@pytest.mark.slow
@pytest.mark.parametrize("end", [fails_at, is_terminated_at])
@pytest.mark.parametrize("method", ["training_step", "validation_step"])
def test_a_run_that_was_cut_short_goes_on_as_if_it_had_not_been(
    end: Callable[..., None],
    method: str,
    run: Run,
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = ["--config", str(CONFIGS / "clrs30_averaged.yaml"), *small, "--trainer.max_steps", "8"]
    ours += ["--data.val_size", "6", "--lr_scheduler.warmup_steps", "3"]
    run("fit", *ours, "--trainer.default_root_dir", "whole")
    end(monkeypatch, method, 6)
    with pytest.raises((KilledError, SystemExit)) as stop:
        run("fit", *ours)
    assert isinstance(stop.value, KilledError) or stop.value.code == 143
    run("fit", *ours, "--ckpt_path", "last")
    for name in ("best", "last"):
        one, other = (tmp_path / folder / f"{name}.ckpt" for folder in ("run", "whole"))
        for key in ("state_dict", "current_model_state", "averaging_state"):
            assert_equal(weights(one, key), weights(other, key))
        assert read_checkpoint(one)["lr_schedulers"] == read_checkpoint(other)["lr_schedulers"]
        assert read_checkpoint(one)["global_step"] == read_checkpoint(other)["global_step"]


@pytest.mark.slow
def test_a_run_that_ended_between_two_validations_goes_on_as_if_it_had_not(
    run: Run, small: list[str], tmp_path: Path
) -> None:
    run("fit", *small, *AVERAGED, "0.9", "--trainer.max_steps", "3")
    run("fit", *small, *AVERAGED, "0.9", "--trainer.max_steps", "6", "--ckpt_path", "last")
    run("fit", *small, *AVERAGED, "0.9", "--trainer.max_steps", "6", "--trainer.default_root_dir", "whole")
    for key in ("state_dict", "current_model_state"):
        assert_equal(weights(tmp_path / "run" / "last.ckpt", key), weights(tmp_path / "whole" / "last.ckpt", key))


@pytest.mark.slow
def test_a_model_has_the_average_when_training_has_ended_or_the_weights_if_it_failed(
    run: Run, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[Reasoner] = []
    original = Reasoner.on_train_start
    monkeypatch.setattr(Reasoner, "on_train_start", lambda self: models.append(self) or original(self))
    run("fit", *small, *AVERAGED, "0.9")
    assert_equal(dict(models[0].state_dict()), weights(tmp_path / "run" / "last.ckpt"))
    fails_at(monkeypatch, "validation_step", 4)
    with pytest.raises(KilledError):
        run("fit", *small, *AVERAGED, "0.9", "--trainer.default_root_dir", "failed")
    assert_equal(dict(models[1].state_dict()), weights(tmp_path / "run" / "last.ckpt", "current_model_state"))


@pytest.mark.slow
def test_a_run_with_averages_does_not_go_on_without(
    run: Run, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", *small, *AVERAGED, "0.9")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run("fit", *small, "--ckpt_path", "last")
    (error,) = capsys.readouterr().err.splitlines()
    assert "last.ckpt was made with averaged weights: expected the same trainer.callbacks" in error


@pytest.mark.parametrize("decay", [-0.1, 1, 1.5])
def test_a_decay_that_makes_no_average_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"in \[0, 1\), given {decay}"):
        AveragedWeights(decay)


def test_our_recipe_is_the_published_one_but_for_four_things() -> None:
    ours, published = (yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in ("clrs30_averaged", "clrs30"))
    assert ours.pop("lr_scheduler")["class_path"] == "WarmupCosine"
    assert ours["data"].pop("val_size") > max(ours["data"]["train_sizes"])
    assert ours["trainer"].pop("callbacks")["class_path"] == "AveragedWeights"
    for recipe in (ours, published):
        del recipe["trainer"]["val_check_interval"]
    del ours["trainer"]["limit_val_batches"]
    assert ours == published


def test_the_average_is_where_the_model_is_and_its_number_where_nobody_waits_for_it() -> None:
    module = torch.nn.Linear(2, 2, device="meta")
    module.device = torch.device("meta")  # type: ignore[assignment]
    callback = AveragedWeights()
    callback._average_model = AveragedModel(torch.nn.Linear(2, 2))  # made before the model is moved
    callback.on_fit_start(None, module)  # type: ignore[arg-type]
    assert {parameter.device.type for parameter in callback._average_model.parameters()} == {"meta"}
    assert callback._average_model.n_averaged.device.type == "cpu"
