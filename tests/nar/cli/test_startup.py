"""What commands put off or leave out when they begin."""

import gc
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from nar import cli
from nar.cli import optional
from nar.cli.optional import Compiled, compiler_put_off

NAME = "compiler_of_this_test"


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package in place of torch's compiler, which has not been imported yet."""
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "__init__.py").write_text("import torch\nclass OptimizedModule(torch.nn.Linear): pass\nother = 7\n")
    (folder / "part.py").write_text("value = 8\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(optional, "COMPILER", NAME)
    for name in (NAME, f"{NAME}.part"):
        monkeypatch.setitem(sys.modules, name, sys)  # so that it is taken away again
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("compiler")
def test_the_class_of_compiled_modules_is_had_without_the_compiler() -> None:
    with compiler_put_off():
        kind = importlib.import_module(NAME).OptimizedModule
    assert kind is Compiled
    assert NAME not in sys.modules
    assert not isinstance(nn.Linear(1, 1), kind)
    compiled = importlib.import_module(NAME).OptimizedModule(1, 1)
    assert isinstance(compiled, kind)
    assert not isinstance(nn.Linear(1, 1), kind)


@pytest.mark.usefixtures("compiler")
def test_the_compiler_is_imported_when_more_of_it_is_asked_for() -> None:
    with compiler_put_off():
        assert importlib.import_module(f"{NAME}.part").value == 8
        assert importlib.import_module(NAME).other == 7
        assert importlib.import_module(NAME).OptimizedModule is not Compiled
    assert importlib.import_module(NAME).other == 7


@pytest.mark.usefixtures("compiler")
def test_a_compiler_that_was_imported_before_is_left_alone() -> None:
    before = importlib.import_module(NAME)
    with compiler_put_off():
        assert importlib.import_module(NAME) is before
    assert importlib.import_module(NAME) is before


@pytest.mark.slow
def test_lightning_knows_compiled_models_when_the_compiler_was_put_off(tmp_path: Path) -> None:
    code = """
import sys
import nar.cli.startup
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.compile import from_compiled, to_uncompiled
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultCollection
assert "torch._dynamo" not in sys.modules
class Model(LightningModule):
    def forward(self, x):
        return x + 1
model = Model()
compiled = torch.compile(model, backend="eager")
assert from_compiled(compiled) is model
assert to_uncompiled(model) is model
assert list(_ResultCollection(training=True).valid_items()) == []
print("known")
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout == "known\n", result.stderr


def test_nothing_is_collected_while_a_command_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(cli, "import_module", lambda name: seen.append(gc.isenabled()))
    assert gc.isenabled()
    cli._imported("any")
    assert seen == [False]
    assert gc.isenabled()
