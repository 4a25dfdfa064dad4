import csv
import importlib
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at_once", "how", "order"),
    [(1, "one after the other", ["bfs", "minimum", "heapsort"]), (2, "2 at once", ["heapsort", "bfs", "minimum"])],
)
def test_steps_per_second_are_extrapolated_to_the_recipe(
    at_once: int,
    how: str,
    order: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))  # of the processes, too
    module: Any = importlib.import_module("benchmark_device")
    for name, value in (("SIZES", [4]), ("BATCH_SIZE", 2), ("__file__", str(tmp_path / "benchmark_device.py"))):
        monkeypatch.setattr(module, name, value)
    module.run("cpu", ["bfs", "minimum", "heapsort"], num_batches=1, seconds=0, at_once=at_once)
    with (tmp_path / "benchmark_cpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["algorithm"] for row in rows[:at_once]) == sorted(order[:at_once])
    assert [row["algorithm"] for row in rows[at_once:]] == order[at_once:]
    minutes = [float(row["minutes of 10000"]) for row in rows]
    for row, expected in zip(rows, minutes, strict=True):
        assert row["at once"] == str(at_once)
        assert 10_000 / float(row["steps per s"]) / at_once / 60 == pytest.approx(expected, rel=1e-2)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"10000 steps of each of 3, {how}: ")
    assert float(last.split(": ")[1].split()[0]) == pytest.approx(sum(minutes), rel=1e-2)


@pytest.mark.slow
def test_a_process_that_fails_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module: Any = importlib.import_module("benchmark_device")
    with pytest.raises(SystemExit, match="a process failed"):
        list(module.rows_of(["bfs", "no_such_algorithm"], 2, 0.0, "cpu", 1, [4], 2))


@pytest.mark.slow
@pytest.mark.parametrize(("running", "expected"), [(False, ["-d", "quit"]), (True, ["-d"])])
def test_what_lets_processes_share_a_gpu_is_stopped_if_it_was_started(
    running: bool, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module: Any = importlib.import_module("benchmark_device")
    control = tmp_path / "nvidia-cuda-mps-control"
    control.write_text(f'#!/bin/sh\necho "${{1:-$(cat)}}" >> {tmp_path}/calls\nexit {int(running)}\n')
    control.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with module.graphs_side_by_side("cpu", 2), module.graphs_side_by_side("cuda", 1):
        pass
    with module.graphs_side_by_side("cuda", 2):
        pass
    assert (tmp_path / "calls").read_text().split() == expected


@pytest.mark.slow
def test_a_profile_has_every_operation_of_a_training_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module: Any = importlib.import_module("benchmark_device")
    for name, value in (("SIZES", [4]), ("BATCH_SIZE", 2), ("__file__", str(tmp_path / "benchmark_device.py"))):
        monkeypatch.setattr(module, name, value)
    module.profile("cpu", ["bfs", "minimum"], num_passes=2)
    with (tmp_path / "profile_cpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    for algorithm in ("bfs", "minimum"):
        own = {row["kernel"]: row for row in rows if row["algorithm"] == algorithm}
        assert {"aten::addmm", "aten::cat"} <= set(own)
        assert float(own["aten::addmm"]["launches"]) > int(own["aten::addmm"]["steps"]) >= 1
        times = [float(row["us"]) for row in own.values()]
        assert times == sorted(times, reverse=True)
        assert min(times) > 0


@pytest.mark.slow
def test_kernels_are_tested_before_they_are_profiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module: Any = importlib.import_module("benchmark_device")
    calls: list[Any] = []
    monkeypatch.setattr(module.subprocess, "run", lambda command, check: calls.append((command[1:], check)))
    monkeypatch.setattr(module, "profile", lambda *given: calls.append(given))
    module.check_and_profile("cuda", [])
    assert calls == [
        (["-m", "pytest", "-q", str(SCRIPTS.parent / "tests/test_triton.py")], True),
        ("cuda", ["insertion_sort", "bridges", "jarvis_march"]),
    ]
