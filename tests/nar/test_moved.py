"""Old names of modules."""

import sys
from importlib import import_module

import pytest

from nar.moved import MOVED
from nar.training import checkpoint


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_imports_what_took_its_place_and_warns(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {MOVED[old]}"):
        module = import_module(old)
    now = import_module(MOVED[old])
    public = [name for name in dir(now) if not name.startswith("_")]
    assert public
    assert all(getattr(module, name) is getattr(now, name) for name in public)


def test_names_can_be_imported_from_an_old_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nar.checkpoint", raising=False)
    with pytest.warns(DeprecationWarning, match="nar.checkpoint is now nar.training.checkpoint"):
        from nar.checkpoint import load_reasoner  # type: ignore[import-not-found]
    assert load_reasoner is checkpoint.load_reasoner


def test_a_name_that_no_module_ever_had_is_no_module() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("nar.never_there")
