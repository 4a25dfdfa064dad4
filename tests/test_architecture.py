"""Who may import whom, and what importing costs."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightning_utilities.core import imports
from lightning_utilities.core.imports import RequirementCache

from nar.optional import taken_for_missing

ROOT = Path(__file__).resolve().parents[1]
FOLDERS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]

COMMANDS = ("nar.cli", "nar.commands", "nar.data_command", "nar.parsing", "nar.sweep_command", "nar.text_commands")
# A module of `nar` itself imports modules of the lines above its own; what runs commands imports what it likes.
LAYERS = [
    ["errors", "sources"],
    ["files"],
    [
        "__init__",
        "affine",
        "border",
        "configuration",
        "gpu",
        "limits",
        "numba_cache",
        "optional",
        "parallel",
        "precision",
        "published",
        "report",
        "specs",
        "text_report",
    ],
    [
        "kernels",
        "linear",
        "noise",
        "pointers_reference",
        "refusals",
        "saving",
        "scatter",
        "schedules",
        "settings",
        "sweep_run",
        "tokenizer_files",
    ],
    ["batch", "encoders", "pointers_triton", "processor", "sparse_batch"],
    ["pickles", "pointers", "sweep"],
    ["decoders", "sweep_report"],
    ["model", "sparse_model"],
    ["graphs", "haiku", "latents", "losses", "metrics", "sparse_scores"],
    ["latent_studies", "module", "sparse_module"],
    ["checkpoint", "latent_plots"],
    ["callbacks", "latent_report", "progress", "runs"],
]
# What the other packages import of the library, besides themselves.
MAY_IMPORT = {
    "nar.processors": [
        "nar.affine",
        "nar.border",
        "nar.configuration",
        "nar.errors",
        "nar.gpu",
        "nar.kernels",
        "nar.linear",
        "nar.parallel",
        "nar.precision",
        "nar.processor",
    ],
    "nar.processors.sparse": [
        "nar.border",
        "nar.kernels",
        "nar.linear",
        "nar.parallel",
        "nar.precision",
        "nar.processor",
        "nar.processors",
        "nar.scatter",
    ],
    "nar.datasets": [
        "nar.specs",
        "nar.batch",
        "nar.configuration",
        "nar.errors",
        "nar.files",
        "nar.numba_cache",
        "nar.sources",
        "nar.sparse_batch",
        "nar.tokenizer_files",
    ],
    "nar.hybrid": [f"nar.{module}" for layer in LAYERS for module in layer] + ["nar.processors"],
}
# Who alone imports these.
IMPORTERS = {
    "lightning": [
        "nar.module",
        "nar.sparse_module",
        "nar.callbacks",
        "nar.checkpoint",
        "nar.commands",
        "nar.progress",
        "nar.runs",
        "nar.datasets.datamodule",
        "nar.datasets.streaming",
        "nar.hybrid.module",
    ],
    "clrs": ["nar.datasets.dm_clrs"],
    "transformers": [
        "nar.datasets.text_datamodule",
        "nar.datasets.tokenizer",
        "nar.tokenizer_files",
        "nar.hybrid.answers",
        "nar.hybrid.language_model",
        "nar.hybrid.module",
        "nar.hybrid.positions",
        "nar.hybrid.transnar",
    ],
    "peft": ["nar.hybrid.language_model"],
    "torch_geometric": [
        "nar.datasets.sparse",
        "nar.datasets.salsa",
        "nar.processors.asynchronous_conv",
        "nar.processors.sparse",
    ],
    "torch_scatter": ["nar.scatter"],
    # which needs PyTorch Geometric
    "nar.processors.sparse": ["nar.processors.asynchronous_conv", "nar.processors.sparse"],
    "tokenizers": ["nar.datasets.tokenizer"],
}
# The file of every module by its dotted name.
LIBRARY = {
    ".".join([package, *path.relative_to(ROOT / folder).with_suffix("").parts]): path
    for package, folder in FOLDERS.items()
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def imported(path: Path) -> Iterator[str]:
    """The dotted name of everything that a file imports; a relative import begins with a dot."""
    for node in ast.walk(ast.parse(path.read_text())):
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
    if module in COMMANDS or not is_in(name, "nar"):
        return not name.startswith(".")
    package, own_name = module.rsplit(".", maxsplit=1)
    if package != "nar":
        return any(is_in(name, other) for other in [package, *MAY_IMPORT[package]])
    height = next(i for i, layer in enumerate(LAYERS) if own_name in layer)
    return any(is_in(name, f"nar.{lower}") for layer in LAYERS[:height] for lower in layer)


def is_in(name: str, package: str) -> bool:
    """Whether a dotted name is `package` or something in it."""
    return name == package or name.startswith(f"{package}.")


def violations(module: str, path: Path) -> list[str]:
    """What the file of `module` imports and must not."""
    return [name for name in imported(path) if not is_allowed(module, name)]


@pytest.mark.parametrize("module", LIBRARY)
def test_a_module_imports_only_what_it_may(module: str) -> None:
    assert violations(module, LIBRARY[module]) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("nar.model", "import nar.processors"),
        ("nar.model", "from nar import processors"),
        ("nar.model", "import nar"),
        ("nar.module", "from nar.datasets import CLRS30"),
        ("nar.module", "from nar.hybrid import TransNAR"),
        ("nar.model", "import lightning"),
        ("nar.datasets.splits", "from lightning.pytorch import LightningDataModule"),
        ("nar.processors.pgn", "from nar.specs import Spec"),
        ("nar.processors.pgn", "from nar.processors_of_others import GAT"),
        ("nar.processors.pgn", "from nar.processors.sparse import PGNConv"),
        ("nar.processors.gat", "import torch_geometric"),
        ("nar.processors.sparse.pgn_conv", "from nar.specs import Spec"),
        ("nar.processors.sparse.scatter", "import torch_scatter"),
        ("nar.datasets.cache", "from nar.model import EncodeProcessDecode"),
        ("nar.datasets.cache", "from nar.processors import PGN"),
        ("nar.linear", "from nar.processor import Processor"),
        ("nar.specs", "from nar.processor import Processor"),
        ("nar.encoders", "from nar.decoders import Decoder"),
        ("nar.model", "from nar.losses import losses"),
        ("nar.losses", "from nar.module import Reasoner"),
        ("nar.module", "import nar.cli"),
        ("nar.processors.mpnn", "from .pgn import PGN"),
        ("nar.processors.mpnn", "from . import pgn"),
        ("nar.hybrid.transnar", "from nar.datasets import CLRS30"),
        ("nar.hybrid.transnar", "from nar.cli import main"),
        ("nar.hybrid.transnar", "import lightning"),
        ("nar.model", "from transformers import AutoModel"),
        ("nar.commands", "from .module import Reasoner"),
        ("nar.commands", "import clrs"),
        ("nar.datasets.clrs30", "def specs():\n    from clrs import SPECS\n    return SPECS"),
        ("nar.datasets.recipe", "import importlib\nclrs = importlib.import_module('clrs')"),
        ("nar.datasets.recipe", "from importlib import import_module\nclrs = import_module('clrs._src')"),
        ("nar.datasets.recipe", "clrs = __import__('clrs')"),
        ("nar.datasets.text_data", "from transformers import AutoTokenizer"),
        ("nar.model", "import tokenizers"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str, tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text(f"import torch\n{source}\n")
    assert len(violations(module, path)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("nar.commands", "import lightning, nar.processors\nfrom nar.datasets import CLRS30"),
        ("nar.module", "from lightning.pytorch import LightningModule\nfrom nar import model"),
        ("nar.processors.pgn", "from nar.processors.triplets import Triplets\nfrom nar.processor import Processor"),
        ("nar.processors.sparse.pgn_conv", "import torch_geometric.nn\nfrom nar.processors.gat import leaky_relu"),
        ("nar.hybrid.transnar", "from nar.checkpoint import make_reasoner\nfrom nar.processors import PGN"),
        ("nar.datasets.dm_clrs", "import importlib\nimportlib.import_module('clrs')"),
        ("nar.datasets.splits", "from nar.specs import Spec\nfrom nar.batch import Batch\nimport torch"),
    ],
)
def test_what_is_allowed_is_no_violation(module: str, source: str, tmp_path: Path) -> None:
    path = tmp_path / "allowed.py"
    path.write_text(source)
    assert violations(module, path) == []


def test_every_folder_of_the_library_is_walked() -> None:
    assert {"nar.cli", "nar.processors.pgn", "nar.datasets.samplers", "nar.hybrid.transnar"} <= LIBRARY.keys()


def test_the_folder_datasets_cannot_be_imported_in_place_of_hugging_faces() -> None:
    unsafe = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-c", "import datasets"]
    result = subprocess.run(command, cwd=ROOT, env=unsafe, capture_output=True, text=True, check=False)
    assert "ImportError: this folder is nar.datasets" in result.stderr


def test_no_test_runs_with_the_repository_on_its_path() -> None:
    assert ROOT not in [Path(entry).resolve() for entry in sys.path]


def test_importing_the_library_loads_neither_dm_clrs_nor_what_it_needs(tmp_path: Path) -> None:
    code = (
        "import sys, nar.commands, nar.datasets; print([m for m in ('clrs', 'jax', 'tensorflow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_processors_need_no_pytorch_geometric_unless_the_sparse_ones_are_asked_for(tmp_path: Path) -> None:
    code = "import sys, nar.commands, nar.processors; print('torch_geometric' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("args", "modules"),
    [
        (["--help"], ["torch", "numba", "numpy", "lightning", "jsonargparse"]),
        (["tset"], ["torch", "numba", "numpy", "lightning", "jsonargparse"]),
        (["data", "list"], ["lightning", "torchmetrics", "transformers", "matplotlib", "triton", "torch._dynamo"]),
        (["test"], ["transformers", "matplotlib", "scipy.signal", "torch_geometric", "tensorflow"]),
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
sys.argv = ["nar", *{args}]
with suppress(SystemExit):
    main()
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
    code = f"import sys; from nar.datasets import sample, text_data; print([m for m in {modules} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
