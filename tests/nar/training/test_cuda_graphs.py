# Axes: B graphs, T time.
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from nar.batch import Batch
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.splits.splits import TrainStream
from nar.model.losses import losses, reconstruction_losses
from nar.model.reconstruction import Reconstruction
from nar.model.unroll import EncodeProcessDecode
from nar.processors import TripletGMPNN
from nar.training.cuda_graphs import Recorder, _rounded_up, most_steps_of
from nar.training.execution import Execution
from nar.training.reasoner import Reasoner


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def draw(algorithm: str, number: int = 1) -> list[Batch]:
    stream = TrainStream([algorithm], [5], 4, seed=3)
    return [stream[index] for index in range(number)]


def outputs_and_gradients(model: EncodeProcessDecode, batch: Batch, num_steps: int | None) -> list[Any]:
    options = {"num_steps": num_steps, "with_reconstruction": model.reconstruction is not None}
    predictions, spec = model(batch.algorithm, batch.feedback.features, **options), recipe_spec(batch.algorithm)
    by_probe = losses(spec, predictions, batch.feedback)
    if predictions.reconstructed is not None:
        by_probe |= {
            f"{name}, again": x
            for name, x in reconstruction_losses(spec, predictions, batch.feedback, predictions.reconstructed).items()
        }
    loss = torch.stack(list(by_probe.values())).sum()
    return [predictions.outputs, by_probe, torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        *(("bfs", {}), ("heapsort", {}), ("quickselect", {"use_lstm": True}), ("bfs", {"hint_teacher_forcing": 1.0})),
        ("matrix_chain_order", {"edge_pointers": "triplets"}),
        ("dijkstra", {"difference_scales": 2, "num_frequencies": 2, "num_processor_steps": {"dijkstra": 2}}),
    ],
)
@pytest.mark.parametrize("more", [0, 3])
def test_running_all_graphs_for_equally_many_steps_changes_nothing(
    algorithm: str, settings: dict[str, Any], more: int
) -> None:
    (batch,) = draw(algorithm)
    lengths = batch.feedback.features.lengths
    lengths[0] = min(2, int(lengths[0]))
    assert len(lengths.unique()) > 1
    model = EncodeProcessDecode({algorithm: recipe_spec(algorithm)}, TripletGMPNN(8), **settings)
    model.train("hint_teacher_forcing" in settings)  # which has no part in evaluation
    expected = outputs_and_gradients(model, batch, None)
    torch.testing.assert_close(outputs_and_gradients(model, batch, most_steps_of(batch) + more), expected)


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("bfs", {}),
        ("insertion_sort", {}),
        ("matrix_chain_order", {}),
        ("floyd_warshall", {"edge_pointers": "triplets"}),
        ("quickselect", {"reconstruction": Reconstruction(1.0, 0.5)}),
        ("dijkstra", {"difference_scales": 2, "num_frequencies": 2}),
    ],
)
def test_equally_many_steps_need_no_data_on_the_cpu(algorithm: str, settings: dict[str, Any]) -> None:
    (batch,) = draw(algorithm)
    num_steps = most_steps_of(batch)
    with torch.device("meta"):  # whose tensors have shapes and no data
        model = EncodeProcessDecode({algorithm: recipe_spec(algorithm)}, TripletGMPNN(8), **settings)
    outputs_and_gradients(model, move_data_to_device(batch, "meta"), num_steps)
    with pytest.raises(NotImplementedError):
        outputs_and_gradients(model, move_data_to_device(batch, "meta"), None)


def test_numbers_of_steps_are_rounded_up_to_four_in_each_octave() -> None:
    rounded = sorted({_rounded_up(number) for number in range(1, 65)})
    assert rounded == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]
    assert all(number <= _rounded_up(number) <= 1.25 * number for number in range(1, 500))


