"""What other systems than Linux lack, or have otherwise, is not needed: neither to import nor by default."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import other_system
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
    "package-dir"
]
FILES = sorted(path for folder in [*FOLDERS.values(), "examples", "scripts"] for path in (ROOT / folder).glob("*.py"))
POSITION_OF_ENCODING = {
    "open": 2,
    "read_text": 0,
    "write_text": 1,
}  # of methods of paths; `open` itself has a file first


def without_encoding(tree: ast.Module) -> Iterator[int]:
    """The lines that open a file as text in whatever encoding the system has."""
    for call in ast.walk(tree):
        match call:
            case ast.Call(ast.Name("open"), [_, *args], keywords):
                name = "open"
            case ast.Call(ast.Attribute(ast.Name("os" | "Image")), _, _):  # functions of other kinds
                continue
            case ast.Call(ast.Attribute(_, "open" | "read_text" | "write_text" as name), args, keywords):
                pass
            case _:
                continue
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in keywords}
        mode = given.get("mode", ast.unparse(args[0]) if args else "") if name == "open" else ""
        if "b" not in mode and "encoding" not in given and len(args) <= POSITION_OF_ENCODING[name]:
            yield call.lineno


@pytest.mark.slow
def test_every_file_that_is_opened_as_text_has_an_encoding() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
    assert [f"{path}, line {line}" for path, tree in trees.items() for line in without_encoding(tree)] == []


@pytest.mark.parametrize(
    "source",
    [
        "open(path)",
        "open(path, 'w')",
        "open(path, mode='a+', newline='')",
        "path.open()",
        "path.open('w', newline='')",
        "(folder / 'table.md').read_text()",
        "files('nar').joinpath('a.csv').open(newline='')",
        "path.write_text(text)",
    ],
)
def test_a_planted_file_without_an_encoding_is_found(source: str) -> None:
    assert list(without_encoding(ast.parse(source))) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "open(path, 'rb')",
        "open(path, encoding='utf-8')",
        "path.open('xb')",
        "path.open(mode='wb')",
        "path.read_text('utf-8')",
        "path.write_text(text, encoding='utf-8')",
        "os.open(path, os.O_RDONLY)",
        "Image.open(path)",
    ],
)
def test_bytes_and_a_named_encoding_are_right(source: str) -> None:
    assert list(without_encoding(ast.parse(source))) == []


SCRIPT = """
import importlib, json, sys
from other_system import plant

if __name__ == "__main__":
    plant("torch_geometric.nn", "transformers.modeling_utils")
    modules, commands = json.loads(sys.argv[1])
    for module in modules:
        importlib.import_module(module)
    from nar.cli import main
    for command in commands:
        main(command)
"""


@pytest.mark.slow
def test_modules_are_imported_and_commands_run_without_what_linux_alone_has(tmp_path: Path) -> None:
    """Nor with files or a terminal in UTF-8; data workers are spawned."""
    modules = [
        ".".join([package, *([] if path.stem == "__init__" else [path.stem])])
        for package, folder in FOLDERS.items()
        for path in sorted((ROOT / folder).glob("*.py"))
        if path.stem != "triton"  # kernels for CUDA, which other systems have no Triton for
    ]
    (tmp_path / "graph.edgelist").write_text("São Tomé 2\n", encoding="utf-8")
    commands = [
        "fit --trainer.max_steps 2 --trainer.accelerator cpu --data.train_sizes [4]",
        "test --ckpt_path runs/bfs/best.ckpt --data.test_sizes [4]",
        "run bfs graph.edgelist --source São",
        "view --ckpt_path bfs",
        "data list",
        "list",
    ]
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    support = str(Path(other_system.__file__).parent)
    ascii_alone = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": support, **ascii_alone}
    command = [sys.executable, "script.py", json.dumps([modules, [line.split() for line in commands]])]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    for name in ("runs/bfs/ood.csv", "answer.json", "view.html"):
        assert (tmp_path / name).exists()
    assert "Tom" in (tmp_path / "answer.json").read_text(encoding="utf-8")
