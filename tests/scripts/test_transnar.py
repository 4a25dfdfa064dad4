"""The script that trains hybrids and baselines, with a command line in place of ``nar`` that takes no time."""

import csv
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "transnar.py"
COMMAND = """#!{python}
import pathlib, sys
args = sys.argv[1:]
folder = pathlib.Path(args[args.index("--trainer.default_root_dir") + 1] if args[0] == "fit" else args[2]).absolute()
folder = folder if args[0] == "fit" else folder.parent
with (folder / "calls.txt").open("a") as file:
    print(*args, file=file)
name = folder.name.rpartition("_")[0].rpartition("_")[0].replace("_", " ")
if args[0] == "fit":
    (folder / "last.ckpt").touch()
    if "--fails=" + name in args and "--ckpt_path" not in args:
        raise SystemExit("it fails")
else:
    seed = int(folder.name.rpartition("_")[2])
    lines = ["model,algorithm,num_nodes,texts,parse,shape,clrs,exact"]
    for model in [name] + ["reasoner alone"] * (name == "hybrid"):
        for algorithm in ("bfs", "kmp_matcher"):
            for size in (10, 12, 14):
                clrs = 1 / size if model == "reasoner alone" else (0.5 if name == "hybrid" else 0.25) + seed / 10
                lines.append(f"{{model}},{{algorithm}},{{size}},64,1,1,{{clrs}},0")
    (folder / f"answers_{{len(list(folder.glob('answers*'))) + 1}}.csv").write_text("\\n".join(lines))
"""
CONFIG = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
CONFIG |= {"num_attention_heads": 2, "tie_word_embeddings": True}


@pytest.fixture
def script() -> Any:
    spec = importlib.util.spec_from_file_location("transnar", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def results(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, str]]]:
    def results(*args: str) -> list[dict[str, str]]:
        nar = tmp_path / "nar"
        nar.write_text(COMMAND.format(python=sys.executable))
        nar.chmod(0o755)
        monkeypatch.setattr(script, "NAR", nar)
        monkeypatch.setattr(script, "hybrid_parameters", lambda *_: 1_000_000)
        where = ["--root", str(tmp_path / "runs"), "--out", str(tmp_path / "out.csv")]
        monkeypatch.setattr(sys, "argv", ["transnar.py", "--algorithms", "bfs", "kmp_matcher", *args, *where])
        script.main()
        with (tmp_path / "out.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return results


def calls(tmp_path: Path, run: str) -> list[str]:
    """The commands that were run for a model."""
    return (tmp_path / "runs" / run / "calls.txt").read_text().splitlines()


def test_every_model_and_seed_is_trained_and_tested_and_the_table_has_their_spread(results, tmp_path, capsys):
    rows = results("--seeds", "2", "--at-once", "2", "--steps", "30", "--trainer.precision=bf16-mixed", "--model.x=1")
    assert len(rows) == 2 * 2 * 2 * 3 + 2 * 3
    assert {row["steps"] for row in rows if row["model"] != "reasoner alone"} == {"30"}
    lines = capsys.readouterr().out.splitlines()
    assert "| bfs | 10, interpolated | 55.0 ± 7.1 | 30.0 ± 7.1 | 10.0 |" in lines
    assert "| mean | 14, extrapolated | 55.0 ± 7.1 | 30.0 ± 7.1 | 7.1 |" in lines
    (reasoner,) = calls(tmp_path, "reasoner_6000")
    assert "--trainer.precision=bf16-mixed" in reasoner
    assert "--model.x=1" not in reasoner
    for run, only in (("hybrid_30_1", False), ("language_model_30_1", True)):
        fit, test = calls(tmp_path, run)
        assert fit.startswith("fit ")
        assert "--seed_everything 1" in fit
        assert "--model.x=1" in fit
        assert ("--model.language_model_only true" in fit) == only
        assert ("reasoner_6000/last.ckpt" in fit) != only
        assert "--data.test_sizes [10, 12, 14] --data.num_test 64" in test


def test_what_is_recorded_is_not_repeated(results, tmp_path):
    first = results("--seeds", "1")
    again = results("--seeds", "2")
    assert again[: len(first)] == first
    assert len(again) == 2 * 2 * 2 * 3 + 2 * 3
    assert len(calls(tmp_path, "hybrid_3000_0")) == 2
    assert len(calls(tmp_path, "reasoner_6000")) == 1


def test_other_numbers_of_steps_are_other_runs(results, tmp_path, capsys):
    results("--seeds", "1", "--steps", "10")
    capsys.readouterr()
    rows = results("--seeds", "1", "--steps", "20")
    assert {row["steps"] for row in rows if row["model"] == "hybrid"} == {"10", "20"}
    assert "| bfs | 10, interpolated | 50.0 | 25.0 | 10.0 |" in capsys.readouterr().out.splitlines()


def test_a_run_that_fails_stops_no_other_and_goes_on_next_time(results, tmp_path):
    with pytest.raises(SystemExit, match=r"^hybrid, seed 0: "):
        results("--seeds", "1", "--fails=hybrid")
    assert "language model" in (tmp_path / "out.csv").read_text()
    results("--seeds", "1", "--fails=hybrid")
    first, second, _ = calls(tmp_path, "hybrid_3000_0")
    assert "--ckpt_path" not in first
    assert second.endswith("--ckpt_path last")


@pytest.mark.parametrize("more", [1000, 50_000])
def test_a_baseline_is_as_wide_as_it_takes(script: Any, more: int) -> None:
    target = script.trained_parameters(CONFIG) + more
    wider = script.matched(CONFIG, target)
    assert {**wider, "intermediate_size": 64} == CONFIG
    assert abs(script.trained_parameters(wider) - target) <= 3 * 32 * 2 / 2  # half of what one more would bring


def test_a_baseline_that_cannot_be_as_large_is_refused(script: Any) -> None:
    with pytest.raises(ValueError, match=r"^expected a language model with 10,000 parameters, given at best "):
        script.matched({**CONFIG, "num_hidden_layers": 100}, 10_000)


def test_flags_of_the_language_model_are_part_of_what_is_matched(script: Any) -> None:
    config = script.configured(script.CONFIGS / "transnar_small.yaml", ["--model.language_model.hidden_size=64", "--x"])
    assert config["model"]["language_model"]["hidden_size"] == 64
