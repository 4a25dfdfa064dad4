"""Gradients as an optimizer finds them: clipping works in place, and so does what accumulates over batches."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.splits.splits import TrainStream
from nar.model.reconstruction import Reconstruction
from nar.processor import Processor
from nar.processors import PGN, TripletGMPNN, list_processors
from nar.training.reasoner import Reasoner

PROCESSORS: list[Processor] = [
    *(kind(8) for kind in list_processors().values()),
    *(TripletGMPNN(8, reduction=["max", "recurrent"]), TripletGMPNN(8, reduction="lstm")),
    *(TripletGMPNN(8, triplet_messages=name) for name in ("concatrep", "div2mean", "tanhexpand")),
    *(TripletGMPNN(8, forget_gate=True), PGN(8, gated=True, triplet_dim=2)),
]
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("dijkstra", {"difference_scales": 2, "num_frequencies": 2}),
    ("matrix_chain_order", {"edge_pointers": "triplets"}),
    *(("bfs", {"reconstruction": Reconstruction(0.1, ratio)}) for ratio in (0.0, 0.5)),
    *(("bfs", {"use_lstm": True}), ("insertion_sort", {"hint_loss": "none"})),
]


def places(x: Tensor) -> list[int]:
    """The addresses of all entries."""
    at = torch.arange(x.untyped_storage().nbytes() // x.element_size()).as_strided(
        x.shape, x.stride(), x.storage_offset()
    )
    return (x.untyped_storage().data_ptr() + x.element_size() * at.flatten()).tolist()


def assert_no_gradients_share_memory(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, *args: Any, **settings: Any
) -> None:
    monkeypatch.setattr(Reasoner, "log", lambda *args, **kwargs: None)
    monkeypatch.setattr(Reasoner, "log_dict", lambda *args, **kwargs: None)
    reasoner = Reasoner({algorithm: recipe_spec(algorithm)}, *args, **settings)
    reasoner.training_step(TrainStream([algorithm], [5], 4, seed=3)[0], 0).backward()
    of = {name: parameter.grad for name, parameter in reasoner.named_parameters() if parameter.grad is not None}
    assert of
    counts = Counter(place for gradient in of.values() for place in places(gradient))
    assert [name for name, gradient in of.items() if any(counts[place] > 1 for place in places(gradient))] == []


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", CLRS_30)
def test_no_gradients_of_an_algorithm_share_memory(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_no_gradients_share_memory(monkeypatch, algorithm, TripletGMPNN(8))


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS, ids=lambda x: type(x).__name__)
def test_no_gradients_of_a_processor_share_memory(processor: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_no_gradients_share_memory(monkeypatch, "dijkstra", processor)


@pytest.mark.parametrize(("algorithm", "settings"), SETTINGS)
def test_no_gradients_of_a_setting_share_memory(
    algorithm: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_no_gradients_share_memory(monkeypatch, algorithm, TripletGMPNN(8), **settings)
