"""The command line: ``nar COMMAND``, with the commands that :data:`COMMANDS` lists.

Lightning, PyTorch and numba take seconds to be imported, and only when a command needs them.
"""

import gc
import io
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, TextIO

import nar
from nar.cli.refusals import FOR_USERS, clipped, line_of
from nar.errors import UserError, meant

COMMANDS = {
    "fit": "Train a model.",
    "validate": "Score a model on the validation splits.",
    "test": "Score a model on the test splits, which may have larger graphs.",
    "predict": "Write what a model answers to the test splits.",
    "evaluate": "Score checkpoints at many sizes, with intervals, tables and a picture.",
    "compare": "Compare two checkpoints instance by instance.",
    "run": "Run a trained reasoner on a graph, numbers, points or strings of your own.",
    "list": "List the reasoners that come with nar.",
    "latents": "Analyse the latent space of a model.",
    "convert": "Turn weights of dm-clrs into a checkpoint, or back.",
    "view": "Write a page that shows, step by step, where a model is wrong.",
    "ask": "Show what a language model answers, and where it is wrong.",
    "sweep": "Train and test many models, and put their scores in a table.",
    "data": "List, verify or clear the cache of splits, or fill it ahead.",
    "completion": "Print a script by which a shell completes commands and flags.",
}
OF_LIGHTNING = ("fit", "validate", "test", "predict")
HELP = ("-h", "--help")
_OF_BROKEN_PIPE = 128 + 13  # SIGPIPE, a name that Windows does not have


def overview(program: str, commands: Mapping[str, str]) -> str:
    """What can be done, a command a line."""
    width = max(map(len, commands)) + 2
    lines = [f"  {command:{width}}{text}" for command, text in commands.items()]
    end = f"{program} COMMAND --help shows the flags of a command."
    return "\n".join([f"usage: {program} COMMAND ...", "", *lines, "", end])


def check_command(program: str, args: Sequence[str], commands: Mapping[str, str]) -> None:
    """Raise a :class:`UserError` unless the first argument is a command."""
    if args and args[0] in commands:
        return
    given = f"{clipped(args[0])}{meant(args[0], commands)}" if args else "none"
    raise UserError(f"{program} expects a command: {', '.join(commands)}; given {given}")


def run(args: Sequence[str]) -> None:
    """Do what a command line says.

    Raises:
        UserError: If it cannot be done.
    """
    if args and args[0] in HELP:
        print(overview("nar", COMMANDS))
        return
    if args and args[0] == "--version":
        print(f"nar {nar.__version__}")
        return
    if args and args[0] == "salsa":  # a command of its own once, for one release
        now = " ".join(["nar", *args[1:2]])
        raise UserError(
            f"nar salsa is no command any more: write {now} --config scripts/configs/salsa.yaml, or "
            f"{now} --model SparseReasoner"
        )
    check_command("nar", args, COMMANDS)
    command, *rest = args
    if command in OF_LIGHTNING:
        _imported("nar.cli.train").run(command, rest)
    else:
        _imported(f"nar.cli.commands.{command}").run(rest)


def _imported(module: str) -> Any:
    """A module of commands, with all that it imports: to look for garbage meanwhile would take a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        return import_module(module)
    finally:
        if was_on:
            gc.enable()


def _has_no_reader(stream: TextIO) -> bool:
    """Whether what is written to a stream goes nowhere: the pipe's other end is closed."""
    try:
        print(file=stream, flush=True)
    except BrokenPipeError:
        return True
    return False


def main(args: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        args: The command and its flags; those of this process if not given.

    Raises:
        SystemExit: With status 2 after an error that is the user's to mend, whose message is printed as one line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for what the encoding of the terminal has not
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for import paths; last, where it hides no installed package
    try:
        run(sys.argv[1:] if args is None else list(args))
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("nar: ended by SIGINT", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _has_no_reader(sys.stdout):  # as in `nar --help | head -3`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain when it ends
            raise SystemExit(_OF_BROKEN_PIPE) from None
        if not isinstance(error, UserError | OSError) and type(error).__name__ != FOR_USERS:
            raise
        print(line_of(error), file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
