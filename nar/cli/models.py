"""Parsers of what a model and its data are made of, and making both."""

import inspect
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, Namespace, get_loader  # type: ignore[attr-defined]
from lightning.pytorch.cli import LightningArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

# Classes in these can then be named without their modules.
import nar.analysis.callbacks
import nar.processors
import nar.training.schedules  # noqa: F401
from nar.cli.kinds import DENSE, GROUPS, Kind
from nar.cli.memory import Room
from nar.cli.parser import OneLineErrors, check_algorithms, parameters_below, refusing
from nar.cli.refusals import CLASS, with_flag
from nar.cli.settings import check_seed, check_trainer, check_values
from nar.datasets import ALGORITHMS, Algorithm
from nar.datasets.clrs30.samplers import check_names
from nar.errors import UserError, meant
from nar.noise import Noise
from nar.processor import Processor
from nar.training.checkpoint import config_of, load_weights, making_model_of, with_new_names
from nar.training.saving import restore_changes

OF_FORMER_RUNS = ("weights_only", "verbose", "return_predictions")
"""Settings that YAML of former runs has, and that have no effect."""
OF_TRAINING = ("trainer", "seed_everything", *OF_FORMER_RUNS)
"""Settings that YAML has for commands that train or test."""
OF_OPTIMIZATION = {
    "optimizer": "torch.optim",
    "lr_scheduler": "nar.training.schedules and torch.optim.lr_scheduler",
}
"""Arguments of a model that have a name of their own on the command line, and where their classes are."""


class ModelParser(OneLineErrors, LightningArgumentParser):
    """A parser of what a model of a kind and its data are made of.

    YAML may say the classes, ``model: {class_path: …, init_args: {…}}``, or their arguments alone.

    Attributes:
        kind: Of the model.
        first_arguments: What is read before the command line.
        of_others: Settings of other commands: YAML may have them, and they have no effect.
    """

    kind: Kind = DENSE
    first_arguments: tuple[str, ...] = ()
    of_others: tuple[str, ...] = ()

    def parse_args(self, args: Any = None, *more: Any, **kwargs: Any) -> Any:
        """Parse a command line."""
        if isinstance(args, list):
            args = [*self.first_arguments, *args]
        return super().parse_args(args, *more, **kwargs)

    def parse_string(self, content: str, *more: Any, **kwargs: Any) -> Any:
        """Parse a configuration, whose classes are known already."""
        with suppress(yaml.YAMLError):  # what is wrong with it is said below
            config = get_loader("yaml")(content)
            if isinstance(config, dict):
                changed = {name: x for name, x in config.items() if name not in self.of_others}
                changed |= {name: _arguments_of(config[name]) for name in GROUPS if name in config}
                content = content if changed == config else yaml.safe_dump(changed, sort_keys=False)
        return super().parse_string(content, *more, **kwargs)

    def dump(self, namespace: Namespace, format: str = "parser_mode", **kwargs: Any) -> str:
        """A configuration as text; as YAML of another kind than the default it says the classes."""
        text: str = super().dump(namespace, format, **kwargs)
        if format != "parser_mode" or self.kind.is_default:
            return text
        header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
        config = get_loader("yaml")(text)
        for group, path in self.kind.class_paths.items():
            config[group] = {"class_path": path, "init_args": config[group]}
        return header + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)

    def plain(self, config: Namespace) -> dict[str, Any]:
        """The arguments of the model and of the data, by group, as plain values."""
        content = json.loads(self.dump(config, format="json", skip_none=False, skip_validation=True))
        plain: dict[str, Any] = {group: content[group] for group in GROUPS}
        plain["model"] |= {name: content[name] for name in OF_OPTIMIZATION if name in content}
        plain["data"] = with_new_names(plain["data"])
        given = plain["data"]["algorithms"]
        given = given if isinstance(given, list) else [given]
        plain["data"]["algorithms"] = list(ALGORITHMS) if given == ["all"] else given
        return plain

    def made(self, config: Namespace) -> Namespace:
        """What a configuration describes, the model and its data among it.

        Raises:
            UserError: If the model has something by algorithm, of one that there is not.
        """
        made: Namespace = self.instantiate(config)
        if self.kind is DENSE:
            check_names("num_processor_steps", made.model.model.num_processor_steps, made.data.algorithms)
        return made


def _arguments_of(settings: Any) -> Any:
    """The arguments of a class of which also the class may be said."""
    if not isinstance(settings, Mapping) or not {"class_path", "init_args"} & settings.keys():
        return settings
    others = {name: value for name, value in settings.items() if name not in ("class_path", "init_args")}
    arguments = settings.get("init_args") or {}
    return {**others, **arguments} if isinstance(arguments, Mapping) else arguments


