"""Who may import whom, and what importing costs."""

import ast
import functools
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from lightning_utilities.core import imports
from lightning_utilities.core.imports import RequirementCache

from nar.cli.optional import taken_for_missing

ROOT = Path(__file__).resolve().parents[1]
FOLDERS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]

BASE = ["nar.configuration", "nar.errors", "nar.files", "nar.limits", "nar.moved", "nar.sources", "nar.specs"]
SHARED = [
    "nar.batch",
    "nar.noise",
    "nar.packed",
    "nar.processor",
    "nar.tokenizer_files",
]  # what models, layers and data agree on
FOR_LAYERS = ["nar.configuration", "nar.errors", "nar.processor", "nar.ops"]  # and nothing of CLRS-30
# What the modules of a room import of the library, besides each other.
ROOMS: dict[str, list[str]] = {
    "nar": ["nar.moved", "nar.datasets", "nar.processors", "nar.training"],  # what users import from the top
    **dict.fromkeys(BASE, BASE),
    "nar.ops": BASE,
    **{module: [*BASE, *SHARED, "nar.ops"] for module in SHARED},
    "nar.model": [*BASE, *SHARED, "nar.ops"],
    "nar.sparse": [*BASE, *SHARED, "nar.ops"],
    "nar.inference": [
        *BASE,
        *SHARED,
        "nar.ops",
        "nar.model",
        "nar.datasets.engine",
        "nar.datasets.clrs30",
        "nar.viewer",
    ],
    "nar.inference.sparse": [  # which needs PyTorch Geometric
        *BASE,
        "nar.batch",
        "nar.model",
        "nar.sparse",
        "nar.inference",
        "nar.datasets.engine",
        "nar.datasets.clrs30",
        "nar.datasets.salsa",
    ],
    "nar.training": [*BASE, *SHARED, "nar.ops", "nar.model", "nar.sparse", "nar.inference", "nar.inference.sparse"],
    "nar.analysis": [*BASE, *SHARED, "nar.ops", "nar.model", "nar.training"],
    "nar.sweep": BASE,
    "nar.evaluation": [
        *BASE,
        "nar.batch",
        "nar.model",
        "nar.inference",
        "nar.training",
        "nar.sweep",
        "nar.datasets",
        "nar.datasets.engine",
        "nar.datasets.clrs30",
        "nar.datasets.splits",
    ],
    "nar.processors.asynchronous": [*FOR_LAYERS],
    "nar.processors.asynchronous.conv": [*FOR_LAYERS, "nar.processors.asynchronous", "nar.processors.sparse"],
    "nar.processors": [*FOR_LAYERS, "nar.processors.asynchronous"],
    "nar.processors.sparse": [*FOR_LAYERS, "nar.processors"],
    "nar.datasets.engine": [*BASE, "nar.batch", "nar.ops.numba_cache"],
    "nar.datasets.clrs30": [*BASE, "nar.batch", "nar.datasets.engine"],
    "nar.datasets.splits": [*BASE, "nar.batch", "nar.datasets.engine", "nar.datasets.clrs30"],
    "nar.datasets.salsa": [
        *BASE,
        "nar.batch",
        "nar.sparse.batch",
        "nar.datasets.engine",
        "nar.datasets.clrs30",
        "nar.datasets.splits",
    ],
    "nar.datasets.text": [
        *BASE,
        *SHARED,
        "nar.datasets.engine",
        "nar.datasets.clrs30",
        "nar.datasets.splits",
    ],
    "nar.datasets": ["nar.ops.numba_cache", "nar.datasets.engine", "nar.datasets.clrs30", "nar.datasets.splits"],
    "nar.hybrid": [*BASE, *SHARED, "nar.ops", "nar.processors", "nar.model", "nar.training"],
    "nar.viewer": [*BASE, *SHARED, "nar.ops", "nar.model", "nar.datasets.clrs30"],
}
COMMANDS = ["nar.cli"]  # import what they like
# Who alone imports these.
IMPORTERS = {
    "lightning": [
        "nar.training.base",
        "nar.analysis.callbacks",
        "nar.training.checkpoint_file",
        "nar.cli",
        "nar.training.progress",
        "nar.training.runs",
        "nar.datasets.splits.datamodule",
        "nar.datasets.splits.streaming",
        "nar.hybrid.module",
    ],
    "clrs": ["nar.datasets.clrs30.dm_clrs"],
    "transformers": [
        "nar.datasets.text.batches",
        "nar.datasets.text.datamodule",
        "nar.datasets.text.tokenizer",
        "nar.tokenizer_files",
        "nar.cli.answers",
        "nar.hybrid.answers",
        "nar.hybrid.descriptions",
        "nar.hybrid.language_model",
        "nar.hybrid.module",
        "nar.hybrid.parts",
        "nar.hybrid.positions",
        "nar.hybrid.pretrained",
        "nar.hybrid.transnar",
    ],
    "pyarrow": ["nar.datasets.text.published"],
    "peft": ["nar.hybrid.descriptions"],
    "torch_geometric": [
        "nar.datasets.salsa.tasks",
        "nar.datasets.salsa.datamodule",
        "nar.processors.asynchronous.conv",
        "nar.processors.sparse",
    ],
    "torch_scatter": ["nar.ops.scatter"],
    # which needs PyTorch Geometric
    "nar.processors.sparse": ["nar.processors.asynchronous.conv", "nar.processors.sparse"],
    "tokenizers": ["nar.datasets.text.tokenizer"],
}
# The file of every module by its dotted name.
LIBRARY = {
    ".".join([package, *([] if path.stem == "__init__" else [path.stem])]): path
    for package, folder in FOLDERS.items()
    for path in sorted((ROOT / folder).glob("*.py"))
}


