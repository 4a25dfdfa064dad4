"""What every test starts from."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

# On the path, the repository's folder `datasets` would hide Hugging Face's package of that name.
ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # kernels then run on the CPU; Triton reads this where they are defined

torch.set_num_threads(1)  # the models of the tests are too small for threads, which would only wait for one another


@pytest.fixture(autouse=True)
def _same_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def clrs() -> Any:
    """dm-clrs, the oracle, whose import takes seconds and warns."""
    with suppress(ImportError):
        importlib.import_module("triton")  # after TensorFlow, which dm-clrs imports, it would end the process
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("clrs")


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """Settings that make a run short."""
    return [
        *("--model.processor.hidden_dim", "4", "--data.train_sizes", "[4,5]", "--data.num_workers", "0"),
        *("--data.cache_dir", str(tmp_path / "cache"), "--data.batch_size", "2"),
        *("--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu"),
        *("--trainer.max_steps", "4", "--trainer.val_check_interval", "2", "--trainer.enable_progress_bar", "false"),
        *("--trainer.log_every_n_steps", "1", "--trainer.enable_model_summary", "false"),
    ]


@pytest.fixture
def run(clrs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """The command line in this process, in an empty folder."""
    from nar.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the command line adds this folder

    def run(*args: str) -> None:
        main(args)

    return run
