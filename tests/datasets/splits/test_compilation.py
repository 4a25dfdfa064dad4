"""When numba compiles, and whether that is shown."""

import os
import sys
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from numba import njit
from numba.core.dispatcher import Dispatcher
from numba.core.event import RecordingListener, install_listener, trigger_event

from nar.datasets import ALGORITHMS, CLRS30, Algorithm, sample
from nar.datasets.clrs30.recipe import train_sampler_args, train_sizes
from nar.datasets.splits import compilation, datamodule, generation
from nar.datasets.splits.cache import Cache
from nar.datasets.splits.compilation import compile_ahead
from nar.datasets.splits.splits import Split
from nar.specs import Location, Probe, Stage, Type


class New(NamedTuple):
    """An algorithm, its function, which has never been compiled, and the sizes at which it has run."""

    algorithm: Algorithm
    function: Any
    sizes: list[int]


def new() -> New:
    """An algorithm that finds the largest key."""

    @njit
    def function(keys: Any) -> Any:
        return (np.argmax(keys),)

    sizes: list[int] = []

    class Largest(Algorithm):
        __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as a dataclass has it
        spec: ClassVar = {
            "key": Probe(Stage.INPUT, Location.NODE, Type.SCALAR),
            "largest": Probe(Stage.OUTPUT, Location.NODE, Type.MASK_ONE),
        }

        def draw(self, rng: np.random.RandomState, num_nodes: int) -> tuple[Any, ...]:
            return (rng.uniform(size=num_nodes),)

        def inputs(self, keys: Any) -> tuple[Any, ...]:
            return (keys,)

        def run(self, keys: Any, trace: Any) -> tuple[Any, ...]:
            sizes.append(len(keys))
            return tuple(function(keys))

    return New(Largest(), function, sizes)


def test_what_is_compiled_for_the_first_time_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    compile_ahead([(new().algorithm, 4)])
    assert "compiling Largest" in capsys.readouterr().out


def test_what_has_been_compiled_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    algorithm = new().algorithm
    for _ in range(2):
        capsys.readouterr()
        compile_ahead([(algorithm, 4)])
    assert capsys.readouterr() == ("", "")


def test_what_is_read_from_numbas_cache_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    listener = RecordingListener()
    sample("minimum", num_nodes=4, num_samples=1, seed=0)  # compiled now, if it is not in the cache yet
    with install_listener("numba:compile", listener):
        compile_ahead([("minimum", 4)])
    assert listener.buffer == []
    assert capsys.readouterr() == ("", "")


def test_the_bar_says_what_is_being_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def compiling(algorithm: Any, **args: Any) -> None:
        with trigger_event("numba:compile"):
            shown.append(str(bar.tasks[0].description))

    bar = compilation.progress_bar()
    monkeypatch.setattr(compilation, "progress_bar", lambda: bar)
    monkeypatch.setattr(compilation, "sample", compiling)
    compile_ahead([("bfs", 4), ("dfs", 4)])
    assert shown == ["compiling bfs …", "compiling dfs …"]
    assert (bar.tasks[0].completed, bar.tasks[0].total) == (2, 2)


def test_a_failure_ends_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: Any, **kwargs: Any) -> None:
        with trigger_event("numba:compile"):
            raise KeyboardInterrupt

    bar = compilation.progress_bar()
    bar.disable = False
    monkeypatch.setattr(compilation, "progress_bar", lambda: bar)
    monkeypatch.setattr(compilation, "sample", failing)
    with pytest.raises(KeyboardInterrupt):
        compile_ahead([("bfs", 4)])
    assert not bar.live.is_started


def test_an_algorithm_of_ones_own_runs_once_at_the_smallest_of_its_sizes() -> None:
    algorithm, _, sizes = new()
    compile_ahead([(algorithm, 9), (algorithm, 5), (algorithm, 7)])
    assert sizes == [5]


def num_compiled() -> int:
    """How many signatures of the library's functions this process has compiled or read."""
    modules = [vars(module) for name, module in sys.modules.items() if name.startswith("nar.datasets.")]
    functions = {id(value): value for module in modules for value in module.values() if isinstance(value, Dispatcher)}
    return sum(len(function.signatures) for function in functions.values())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_training_and_splits_draw_has_been_compiled_ahead(algorithm: str) -> None:
    compile_ahead([(algorithm, 64)])
    before = num_compiled()
    (size,) = train_sizes(algorithm, [13])
    sample(algorithm, num_nodes=size, num_samples=3, seed=[1, 2], **train_sampler_args(algorithm, size))
    sample(algorithm, num_nodes=20, num_samples=2, seed=3, hints="first")
    assert num_compiled() == before


@pytest.mark.parametrize("num_workers", [0, 1])
def test_training_data_are_compiled_in_the_process_that_trains(num_workers: int) -> None:
    algorithm, function, _ = new()
    CLRS30(algorithm, num_workers=num_workers).train_dataloader()
    assert len(function.signatures) == 1


@pytest.mark.parametrize("when", ["prepare_data", "train_dataloader"])
def test_what_dm_clrs_draws_is_not_compiled(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(compilation, "sample", lambda algorithm, **args: drawn.append(algorithm))
    monkeypatch.setattr(datamodule, "generate_splits", lambda *args, **kwargs: None)
    own = new().algorithm
    getattr(CLRS30(["bfs", own], source="dm-clrs"), when)()
    assert drawn == [own]


def test_splits_are_compiled_before_processes_are_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, function, _ = new()
    noted: list[int] = []

    def pool(num_processes: int, **settings: Any) -> None:
        noted.append(len(function.signatures))
        raise InterruptedError

    monkeypatch.setattr(generation, "ProcessPoolExecutor", pool)
    monkeypatch.setattr(generation, "_check_sendable", lambda split: None)
    monkeypatch.setattr(Split, "can_be_cached", True)
    monkeypatch.setattr(Split, "is_in", lambda split, cache: False)
    with pytest.raises(InterruptedError):
        generation.generate_splits([Split(algorithm, 4, is_test=True)], Cache(tmp_path), num_processes=2)
    assert noted == [1]


def test_a_forked_process_has_what_was_compiled() -> None:
    algorithm = new().algorithm
    compile_ahead([(algorithm, 4)])
    listener = RecordingListener()
    child = os.fork()
    if child == 0:
        with install_listener("numba:compile", listener):
            sample(algorithm, num_nodes=4, num_samples=1, seed=0)
        os._exit(len(listener.buffer))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
