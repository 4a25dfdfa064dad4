"""The script that trains several models, with a command line in place of ``nar`` that takes no time."""

import csv
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "results.py"
COMMAND = """#!{python}
import pathlib, sys, time
args = sys.argv[1:]
folder = pathlib.Path(args[args.index("--trainer.default_root_dir") + 1] if args[0] == "fit" else args[2]).absolute()
folder = folder if args[0] == "fit" else folder.parent
with (folder / "calls.txt").open("a") as file:
    print(*args, file=file)
if args[0] == "fit":
    if "fails" in args:
        raise SystemExit("it fails")
    (folder / "last.ckpt").touch()
    for _ in range({patience}):  # until all that are to run at once have started
        if len(list(folder.parent.glob("*/last.ckpt"))) >= {at_once}:
            break
        time.sleep(0.01)
    else:
        raise SystemExit("it is alone")
else:
    size = args[args.index("--data.test_sizes") + 1].strip("[]")
    (folder / "ood.csv").write_text("output,score\\nother,0\\nscore,0." + size)
"""


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, str]]]:
    spec = importlib.util.spec_from_file_location("results", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def results(*args: str, at_once: int) -> list[dict[str, str]]:
        nar = tmp_path / "nar"
        nar.write_text(COMMAND.format(python=sys.executable, at_once=at_once, patience=2000))
        nar.chmod(0o755)
        monkeypatch.setattr(module, "NAR", nar)
        where = ["--root", str(tmp_path / "runs"), "--out", str(tmp_path / "out.csv"), "--at-once", str(at_once)]
        monkeypatch.setattr(sys, "argv", ["results.py", *args, *where])
        module.main()
        with (tmp_path / "out.csv").open() as file:
            return list(csv.DictReader(file))

    return results


def test_several_models_train_at_once_and_come_in_the_order_that_was_asked_for(results, tmp_path, capsys):
    rows = results("minimum", "bfs", "dijkstra", "--trainer.precision=bf16-mixed", at_once=2)
    assert [row["algorithm"] for row in rows] == ["minimum", "bfs", "dijkstra"]
    assert {row["n = 64"] for row in rows} == {"0.6400"}
    fit, *tests = (tmp_path / "runs" / "bfs" / "calls.txt").read_text().splitlines()
    assert fit.endswith("--trainer.precision=bf16-mixed")
    assert len(tests) == 3
    assert capsys.readouterr().out.count("\n") == 2 + 3


def test_a_run_that_was_cut_short_goes_on(results, tmp_path):
    results("bfs", at_once=1)
    results("bfs", at_once=1)
    first, *_, second, _, _, _ = (tmp_path / "runs" / "bfs" / "calls.txt").read_text().splitlines()
    assert "--ckpt_path" not in first
    assert second.endswith("--ckpt_path last")


def test_a_model_that_fails_stops_no_other(results, tmp_path):
    with pytest.raises(SystemExit, match="fails: "):
        results("fails", "bfs", at_once=1)
    assert "bfs" in (tmp_path / "out.csv").read_text()