@functools.cache
def imported(path: Path) -> list[str]:
    """The dotted name of everything that a file imports; a relative import begins with a dot."""
    return list(_imported(ast.parse(path.read_text())))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                yield from ("." * level + f"{module or ''}.{alias.name}".lstrip(".") for alias in names)
            case ast.Call(ast.Name("import_module" | "__import__"), [ast.Constant(str(name)), *_]):
                yield name
            case ast.Call(ast.Attribute(_, "import_module"), [ast.Constant(str(name)), *_]):
                yield name


def is_allowed(module: str, name: str) -> bool:
    """Whether `module` may import `name`."""
    for package, importers in IMPORTERS.items():
        if is_in(name, package):
            return any(is_in(module, importer) for importer in importers)
    if not is_in(name, "nar"):
        return not name.startswith(".")
    room, target = room_of(module), module_of(name)
    if room in COMMANDS or room_of(target) == room:
        return True
    return any(room_of(target) == other if other in ROOMS else is_in(target, other) for other in ROOMS[room])


def module_of(name: str) -> str:
    """The module of the library that a dotted name is in, or is."""
    while name and name not in LIBRARY:
        name = name.rpartition(".")[0]
    return name


def room_of(module: str) -> str:
    """The room of a module: the longest name in the table that it is or is in."""
    return max((room for room in [*ROOMS, *COMMANDS] if is_in(module, room)), key=len)


def is_in(name: str, package: str) -> bool:
    """Whether a dotted name is `package` or something in it."""
    return name == package or name.startswith(f"{package}.")


def violations(module: str, path: Path) -> list[str]:
    """What the file of `module` imports and must not."""
    return [name for name in imported(path) if not is_allowed(module, name)]


@pytest.mark.slow
def test_modules_import_only_what_their_rooms_may() -> None:
    assert {module: found for module, path in LIBRARY.items() if (found := violations(module, path))} == {}


