"""What `nar fit` does to its process, and any script can."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nar.ops import parallel
from nar.ops.process import tune_process, wait_passively


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)
    gc.unfreeze()


@pytest.mark.slow
def test_torch_uses_one_core_and_the_librarys_own_operations_all() -> None:
    number = parallel.num_threads
    torch.set_num_threads(2)
    tune_process()
    assert torch.get_num_threads() == 1
    assert parallel.num_threads == number


@pytest.mark.slow
def test_what_is_there_is_left_to_itself_by_the_garbage_collector_until_that_is_undone() -> None:
    tune_process()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    assert gc.get_freeze_count() == 0


def test_how_threads_wait_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.slow
def test_a_script_calls_one_function_before_torch_is_imported_and_one_after(tmp_path: Path) -> None:
    code = """
import sys
from nar.ops.process import tune_process, wait_passively
wait_passively()
assert "torch" not in sys.modules
tune_process()
import torch
from nar.ops import parallel
print(torch.get_num_threads(), parallel.num_threads)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["1", "2"]


@pytest.mark.slow
def test_a_program_that_is_tuned_ends_without_a_word(tmp_path: Path) -> None:
    code = "import triton._C.libtriton, gc; from nar.ops.process import tune_process; tune_process()"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
