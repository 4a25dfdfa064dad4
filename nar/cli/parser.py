"""Parsers whose errors are one line, and what they are told of a user's classes."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from traceback import walk_tb
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from nar.cli.refusals import reason, translated
from nar.datasets import Algorithm
from nar.errors import UserError


class Parser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise a :class:`UserError` in place of printing usage and leaving."""
        raise UserError(translated(message)) from ex


@contextmanager
def refusing() -> Iterator[None]:
    """Turn whatever is raised into a :class:`UserError`: nothing has been made yet but of what a user gave."""
    try:
        yield
    except UserError:
        raise
    except SystemExit as error:
        if origin(error) in ("argparse", "sys"):  # after --help and the like
            raise
        raise UserError(f"{origin(error)} ends the program when it is imported or called") from error
    except RecursionError as error:
        raise UserError("expected settings on fewer levels, given some that are nested too deeply") from error
    except Exception as error:
        raise UserError(reason(error)) from error


def origin(error: BaseException) -> str:
    """The module that raised it."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    name: str = frame.f_globals.get("__name__", "")
    return name


def check_algorithms(given: Any) -> None:
    """Raise a :class:`UserError` that says why something is no algorithm: the parser takes every text for a name."""
    if isinstance(given, str) and not given.isidentifier():
        with suppress(yaml.YAMLError):
            given = yaml.safe_load(given)
    if isinstance(given, list):
        for algorithm in given:
            check_algorithms(algorithm)
    elif not isinstance(given, Namespace) and not str(given).isidentifier():
        parser = Parser()
        parser.add_argument("--data.algorithms", type=Algorithm)
        with refusing():
            parser.parse_object({"data": {"algorithms": given}})


def parameters_below(kind: type[Any]) -> Iterator[str]:
    """The names of the parameters of all subclasses."""
    for below in kind.__subclasses__():
        yield from inspect.signature(below).parameters
        yield from parameters_below(below)
