"""What does not fit into memory is refused before it is tried, in one line."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nar.datasets import ALGORITHMS, Algorithm, record, sample
from nar.datasets.clrs30 import samplers, shortest_paths
from nar.datasets.engine import memory
from nar.datasets.engine.algorithm import num_bytes
from nar.datasets.engine.memory import UNCHECKED_BYTES, num_free_bytes
from nar.errors import UserError
from nar.specs import Location, Probe, Stage, Type


def free(monkeypatch: pytest.MonkeyPatch, num_bytes: float) -> None:
    """Have so much memory left."""
    monkeypatch.setattr(memory, "num_free_bytes", lambda: num_bytes)


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


@pytest.mark.slow
@pytest.mark.parametrize("hints", ["first", "none"])
def test_without_all_of_their_hints_the_same_trajectories_fit(hints: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**29)
    feedback = sample("bubble_sort", num_nodes=256, num_samples=64, seed=0, hints=hints)
    assert feedback.features.lengths.max() == 256 * 255 // 2 + 1


def test_as_many_hints_as_fit_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    hints = 128 * 127 // 2 + 1
    needed = 32 * hints * (128 * 2 + 2 + 2)
    assert needed > UNCHECKED_BYTES
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
        r"4 trajectories on 8192 nodes without hints would take [\d.]+ GiB, and 1.0 GiB are free: "
        "ask for fewer at a time, or for smaller ones",
        line,
    )


class Growing(Algorithm):
    """Records ever more hints, of which each is an edge probe; one can be too many for the memory."""

    spec = {
        "x": Probe(Stage.INPUT, Location.NODE, Type.SCALAR),
        "h": Probe(Stage.HINT, Location.EDGE, Type.MASK),
        "y": Probe(Stage.OUTPUT, Location.NODE, Type.MASK),
    }

    def __init__(self, num_hints: list[int], error: type[Exception] | None = None) -> None:
        self.num_hints, self.error = iter(num_hints), error

    def draw(self, rng: np.random.RandomState, num_nodes: int) -> tuple[Any, ...]:
        return np.zeros(num_nodes), next(self.num_hints)

    def inputs(self, x: Any, num_hints: int) -> tuple[Any, ...]:
        return (x,)

    def run(self, x: Any, num_hints: int, trace: Any) -> tuple[Any, ...]:
        if self.error is not None and len(trace.buffers[0]) > 0:
            raise self.error
        for _ in range(num_hints):
            record(trace, np.zeros((len(x), len(x)), np.int8))
        return (np.zeros(len(x)),)


def test_what_the_system_refuses_nevertheless_is_told_with_its_size() -> None:
    assert refusal(Growing([10], MemoryError), num_nodes=1024) == (
        "1 trajectory of Growing on 1024 nodes would take 0.1 GiB or more, which do not fit into memory: "
        'ask for hints="first"'
    )


@pytest.mark.slow
@pytest.mark.parametrize("in_python", [False, True])
def test_a_run_is_stopped_once_it_has_more_hints_than_fit(in_python: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**27)
    times = []

    def recording(trace: Any, *values: Any) -> None:
        times.append(trace.length[0])
        record(trace, *values)

    if in_python:
        monkeypatch.setattr(shortest_paths, "record", recording)
        monkeypatch.setattr(samplers.CLRS_30["floyd_warshall"], "run", shortest_paths.floyd_warshall.py_func)
    line = refusal("floyd_warshall", num_nodes=256, num_samples=3)
    fit = 2**27 // (3 * (256**2 * (2 + 8 + 1) + 2))
    assert fit < 256
    assert line == (
        "3 trajectories of floyd_warshall on 256 nodes would take 0.1 GiB or more, which do not fit into memory: "
        'ask for fewer at a time, or for hints="first"'
    )
    assert not in_python or times == [*range(fit + 1)]


def test_without_all_hints_a_run_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**27)
    feedback = sample("floyd_warshall", num_nodes=256, num_samples=3, seed=0, hints="first")
    assert feedback.features.lengths.tolist() == [256, 256, 256]


def test_what_an_algorithm_works_on_is_counted_where_no_hints_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**30)
    monkeypatch.setattr(samplers.CLRS_30["optimal_bst"], "draw", never)
    assert re.fullmatch(
        r"1 trajectory on 8192 nodes without hints would take 1.[\d] GiB, and 1.0 GiB are free: "
        "ask for smaller ones",
        refusal("optimal_bst", num_nodes=8192, hints="none"),
    )


def test_hints_are_counted_with_those_that_they_replace_and_with_those_that_are_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = 1024**2
    old, new, checked = 2 * 4 * entries, 2 * 10 * entries, 8 * 10 * entries
    free(monkeypatch, old + new + checked)
    sample(Growing([4, 8]), num_nodes=1024, num_samples=2, seed=0)
    free(monkeypatch, old + new + checked - 1)
    assert "2 trajectories of 10 hints on 1024 nodes would take 0.1 GiB" in refusal(
        Growing([4, 8]), num_nodes=1024, num_samples=2
    )


LIMITED = """
import resource
from nar.datasets import sample
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, resource.RLIM_INFINITY))
sample("floyd_warshall", num_nodes=700, num_samples=1, seed=0)
"""


@pytest.mark.slow
def test_a_limit_of_the_process_is_seen(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.search(
        r"UserError: 1 trajectory of floyd_warshall on 700 nodes would take [\d.]+ GiB or more, which do not fit",
        result.stderr,
    )


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("0::/a/b", ("a/b/memory.max", "a/b/memory.current", "a/b/memory.stat")),
        ("0::/a/b", ("memory.max", "memory.current", "memory.stat")),
        ("4:memory:/a", ("memory/a/memory.limit_in_bytes", "memory/a/memory.usage_in_bytes", "memory/a/memory.stat")),
    ],
)
def test_a_limit_of_a_control_group_is_seen_but_for_cached_files(
    group: str, names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in zip(
        names, ("1000000\n", "900000\n", "anon 5\ninactive_file 20000\nactive_file 3000\n"), strict=True
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text(f"9:name=systemd:/x\n{group}\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "own")
    assert num_free_bytes() == 123000


def test_without_limits_the_machines_memory_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "psutil", SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=7)))
    assert num_free_bytes() == 7


def test_more_nodes_than_a_pointer_can_tell_apart_are_refused() -> None:
    assert (
        refusal("insertion_sort", num_nodes=2**15) == "insertion_sort's pointers take at most 32767 nodes, given 32768"
    )


@pytest.mark.slow
def test_pointers_hold_the_most_nodes_that_are_taken() -> None:
    feedback = sample("insertion_sort", num_nodes=2**15 - 1, num_samples=1, seed=0, hints="none")
    order = feedback.outputs["pred"][0]
    assert (order.min(), order.max()) == (0, 2**15 - 2)


def test_bytes_are_counted_by_type_and_location() -> None:
    kinds = [(Location.NODE, Type.SCALAR), (Location.EDGE, Type.POINTER), (Location.GRAPH, Type.MASK)]
    kinds += [(Location.NODE, Type.MASK_ONE)]
    spec = {str(kind): Probe(Stage.HINT, *kind) for kind in kinds}
    assert num_bytes(spec, 10) == 10 * 8 + 10 * 10 * 2 + 1 + 2


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "matrix_chain_order"])
def test_at_1024_nodes_inputs_outputs_and_the_first_hint_fit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 64 * 2**20)
    feedback = sample(name, num_nodes=1024, num_samples=1, seed=0, hints="first")
    (inputs, hints, _), outputs = feedback
    assert all(len(hint) == 1 for hint in hints.values())
    assert sum(data.nbytes for probes in (inputs, hints, outputs) for data in probes.values()) < 24 * 2**20
