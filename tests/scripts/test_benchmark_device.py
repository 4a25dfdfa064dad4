import csv
import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark_device.py"


def test_steps_per_second_are_extrapolated_to_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("benchmark_device", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in (("SIZES", [4]), ("BATCH_SIZE", 2), ("__file__", str(tmp_path / "benchmark_device.py"))):
        monkeypatch.setattr(module, name, value)
    module.run("cpu", ["bfs", "minimum"], num_batches=1, seconds=0)
    with (tmp_path / "benchmark_cpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["algorithm"] for row in rows] == ["bfs", "minimum"]
    minutes = [float(row["minutes of 10000"]) for row in rows]
    for row, expected in zip(rows, minutes, strict=True):
        assert 10_000 / float(row["steps per s"]) / 60 == pytest.approx(expected, rel=1e-2)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("10000 steps of each of 2, one after the other: ")
    assert float(last.split(": ")[1].split()[0]) == pytest.approx(sum(minutes), rel=1e-2)
