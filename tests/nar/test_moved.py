"""Old names of modules."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from nar.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_imports_what_took_its_place_and_warns(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {MOVED[old]}"):
        module = import_module(old)
    now = import_module(MOVED[old])
    public = [name for name in dir(now) if not name.startswith("_")]
    assert public
    assert all(getattr(module, name) is getattr(now, name) for name in public)


def test_names_can_be_imported_from_an_old_module(tmp_path: Path) -> None:
    code = "from nar.checkpoint import load_reasoner; from nar.training import checkpoint; "
    code += "print(load_reasoner is checkpoint.load_reasoner)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True"


def test_a_name_that_no_module_ever_had_is_no_module() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("nar.never_there")
