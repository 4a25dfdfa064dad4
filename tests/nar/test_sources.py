"""What a module depends on, by its source and that of what it imports."""

import sys
from pathlib import Path

import pytest

from nar.sources import Module, find_module, sources_of

HIGH = "import os\n{}\n"
LOW = "f = g = 1\n"
FORMS = {
    "names": "from kit.low import f",
    "names over several lines": "from kit.low import (\n    g,\n    f,  # (the second)\n)",
    "names behind a backslash": "from kit.low import g, \\\n    f",
    "all names": "from kit.low import *",
    "a module": "import kit.low",
    "a module by another name": "import kit.low as k",
    "a module behind another": "import sys, kit.low as k",
    "a module of a package": "from kit import low",
    "a module by a relative import": "from . import low",
    "names by a relative import": "from .low import f",
    "names by a relative import from above": "import kit.deep.inner as i",
    "a name that a package has from a module": "from kit.shop import f",
    "a package that has a name from a module": "import kit.shop as k",
    "a package on the way": "import kit.shop.counter",
    "in a function": "def late():\n    from kit.low import f",
    "in a method": "class A:\n    async def late(self):\n        import kit.low",
    "in a condition": "if sys:\n    pass\nelif os:\n    from kit.low import f\nelse:\n    pass",
    "in what is tried": "try:\n    from kit.low import f\nexcept ImportError:\n    pass",
    "in what is tried next": "try:\n    pass\nexcept ImportError:\n    from kit.low import f",
    "at last": "try:\n    pass\nfinally:\n    from kit.low import f",
    "in loops": "for x in ():\n    pass\nelse:\n    while x:\n        from kit.low import f",
    "in a block": "with open('x'):\n    from kit.low import f",
    "in a case": "match os:\n    case 1:\n        from kit.low import f",
    "behind a semicolon": "x = 1; from kit.low import f",
    "by way of another module": "from kit.middle import h",
}


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package, of which nothing has been imported."""
    sources = {
        "__init__": "",
        "low": LOW,
        "middle": "from kit.low import f as h\n",
        "other": "",
        "shop/__init__": "from kit.low import f\n",
        "shop/counter": "",
        "deep/__init__": "",
        "deep/inner": "from ..low import f\n",
    }
    for name, source in sources.items():
        (tmp_path / "kit" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kit" / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "kit"


def files_of(source: str, kit: Path) -> set[str]:
    """The names of the kit's files that a module with this source depends on."""
    (kit / "high.py").write_text(HIGH.format(source))
    module = find_module("kit.high")
    assert module is not None
    return {str(Path(found.path).relative_to(kit)) for found in sources_of(module, lambda found: found.is_of("kit"))}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_import_of_every_form_is_found(form: str, kit: Path) -> None:
    assert {"high.py", "low.py"} <= files_of(form, kit)


@pytest.mark.parametrize(
    "source",
    ["", "import os.path", "from numpy import low", "'''\nfrom kit.low import f\n'''", "low = 'import kit.low'"],
)
def test_what_is_not_imported_is_not_found(source: str, kit: Path) -> None:
    assert files_of(source, kit) == {"high.py"}


def test_nothing_is_imported_to_be_found(kit: Path) -> None:
    (kit / "low.py").write_text("raise RuntimeError\n")
    assert "low.py" in files_of("from kit.middle import h", kit)
    assert not any(name.startswith("kit") for name in sys.modules)


def test_imports_in_a_circle_end(kit: Path) -> None:
    (kit / "low.py").write_text("import kit.high\n")
    assert files_of("import kit.low", kit) == {"high.py", "low.py", "__init__.py"}


@pytest.mark.parametrize("damage", ["def (", "x = '\0'", "\N{ZERO WIDTH SPACE}", "# coding: nowhere\n"])
def test_a_file_that_cannot_be_parsed_counts_as_it_is(damage: str, kit: Path) -> None:
    (kit / "low.py").write_text(damage)
    assert files_of("import kit.low", kit) == {"high.py", "low.py", "__init__.py"}


def test_a_missing_file_is_passed_over(tmp_path: Path) -> None:
    assert sources_of(Module("gone", str(tmp_path / "gone.py"), ""), lambda found: True) == {}


@pytest.mark.parametrize(
    "name", ["sys", "nowhere", "nar.nowhere", "nar.errors.UserError", "numpy._core._multiarray_umath"]
)
def test_what_is_not_written_in_python_is_no_module(name: str) -> None:
    assert find_module(name) is None


def test_a_module_is_found_in_every_folder_of_the_library_without_being_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["nar.cli.train", "nar.datasets.engine.trace", "nar.hybrid.transnar", "nar.ops.edge_max_message.loops"]
    for name in [loaded for loaded in sys.modules if loaded.startswith("nar.")]:
        monkeypatch.delitem(sys.modules, name)
    modules = [find_module(name) for name in names]
    assert [module and Path(module.path).stem for module in modules] == [name.rpartition(".")[2] for name in names]
    assert not any(name in sys.modules for name in names)
