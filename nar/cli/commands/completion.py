"""``nar completion``: the script by which a shell completes the commands, flags and names of ``nar``."""

from nar.cli import startup  # noqa: F401 (before all that imports Lightning)

# isort: split
import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import shtab

from nar.cli import COMMANDS, OF_LIGHTNING
from nar.cli.commands import data
from nar.cli.kinds import DENSE, Choice
from nar.cli.parser import Parser
from nar.cli.train import TrainCLI
from nar.datasets import ALGORITHMS
from nar.errors import UserError

USAGE = "nar completion bash > ~/.local/share/bash-completion/completions/nar"
ABOUT = """Print a script by which a shell completes the commands, flags and names of nar. It knows the flags of this
release, so a new one needs it again."""
SHELLS = tuple(shtab.SUPPORTED_SHELLS)


def make_parser() -> Parser:
    """The parser of ``nar completion``."""
    parser = Parser(prog="nar completion", usage=USAGE, description=ABOUT)
    parser.add_argument("shell", type=str, help=f"One of {', '.join(SHELLS)}.")
    return parser


def run(args: Sequence[str]) -> None:
    """Run ``nar completion``.

    Raises:
        UserError: If there is no such shell.
    """
    shell = make_parser().parsed(args).shell
    if shell not in SHELLS:
        raise UserError(f"nar completion expects a shell, {', '.join(SHELLS)}: given {shell}")
    print(shtab.complete(all_commands(), shell))


class Unparsed(TrainCLI):
    """Has the parser of a command, and parses nothing."""

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Leave the command line alone."""
        self.config = parser.get_defaults(skip_validation=True)
        self.config.seed_everything = False

    def before_instantiate_classes(self) -> None:
        """There are no settings."""

    def instantiate_classes(self) -> None:
        """Nothing is made."""


def _parser_of_training(command: str) -> argparse.ArgumentParser:
    """The parser of a command that Lightning runs, as it is for reasoners of dense graphs."""
    return Unparsed(command, Choice(DENSE, [])).parser


def all_commands() -> argparse.ArgumentParser:
    """A parser with every command as a sub-command: what scripts are made of, and nothing is parsed by."""
    whole = argparse.ArgumentParser(prog="nar")
    whole.add_argument("--version", action="store_true", help="Print the version.")
    commands = whole.add_subparsers()
    for command, text in COMMANDS.items():
        made = commands.add_parser(command, help=text, add_help=False)
        if command in OF_LIGHTNING:
            _add_flags(made, _parser_of_training(command))
        elif command == "data":
            actions = made.add_subparsers()
            for action, about in data.ACTIONS.items():
                _add_flags(actions.add_parser(action, help=about, add_help=False), data.make_parser(action))
        else:
            _add_flags(made, import_module(f"nar.cli.commands.{command}").make_parser())
        if command == "sweep":  # which takes those of nar fit besides
            _add_flags(made, _parser_of_training("fit"))
    return whole


def _add_flags(made: argparse.ArgumentParser, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a parser to another that does not have them yet."""
    names = {
        "--algorithm": list(ALGORITHMS),
        "--algorithms": list(ALGORITHMS),
        "--data.algorithms": [*ALGORITHMS, "all"],
        "--model.processor": DENSE.processors(),
        "shell": list(SHELLS),
    }
    for action in parser._actions:
        new = [flag for flag in action.option_strings if flag not in made._option_string_actions]
        if action.help == argparse.SUPPRESS or not (new or not action.option_strings):
            continue
        if action.nargs == 0:
            made.add_argument(*new, action="store_true", help=_first_sentence(action))
            continue
        known = next((names[name] for name in (*new, action.dest) if name in names), None)
        added: Any = made.add_argument(*(new or [action.dest]), choices=known, help=_first_sentence(action))
        if known is None:
            added.complete = shtab.FILE


def _first_sentence(action: argparse.Action) -> str:
    """What the help of an argument begins with."""
    return (action.help or "").partition(". ")[0].replace("%", "%%")
