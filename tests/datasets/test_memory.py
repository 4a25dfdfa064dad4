"""What does not fit into memory is refused before it is tried, in one line."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nar.datasets import ALGORITHMS, algorithm, sample, samplers
from nar.datasets.algorithm import NEVER_ASKED, num_bytes
from nar.errors import UserError
from nar.specs import Location, Probe, Stage, Type


def free(monkeypatch: pytest.MonkeyPatch, num_bytes: float) -> None:
    """Have so much memory left."""
    monkeypatch.setattr(
        algorithm, "psutil", SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=num_bytes))
    )


def never(rng: np.random.RandomState, num_nodes: int) -> tuple[Any, ...]:
    """What is not to be drawn."""
    raise AssertionError("drawn, though it does not fit")


def refusal(*args: Any, **kwargs: Any) -> str:
    """What is said of trajectories that are asked for in vain."""
    with pytest.raises(UserError) as error:
        sample(*args, **{"seed": 0, "num_samples": 1, **kwargs})
    (line,) = str(error.value).splitlines()
    return line


def test_hints_that_do_not_fit_are_refused_with_their_number_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**29)
    line = refusal("bubble_sort", num_nodes=256, num_samples=64)
    hints = 256 * 255 // 2 + 1
    needed = 64 * hints * (256 * 2 + 2 + 2) / 2**30  # a pointer for every node, and two nodes
    assert line == (
        f"64 trajectories of {hints} hints on 256 nodes would take {needed:.1f} GiB, and 0.5 GiB are free: "
        'ask for fewer at a time, or for hints="first"'
    )


@pytest.mark.parametrize("hints", ["first", "none"])
def test_without_all_of_their_hints_the_same_trajectories_fit(hints: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**29)
    feedback = sample("bubble_sort", num_nodes=256, num_samples=64, seed=0, hints=hints)
    assert feedback.features.lengths.max() == 256 * 255 // 2 + 1


def test_as_many_hints_as_fit_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    hints = 128 * 127 // 2 + 1
    needed = 32 * hints * (128 * 2 + 2 + 2)
    assert needed > NEVER_ASKED
    free(monkeypatch, needed)
    assert len(sample("bubble_sort", num_nodes=128, num_samples=32, seed=0).features.hints["i"]) == hints
    free(monkeypatch, needed - 1)
    assert "would take" in refusal("bubble_sort", num_nodes=128, num_samples=32)


@pytest.mark.parametrize("hints", ["all", "first", "none"])
def test_matrices_that_do_not_fit_are_refused_before_they_are_drawn(
    hints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 2**30)
    monkeypatch.setattr(samplers.CLRS_30["dijkstra"], "draw", never)
    line = refusal("dijkstra", num_nodes=8192, num_samples=4, hints=hints)
    assert re.fullmatch(
        r"the inputs and outputs of 4 trajectories on 8192 nodes would take [\d.]+ GiB, and 1.0 GiB are free: "
        "ask for fewer at a time, or for smaller ones",
        line,
    )


def test_what_an_algorithm_cannot_have_while_it_runs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def trajectories(*args: Any, **kwargs: Any) -> None:
        raise MemoryError("Allocation failed (probably too large).")

    monkeypatch.setattr(samplers, "trajectories", trajectories)
    assert refusal("bfs", num_nodes=9, num_samples=2) == (
        "2 trajectories of bfs on 9 nodes do not fit into memory: ask for fewer at a time, or for smaller ones"
    )


def test_more_nodes_than_a_pointer_can_tell_apart_are_refused() -> None:
    assert (
        refusal("insertion_sort", num_nodes=2**15) == "insertion_sort's pointers take at most 32767 nodes, given 32768"
    )


def test_pointers_hold_the_most_nodes_that_are_taken() -> None:
    feedback = sample("insertion_sort", num_nodes=2**15 - 1, num_samples=1, seed=0, hints="none")
    order = feedback.outputs["pred"][0]
    assert (order.min(), order.max()) == (0, 2**15 - 2)


def test_bytes_are_counted_by_type_and_location() -> None:
    kinds = [(Location.NODE, Type.SCALAR), (Location.EDGE, Type.POINTER), (Location.GRAPH, Type.MASK)]
    kinds += [(Location.NODE, Type.MASK_ONE)]
    spec = {str(kind): Probe(Stage.HINT, *kind) for kind in kinds}
    assert num_bytes(spec, 10) == 10 * 8 + 10 * 10 * 2 + 1 + 2


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in ("floyd_warshall", "matrix_chain_order")])
def test_at_1024_nodes_inputs_outputs_and_the_first_hint_fit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 64 * 2**20)
    feedback = sample(name, num_nodes=1024, num_samples=1, seed=0, hints="first")
    (inputs, hints, _), outputs = feedback
    assert all(len(hint) == 1 for hint in hints.values())
    assert sum(data.nbytes for probes in (inputs, hints, outputs) for data in probes.values()) < 24 * 2**20