def imports_among(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """What each module of the library imports of it."""
    return {
        module: {target for name in imported(path) if (target := module_of(name)) not in ("", "nar", module)}
        for module, path in modules.items()
    }


def test_no_module_imports_itself_by_way_of_others() -> None:
    TopologicalSorter(imports_among(LIBRARY)).prepare()


def test_a_planted_cycle_is_found(tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text("def late() -> None:\n    from nar.model.unroll import EncodeProcessDecode\n")
    with pytest.raises(CycleError):
        TopologicalSorter(imports_among({**LIBRARY, "nar.model.encoders": path})).prepare()


def test_no_room_depends_on_itself_by_way_of_others() -> None:
    floors = {**dict.fromkeys(BASE, "base"), **dict.fromkeys(SHARED, "shared")}
    rooms: dict[str, set[str]] = {}
    for module, targets in imports_among(LIBRARY).items():
        room = floors.get(room_of(module), room_of(module))
        others = {floors.get(room_of(target), room_of(target)) for target in targets}
        rooms.setdefault(room, set()).update(others - {room})
    TopologicalSorter(rooms).prepare()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("nar.model.unroll", "import nar.processors"),
        ("nar.model.unroll", "from nar import processors"),
        ("nar.model.unroll", "import nar"),
        ("nar.training.reasoner", "from nar.datasets import CLRS30"),
        ("nar.training.reasoner", "from nar.hybrid import TransNAR"),
        ("nar.model.unroll", "import lightning"),
        ("nar.datasets.splits.splits", "from lightning.pytorch import LightningDataModule"),
        ("nar.processors.pgn", "from nar.specs import Spec"),
        ("nar.processors.pgn", "from nar.processors_of_others import GAT"),
        ("nar.processors.pgn", "from nar.processors.sparse import PGNConv"),
        ("nar.processors.gat", "import torch_geometric"),
        ("nar.processors.sparse.pgn_conv", "from nar.specs import Spec"),
        ("nar.processors.sparse.aggregations", "import torch_scatter"),
        ("nar.datasets.splits.cache", "from nar.model.unroll import EncodeProcessDecode"),
        ("nar.datasets.splits.cache", "from nar.processors import PGN"),
        ("nar.ops.linear", "from nar.processor import Processor"),
        ("nar.specs", "from nar.processor import Processor"),
        ("nar.model.losses", "from nar.training.reasoner import Reasoner"),
        ("nar.training.reasoner", "import nar.cli"),
        ("nar.processors.gat", "from .pgn import PGN"),
        ("nar.processors.gat", "from . import pgn"),
        ("nar.hybrid.transnar", "from nar.datasets import CLRS30"),
        ("nar.hybrid.transnar", "from nar.cli import main"),
        ("nar.hybrid.transnar", "import lightning"),
        ("nar.model.unroll", "from transformers import AutoModel"),
        ("nar.cli.train", "from .module import Reasoner"),
        ("nar.cli.train", "import clrs"),
        ("nar.datasets.clrs30.specs", "def specs():\n    from clrs import SPECS\n    return SPECS"),
        ("nar.datasets.clrs30.recipe", "import importlib\nclrs = importlib.import_module('clrs')"),
        ("nar.datasets.clrs30.recipe", "from importlib import import_module\nclrs = import_module('clrs._src')"),
        ("nar.datasets.clrs30.recipe", "clrs = __import__('clrs')"),
        ("nar.datasets.text.stream", "from transformers import AutoTokenizer"),
        ("nar.model.unroll", "import tokenizers"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str, tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text(f"import torch\n{source}\n")
    assert len(violations(module, path)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("nar.cli.train", "import lightning, nar.processors\nfrom nar.datasets import CLRS30"),
        ("nar.training.base", "from lightning.pytorch import LightningModule\nfrom nar import model"),
        ("nar.processors.pgn", "from nar.processors.triplets import Triplets\nfrom nar.processor import Processor"),
        ("nar.processors.sparse.pgn_conv", "import torch_geometric.nn\nfrom nar.processors.gat import leaky_relu"),
        ("nar.hybrid.transnar", "from nar.training.checkpoint import make_reasoner\nfrom nar.processors import PGN"),
        ("nar.datasets.clrs30.dm_clrs", "import importlib\nimportlib.import_module('clrs')"),
        ("nar.datasets.splits.splits", "from nar.specs import Spec\nfrom nar.batch import Batch\nimport torch"),
    ],
)
def test_what_is_allowed_is_no_violation(module: str, source: str, tmp_path: Path) -> None:
    path = tmp_path / "allowed.py"
    path.write_text(source)
    assert violations(module, path) == []


def test_every_folder_of_the_library_is_walked() -> None:
    assert {
        "nar.cli",
        "nar.processors.pgn",
        "nar.datasets.clrs30.samplers",
        "nar.hybrid.transnar",
    } <= LIBRARY.keys()


def test_the_folder_datasets_cannot_be_imported_in_place_of_hugging_faces() -> None:
    unsafe = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-c", "import datasets"]
    result = subprocess.run(command, cwd=ROOT, env=unsafe, capture_output=True, text=True, check=False)
    assert "ImportError: this folder is nar.datasets" in result.stderr


def test_no_test_runs_with_the_repository_on_its_path() -> None:
    assert ROOT not in [Path(entry).resolve() for entry in sys.path]


def test_importing_the_library_loads_neither_dm_clrs_nor_pytorch_geometric(tmp_path: Path) -> None:
    modules = ("clrs", "jax", "tensorflow", "torch_geometric")
    code = "import sys, nar.cli.train, nar.datasets, nar.processors; "
    code += f"print([module for module in {modules} if module in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "modules"),
    [
        (["--help"], ["torch", "numba", "numpy", "lightning", "jsonargparse"]),
        (["--version"], ["torch", "numba", "numpy", "lightning", "jsonargparse"]),
        (["tset"], ["torch", "numba", "numpy", "lightning", "jsonargparse"]),
        (["data", "list"], ["lightning", "torchmetrics", "transformers", "matplotlib", "triton", "torch._dynamo"]),
        pytest.param(
            *(["test"], ["transformers", "matplotlib", "scipy.signal", "torch_geometric", "torch._dynamo", "sympy"]),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: value[0],
)
def test_a_command_imports_nothing_large_that_it_does_not_need(
    args: list[str], modules: list[str], tmp_path: Path
) -> None:
    code = f"""
import sys
from contextlib import suppress
from nar.cli import main
with suppress(SystemExit):
    main({args})
print([module for module in {modules} if module in sys.modules])
"""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "HOME": str(tmp_path)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_what_was_taken_for_missing_is_there_afterwards() -> None:
    asked, unasked = RequirementCache("numpy"), RequirementCache("numpy>=1")
    with taken_for_missing("numpy"):
        assert not asked
        assert not imports.package_available("numpy")
        assert RequirementCache("torch")
        assert imports.package_available("torch")
        kept = imports.package_available
    assert asked
    assert unasked
    assert imports.package_available("numpy")
    assert kept("numpy")


def test_drawing_trajectories_and_texts_needs_none_of_what_only_others_need(tmp_path: Path) -> None:
    modules = ("lightning", "torch_geometric", "transformers")
    code = "import sys; from nar.datasets import sample; from nar.datasets.text import stream; "
    code += f"print([m for m in {modules} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
