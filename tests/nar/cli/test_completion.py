"""What a shell completes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import shtab

from nar.cli import COMMANDS
from nar.cli.commands.completion import SHELLS, all_commands
from nar.datasets import ALGORITHMS

# Completes the last of the words that it is given.
COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_shtab_nar nar "${COMP_WORDS[COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash."""
    path = tmp_path_factory.mktemp("completion") / "nar.bash"
    path.write_text(shtab.complete(all_commands(), "bash"), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], [*COMMANDS]),
        (["f"], ["fit"]),
        (["fit", "--data.b"], ["--data.batch_size"]),
        (["fit", "--seed_"], ["--seed_everything"]),
        (["fit", "--data.algorithms", "b"], [name for name in ALGORITHMS if name.startswith("b")]),
        (["fit", "--data.algorithms", "bfs", "--model.processor", "Trip"], ["TripletGMPNN"]),
        (["test", "--ckpt"], ["--ckpt_path"]),
        (["run", "gra"], ["graph.graphml"]),
        (["evaluate", "a.ckpt", "--siz"], ["--sizes"]),
        (["data", "ver"], ["verify"]),
        (["data", "generate", "--data.train"], ["--data.train_sizes"]),
        (["sweep", "--se"], ["--seeds", "--seed_everything"]),
        (["completion", "b"], ["bash"]),
    ],
    ids=" ".join,
)
def test_bash_completes_commands_flags_and_names(
    words: list[str], expected: list[str], script: Path, tmp_path: Path
) -> None:
    (tmp_path / "graph.graphml").touch()
    command = ["bash", "-c", COMPLETE, "bash", str(script), "nar", *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {*result.stdout.split()} - {"-h", "--help", "--version"} >= {*expected}
    assert all(found.startswith(words[-1]) for found in result.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script(shell: str, run: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    run("completion", shell)
    printed = capsys.readouterr().out
    assert "sweep" in printed
    assert "data.batch_size" in printed
    assert "print_shtab" not in printed  # which jsonargparse has, and hides


def test_another_shell_is_refused(run: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("completion", "ksh")
    assert capsys.readouterr().err == (
        "nar: error: nar completion expects a shell, bash, zsh, tcsh, fish, powershell: given ksh\n"
    )
