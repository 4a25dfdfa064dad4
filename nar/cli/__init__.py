"""The command line: ``nar fit``, ``validate``, ``test``, ``predict``, ``latents``, ``convert``, ``ask``, ``sweep``,
``data``, and ``nar salsa fit``, ``validate`` and ``test``; the first three also for a language model that reads a
reasoner's states.

Lightning, PyTorch and numba take seconds to be imported, and only when a command needs them.
"""

import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

import nar
from nar.cli.refusals import FOR_USERS, clipped, line_of
from nar.errors import UserError, meant

COMMANDS = {
    "fit": "Train a model.",
    "validate": "Score a model on the validation splits.",
    "test": "Score a model on the test splits, which may have larger graphs.",
    "predict": "Write what a model answers to the test splits.",
    "latents": "Analyse the latent space of a model.",
    "convert": "Turn weights of dm-clrs into a checkpoint, or back.",
    "ask": "Show what a language model answers, and where it is wrong.",
    "sweep": "Train and test many models, and put their scores in a table.",
    "data": "List, verify or clear the cache of splits, or fill it ahead.",
    "salsa": "Train, validate and test on large sparse graphs: nar salsa fit, validate and test.",
}
OF_SALSA = {command: COMMANDS[command] for command in ("fit", "validate", "test")}
HELP = ("-h", "--help")


def overview(program: str, commands: dict[str, str]) -> str:
    """What can be done, a command a line."""
    width = max(map(len, commands)) + 2
    lines = [f"  {command:{width}}{text}" for command, text in commands.items()]
    return "\n".join(
        [
            f"usage: {program} COMMAND ...",
            "",
            *lines,
            "",
            f"{program} COMMAND --help shows the flags of a command; nar --version, which version this is.",
        ]
    )


def check_command(program: str, args: Sequence[str], commands: dict[str, str]) -> None:
    """Raise a :class:`UserError` unless a command is named, or flags are, before which there need not be one."""
    if not args:
        raise UserError(f"{program} expects a command: {', '.join(commands)}; given none")
    if args[0] not in commands and not args[0].startswith("-"):
        known = ", ".join(commands)
        raise UserError(f"{program} expects a command: {known}; given {clipped(args[0])}{meant(args[0], commands)}")


def run(args: Sequence[str]) -> None:
    """Do what a command line says."""
    if args and args[0] in HELP:
        print(overview("nar", COMMANDS))
        return
    if args and args[0] == "--version":
        print(f"nar {nar.__version__}")
        return
    check_command("nar", args, COMMANDS)
    if args[0] == "salsa":
        if args[1:] and args[1] in HELP:
            print(overview("nar salsa", OF_SALSA))
            return
        check_command("nar salsa", args[1:], OF_SALSA)
    if args[0] == "data":
        import_module("nar.cli.data").keep_data(args[1:])
    else:
        import_module("nar.cli.train").run(args)


def has_no_reader(stream: TextIO) -> bool:
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
        if isinstance(error, BrokenPipeError) and has_no_reader(sys.stdout):  # as in `nar --help | head -3`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain when it ends
            raise SystemExit(128 + signal.SIGPIPE) from None
        if not isinstance(error, UserError | OSError) and type(error).__name__ != FOR_USERS:
            raise
        print(line_of(error), file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
