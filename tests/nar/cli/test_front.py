"""What the command line does before it knows which command to run."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import nar
from nar.cli import COMMANDS, main

NAR = Path(sys.executable).with_name("nar")


@pytest.fixture(autouse=True)
def _same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line adds a folder to it."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_arguments_may_be_given_from_python(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"\n  {command} " in printed for command in COMMANDS)


def test_without_arguments_they_are_those_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nar", "--version"])
    main()
    assert capsys.readouterr().out == f"nar {nar.__version__}\n"


def test_the_version_is_that_of_the_installed_package() -> None:
    assert nar.__version__ == version("neural-algorithmic-reasoning")


def test_who_reads_the_first_lines_alone_sees_no_error() -> None:
    command = f"{NAR} --help | true"  # which reads none
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.slow
def test_without_a_configuration_training_is_by_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Path(__file__).resolve().parents[3] / "scripts/configs/clrs30.yaml"
    printed = []
    for args in ([], ["--config", str(recipe)]):
        with pytest.raises(SystemExit, match="0"):
            main(["fit", *args, "--print_config"])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "max_steps: 10000" in printed[0]
