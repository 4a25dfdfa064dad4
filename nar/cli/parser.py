"""Parsers whose errors are one line, and what they are told of a user's classes."""

import argparse
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from traceback import walk_tb
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from nar.cli.refusals import reason, translated, with_flag
from nar.cli.settings import check_values
from nar.datasets import Algorithm
from nar.errors import UserError


class OneLineErrors(argparse.ArgumentParser):
    """Base of parsers whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise a :class:`UserError` in place of printing usage and leaving."""
        raise UserError(translated(message)) from ex

    def flags(self) -> set[str]:
        """All flags, with their dashes."""
        return {flag for action in self._actions for flag in action.option_strings}


class Parser(OneLineErrors, ArgumentParser):
    """A parser of jsonargparse whose errors are one line."""

    def parsed(self, args: Sequence[str]) -> Namespace:
        """The settings that a command line gives.

        Raises:
            UserError: If one is not what it can be; with the flag that may be meant, if there is none of that name.
        """
        try:
            with refusing():
                config: Namespace = self.parse_args([*args])
                check_values(config.as_dict())
        except UserError as error:
            raise UserError(with_flag(str(error), self.flags(), parameters_below(Algorithm))) from error
        return config


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
    """The name of the module that raised an error."""
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
    """The names of the parameters of all subclasses of a class."""
    for below in kind.__subclasses__():
        yield from inspect.signature(below).parameters
        yield from parameters_below(below)