def model_parser(kind: Kind, command: str, description: str, usage: str = "", **kwargs: Any) -> ModelParser:
    """A parser for a command about models of a kind, which takes configurations and nothing else yet."""
    others = "" if command == "convert" else f"; nar {command} --model LanguageReasoner --help, those of another model"
    parser = ModelParser(
        prog=f"nar {command}",
        usage=usage or f"nar {command} [--config FILE] [flags]",
        description=description,
        epilog=f"nar {command} --model.processor.help PGN shows the arguments of a processor{others}.",
        **kwargs,
    )
    parser.kind, parser.first_arguments = kind, kind.first_arguments
    parser.add_argument(
        "-c", "--config", action=ActionConfigFile, help="A YAML file of settings; may be repeated. Flags count more."
    )
    return parser


def add_model_arguments(parser: ModelParser) -> None:
    """Have a parser take the arguments of the data and of the model."""
    model, data = parser.kind.classes()
    parser.add_lightning_class_args(data, "data")
    parser.add_lightning_class_args(model, "model")
    for name in parser.kind.links:
        parser.link_arguments("data", f"model.{name}", attrgetter(name), apply_on="instantiate")
    if parser.kind.takes_optimizers:
        parser.add_optimizer_args((Optimizer,))
        parser.add_lr_scheduler_args((LRScheduler,))
        for name in OF_OPTIMIZATION:
            parser.link_arguments(name, f"model.{name}", _as_plain)


def _as_plain(given: Namespace | None) -> dict[str, Any] | None:
    """What is configured of a class as plain values."""
    return None if given is None else given.as_dict()


def parsed(parser: ModelParser, args: Sequence[str]) -> Namespace:
    """The settings that a command line gives, if what can be told without making anything is right.

    Raises:
        UserError: If it is not.
    """
    try:
        with refusing():
            config: Namespace = parser.parse_args([*args])
            check_values(config.as_dict())
            _check_nulls("", config.as_dict())
            if "seed_everything" in config:
                check_seed(config.seed_everything)
            if "trainer" in config:
                check_trainer(config.trainer)
            check_algorithms(config.data.algorithms)
    except UserError as error:
        raise UserError(with_hints(str(error), parser)) from error
    return config


def with_hints(message: str, parser: ModelParser) -> str:
    """An error of a parser, with flags as a user types them, and with what may have been meant."""
    for flag in parser.flags():
        message = message.replace(flag[:2] + flag[2:].replace("-", "_"), flag)
    parameters = {name for kind in (Processor, Noise, Algorithm) for name in parameters_below(kind)}
    message = with_flag(message, parser.flags(), parameters)
    if message.startswith(f"--model.processor: expected {CLASS}"):
        names, given = parser.kind.processors(), message.rpartition("given ")[2]
        own = "or the import path of a subclass of nar.processor.Processor"
        message += f"{meant(given, names)} (known processors: {', '.join(names)}; {own})"
    for name, modules in OF_OPTIMIZATION.items():
        if message.startswith(f"--{name}: expected {CLASS}"):
            message += f" (known are those of {modules})"
    return message


def _check_nulls(name: str, given: Any) -> None:
    """Raise a :class:`UserError` if the argument of a class is null and cannot be: the parser takes it for not given.

    Args:
        name: Of the setting, as a flag has it without its dashes.
        given: Its value as plain values.
    """
    if isinstance(given, list):
        for value in given:
            _check_nulls(name, value)
    if not isinstance(given, dict):
        return
    if "class_path" not in given:
        for key, value in given.items():
            _check_nulls(f"{name}.{key}".lstrip("."), value)
        return
    path, _, of_class = given["class_path"].rpartition(".")
    arguments = given.get("init_args", {})
    for argument, value in arguments.items():
        _check_nulls(f"{name}.{argument}", value)
        if value is None:
            parser = ModelParser()
            kind = getattr(import_module(path), of_class)
            others = {*arguments, *inspect.signature(kind).parameters} - {argument}  # some are given by others
            parser.add_class_arguments(kind, name, skip=others, sub_configs=True)
            parser.parse_args([f"--{name}.{argument}", "null"])


def make(parser: ModelParser, config: Namespace) -> tuple[Any, Any]:
    """The model and the data of settings; the model has random weights.

    Raises:
        UserError: With what a constructor says of its arguments.
    """
    with refusing(), Room(copies=1):
        made = parser.made(config)
    made.model.made_from = made.data.made_from = parser.plain(config)
    return made.model, made.data


def give_weights(model: Any, path: str, checkpoint: Mapping[str, Any]) -> None:
    """Give a model the weights of a checkpoint, in its own precision, and what else was changed in it."""
    with making_model_of(path):
        restore_changes(model, {"changed": config_of(checkpoint).get("changed", {})})
    load_weights(model, checkpoint["state_dict"], path)