def as_if_recorded(self: Recorder[Any], function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """What a CUDA graph does, without a GPU: computes again, in place of the first result."""
    result = function()

    def replay() -> None:
        for old, new in zip(leaves(result), leaves(function()), strict=True):
            old.copy_(new)

    return replay, result


def leaves(result: Any) -> list[Tensor]:
    if isinstance(result, dict):
        return leaves(tuple(result.values()))
    if isinstance(result, tuple):
        return [leaf for part in result for leaf in leaves(part)]
    return [] if result is None else [result]


def train(batches: list[Batch], accumulate: int) -> tuple[Reasoner, list[Tensor]]:
    """Training steps, with some parameters kept as they are."""
    torch.manual_seed(0)
    reasoner = Reasoner({batches[0].algorithm: recipe_spec(batches[0].algorithm)}, TripletGMPNN(8))
    reasoner.model.processor.message_sender.requires_grad_(False)
    optimizer, made = reasoner.configure_optimizers(), []
    for index, batch in enumerate(batches):
        loss = reasoner.training_step(batch, index)
        (loss / accumulate).backward()
        made.append(loss.detach().clone())
        if (index + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return reasoner, made


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_by_recordings_is_training(accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reasoner, "log", lambda *args, **kwargs: None)
    monkeypatch.setattr(Reasoner, "log_dict", lambda *args, **kwargs: None)
    batches = draw("quickselect", 6)
    expected, expected_losses = train(batches, accumulate)
    monkeypatch.setattr(Recorder, "record", as_if_recorded)
    monkeypatch.setattr(Execution, "is_recorded", lambda self, batch: True)
    reasoner, made = train(batches, accumulate)
    assert 1 < len(reasoner.execution.recorded_training.recorded) < len(batches)  # some are used for several lengths
    torch.testing.assert_close(made, expected_losses)
    torch.testing.assert_close(reasoner.state_dict(), expected.state_dict())


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        *(("bfs", {}), ("insertion_sort", {}), ("matrix_chain_order", {}), ("floyd_warshall", {"use_lstm": True})),
        ("floyd_warshall", {"edge_pointers": "triplets"}),
    ],
)
def test_gradients_of_recordings_are_those_of_a_loss(algorithm: str, settings: dict[str, Any]) -> None:
    (batch,) = draw(algorithm)
    reasoner = Reasoner({algorithm: recipe_spec(algorithm)}, TripletGMPNN(8), **settings)
    reasoner.model.processor.message_sender.requires_grad_(False)
    num_steps = most_steps_of(batch)
    torch.manual_seed(1)  # of the noise of permutations
    expected, expected_loss = reasoner.execution.losses(batch, num_steps)
    expected_gradients = torch.autograd.grad(
        expected_loss, [parameter for parameter in reasoner.parameters() if parameter.requires_grad], allow_unused=True
    )
    torch.manual_seed(1)
    by_probe, loss, gradients = reasoner.execution.losses_and_gradients(batch, num_steps)
    torch.testing.assert_close((by_probe, loss), (expected, expected_loss.detach()))
    torch.testing.assert_close(gradients, expected_gradients)


def test_a_recording_reaches_no_accumulated_gradient_of_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    (batch,) = draw("bfs")
    reasoner = Reasoner({"bfs": recipe_spec("bfs")}, TripletGMPNN(8))
    reached: list[Tensor] = []
    original = torch.autograd.grad

    def grad(loss: Tensor, *args: Any, **kwargs: Any) -> Any:
        nodes, seen = [loss.grad_fn], set()
        while nodes:
            node = nodes.pop()
            if node is not None and node not in seen:
                seen.add(node)
                reached.extend([node.variable] if hasattr(node, "variable") else [])
                nodes += [following for following, _ in node.next_functions]
        return original(loss, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    reasoner.execution.losses_and_gradients(batch, most_steps_of(batch))
    own = {id(parameter) for parameter in reasoner.parameters()}
    assert reached
    assert not own & set(map(id, reached))
    assert {x.data_ptr() for x in reached} <= {parameter.data_ptr() for parameter in reasoner.parameters()}


def test_validation_by_recordings_is_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "record", as_if_recorded)
    batches = draw("insertion_sort", 2)
    reasoner = Reasoner({"insertion_sort": recipe_spec("insertion_sort")}, TripletGMPNN(8)).eval()
    tallies = []
    for recorded in (False, True):
        monkeypatch.setattr(Execution, "is_recorded", lambda self, batch, recorded=recorded: recorded)
        with torch.inference_mode():
            for index, batch in enumerate(batches):
                reasoner.validation_step(batch, index)
        tallies.append(reasoner.finish_tally())
    assert len(reasoner.execution.recorded_validation.recorded) == 1
    torch.testing.assert_close(tallies[1].mean_losses(), tallies[0].mean_losses())
    torch.testing.assert_close(tallies[1].counts, tallies[0].counts)


def test_nothing_is_recorded_on_a_cpu() -> None:
    (batch,) = draw("bfs")
    assert not Reasoner({"bfs": recipe_spec("bfs")}, TripletGMPNN(8)).execution.is_recorded(batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU to record on")
@pytest.mark.parametrize("algorithm", ["quickselect", "insertion_sort"])
def test_a_recording_on_a_gpu_gives_what_is_recorded(algorithm: str) -> None:
    reasoner = Reasoner({algorithm: recipe_spec(algorithm)}, TripletGMPNN(8)).cuda().eval()
    for batch in draw(algorithm, 6):
        there = move_data_to_device(batch, "cuda")
        by_probe, loss, gradients = reasoner.execution.recorded_training(there)
        expected, expected_loss = reasoner.execution.losses(there)
        torch.testing.assert_close((by_probe, loss), (expected, expected_loss.detach()))
        expected_gradients = torch.autograd.grad(expected_loss, list(reasoner.parameters()), allow_unused=True)
        for one, other in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(one, other)
