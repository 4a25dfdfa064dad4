"""Every example is run as a user would from another folder, at sizes that take seconds."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import nbformat
import pytest
from nbclient import NotebookClient
from transformers import AutoModelForCausalLM

from nar.datasets.text.tokenizer import text_tokenizer
from nar.hybrid import TransNARModel, make_language_model

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SMALL = (
    *("--model.processor.hidden_dim", "4", "--data.train_sizes", "[4]", "--data.num_workers", "0"),
    *("--trainer.max_steps", "2", "--trainer.accelerator", "cpu"),
)
# By the name of an example: its arguments, and what it prints.
RUNS = {
    "optuna_search": (
        ["--algorithm", "bfs", "--trials", "2", "--max_steps", "2"],
        r"best: \{'processor': [^}]*\}, 0\.\d+",
    ),
    "own_algorithm": (["--steps", "2"], r"(right|wrong: .*) \(colour \d+ of 20"),
    "own_processor": (
        ["--steps", "2", "--hidden_dim", "4", "--sizes", "[4,8]"],
        r"processor\tn = 4\tn = 8\n(.*\n)*GatedMean\t[01]\.\d+\t[01]\.\d+\n(.*\n)*PGN\t[01]\.\d+\t[01]\.\d+\n",
    ),
    "pyg_node_classifier": (["--steps", "60"], r"n = 64: (9\d|100).*right\n.*\nn = 2048: (9\d|100).*right"),
    "reasoner_in_model": (["--steps", "2"], r"2: 0\.\d+, \[0\.4\d+, 0\.5\d+, 0\.5\d+\]"),
    "slurm_array": ([*SMALL], r"task 33: bfs with seed 1 in runs/array/bfs/seed1\n(.*\n)*.*bfs +│ 64 │"),
    "transnar_trainer": (
        ["--steps", "2", "--hidden_size", "16"],
        r"'eval_loss': \d.*\n(.*\n)*truth: \[0 0 1 2\]\nScores\(",
    ),
    "transnar_hub": (["--language_model", "tiny", "--steps", "2"], r"truth: \[[\d ]+\]\nScores\("),
}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """An empty folder of a user who has no cache, but for a language model that stands in for one of the Hub."""
    tokenizer = text_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    model = make_language_model({"model_type": "gpt_neox", "vocab_size": len(tokenizer), **sizes, **ends})
    model.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_example_runs_from_another_folder(name: str, elsewhere: Path) -> None:
    args, printed = RUNS[name]
    environment = {**os.environ, "HOME": str(elsewhere), "OMP_NUM_THREADS": "1", "SLURM_ARRAY_TASK_ID": "33"}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *args]
    result = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.search(printed, result.stdout), result.stdout
    if name == "slurm_array":
        assert (elsewhere / "runs/array/bfs/seed1/best.ckpt").exists()
    if name == "transnar_hub":
        assert (elsewhere / "hybrid/tokenizer.json").exists()
    if name == "transnar_trainer":
        assert type(AutoModelForCausalLM.from_pretrained(elsewhere / "hybrid")) is TransNARModel


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # of Jupyter's libraries
def test_a_notebook_runs_from_another_folder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", matplotlib.get_cachedir())  # to find fonts takes seconds
    monkeypatch.setenv("HOME", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = [kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert ("image/png" if path.stem == "latents" else "text/html") in shown


def test_every_example_is_short_is_run_and_is_in_the_documentation() -> None:
    page = (ROOT / "docs/examples.md").read_text(encoding="utf-8")
    assert {path.stem for path in SCRIPTS} == {*RUNS}
    for path in SCRIPTS:
        source = path.read_text(encoding="utf-8")
        assert len(source.splitlines()) <= 60, path
        assert f'--8<-- "examples/{path.name}"' in page
        assert f"{path.name}" in str(ast.get_docstring(ast.parse(source)))  # how it is called
    for path in NOTEBOOKS:
        assert path.name in page


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


def test_slurm_reads_the_settings_of_its_example() -> None:
    lines = (ROOT / "examples/slurm_array.py").read_text(encoding="utf-8").splitlines()
    first_of_program = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    settings = [line for line in lines[:first_of_program] if line.startswith("#SBATCH --")]
    assert lines[0] == "#!/usr/bin/env python3"
    assert "#SBATCH --array=0-89" in settings  # 30 algorithms, 3 seeds
    assert "#SBATCH --signal=B:USR1@300" in settings  # to the program itself, which is no step of a job
