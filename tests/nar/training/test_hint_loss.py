"""Hints that are predicted and fed back without a loss."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nar.batch import Batch
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.splits.splits import TrainStream
from nar.ops import parallel
from nar.processor import Processor
from nar.processors import Asynchronous, TripletGMPNN
from nar.training.cuda_graphs import most_steps_of
from nar.training.reasoner import Reasoner


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(algorithm: str, processor: Processor | None = None, **settings: Any) -> Reasoner:
    """A reasoner, always with the same weights."""
    torch.manual_seed(1)
    return Reasoner({algorithm: recipe_spec(algorithm)}, processor or TripletGMPNN(8), **settings)


def draw(algorithm: str, chunk_length: int | None = None) -> Batch:
    return TrainStream([algorithm], [5], 9, seed=3, chunk_length=chunk_length)[0]


def loss_and_gradients(reasoner: Reasoner, batch: Batch) -> tuple[Any, ...]:
    by_name, loss = reasoner.losses(batch)
    parameters = list(reasoner.parameters())
    return by_name, loss, torch.autograd.grad(loss, parameters, materialize_grads=True)


@pytest.mark.parametrize("chunk_length", [None, 3])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_loss_is_that_of_outputs_alone(
    num_threads: int, chunk_length: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In halves, too, and on windows of trajectories."""
    batch = draw("dijkstra", chunk_length)
    with_hints, reasoner = make("dijkstra"), make("dijkstra", hint_loss="none")
    by_name, loss = with_hints.execution.losses(batch)
    outputs = {name: by_name[f"loss/{name}"] for name in batch.feedback.outputs}
    total = torch.stack(list(outputs.values())).sum()
    assert loss > total
    gradients = torch.autograd.grad(total, list(with_hints.parameters()), materialize_grads=True)
    monkeypatch.setattr(parallel, "num_threads", num_threads)
    assert reasoner.execution.is_halved(batch) == (num_threads == 2)
    found, found_loss, found_gradients = loss_and_gradients(reasoner, batch)
    torch.testing.assert_close(found, {f"loss/{name}": x for name, x in outputs.items()})
    torch.testing.assert_close((found_loss, found_gradients), (total, gradients))


def test_hints_are_fed_back_all_the_same() -> None:
    batch = draw("dijkstra")
    reasoner = make("dijkstra", hint_loss="none")
    outputs = reasoner.eval()(batch).outputs
    torch.testing.assert_close(outputs, make("dijkstra").eval()(batch).outputs)
    _, _, gradients = loss_and_gradients(reasoner.train(), batch)
    names = [name for name, _ in reasoner.model.named_parameters()]
    moved = {name for name, gradient in zip(names, gradients, strict=True) if gradient.any()}
    decoders = {name for name in names if ".hint_decoders." in name and name.endswith("weight")}
    assert decoders
    assert decoders <= moved


def test_recordings_have_no_loss_of_hints() -> None:
    batch, reasoner = draw("dijkstra"), make("dijkstra", hint_loss="none")
    expected, expected_loss = reasoner.execution.losses(batch)
    by_name, loss, _ = reasoner.execution.losses_and_gradients(batch, most_steps_of(batch) + 1)
    torch.testing.assert_close((by_name, loss), (expected, expected_loss))


def test_validation_has_no_loss_of_hints() -> None:
    batch, reasoner = draw("bfs"), make("bfs", hint_loss="none").eval()
    outputs, by_probe = reasoner.execution.validate(batch)
    assert set(outputs) == set(by_probe) == {"pi"}


def test_penalties_are_added_without_losses_of_hints() -> None:
    batch = draw("bfs")
    settings: dict[str, Any] = {"penalties": {"action": 2.0}}
    made = []
    for hint_loss in ("all", "none"):
        processor = Asynchronous(8, message="mlp", update="network", arguments="network")
        reasoner = make("bfs", processor, hint_loss=hint_loss, **settings)
        reasoner.load_state_dict(made[0][0].state_dict() if made else reasoner.state_dict())
        torch.manual_seed(2)
        made.append((reasoner, *reasoner.losses(batch)))
    (_, with_hints, _), (_, by_name, loss) = made
    assert set(by_name) == {"loss/pi", "penalty/action"}
    torch.testing.assert_close(by_name["penalty/action"], with_hints["penalty/action"])
    torch.testing.assert_close(loss, by_name["loss/pi"] + 2 * by_name["penalty/action"])


@pytest.mark.parametrize("hint_loss", ["all", "none"])
def test_a_saved_model_tells_whether_its_hints_have_a_loss(hint_loss: str, tmp_path: Path) -> None:
    make("bfs", hint_loss=hint_loss).save_pretrained(tmp_path)
    assert Reasoner.from_pretrained(tmp_path).hint_loss == hint_loss
    is_named = "| variant of the task | without a loss of hints |" in (tmp_path / "README.md").read_text()
    assert is_named == (hint_loss == "none")


def test_another_loss_of_hints_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="expected hint_loss 'all' or 'none', given 'some'"):
        make("bfs", hint_loss="some")
