"""What every test starts from."""

import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

# On the path, the repository's folder `datasets` would hide Hugging Face's package of that name.
ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]


@pytest.fixture(autouse=True)
def _same_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def clrs() -> Any:
    """dm-clrs, the oracle, whose import takes seconds and warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("clrs")
