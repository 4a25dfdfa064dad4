"""What a command line and the checkpoint that it names have to agree on."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from jsonargparse import Namespace

from nar.cli.kinds import GROUPS, KINDS
from nar.cli.models import OF_OPTIMIZATION, ModelParser, parsed
from nar.configuration import check_plain
from nar.errors import UserError, one_line
from nar.training.checkpoint import TO_GO_ON, config_of, holds_weights_only, kind_of, run_of

_KEPT_OF_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
_OF_EVALUATION = "_in_evaluation"  # how the names of a processor's arguments end that are free then


def parsed_over(
    parser: ModelParser, args: Sequence[str], path: str, checkpoint: Mapping[str, Any], *, resumes: bool
) -> Namespace:
    """The settings of a command line, where those that it does not give are the checkpoint's.

    Args:
        parser: Of the command.
        args: The command line.
        path: Of the checkpoint.
        checkpoint: What it holds.
        resumes: Whether training goes on from it.

    Raises:
        UserError: If they are settings of another model, or training cannot go on from the checkpoint.
    """
    if resumes:
        check_whole(path, checkpoint)
    written = config_of(checkpoint)
    if kind_of(written) != parser.kind.name:
        theirs, ours = KINDS[kind_of(written)].class_paths, parser.kind.class_paths
        raise UserError(f"{path} is a checkpoint of a {theirs['model']}: expected one of a {ours['model']}")
    parser.first_arguments = ()
    try:
        check_plain({group: written[group] for group in GROUPS})
        defaults = {f"{group}.{name}": value for group in GROUPS for name, value in written[group].items()}
        others = {name: defaults.pop(f"model.{name}", None) for name in OF_OPTIMIZATION}
        parser.set_defaults({**defaults, **{name: value for name, value in others.items() if value}})
        as_written = parser.plain(parser.parse_args([]))
    except Exception as error:  # whatever a parser makes of what is no setting
        raise UserError(f"{path} was made with settings that are refused: {one_line(error)}") from error
    if resumes:
        parser.set_defaults(_settings_to_keep(checkpoint))
    config = parsed(parser, args)
    config.ckpt_path = path
    in_order = resumes and not is_named(checkpoint)
    compare(parser, path, parser.plain(config), as_written, resumes=resumes, in_order=in_order)
    return config


def check_whole(path: str, checkpoint: Mapping[str, Any]) -> None:
    """Raise a :class:`UserError` unless a checkpoint has all that training goes on from."""
    if holds_weights_only(checkpoint):
        raise UserError(f"{path} holds weights alone, from which no training can go on; expected one of nar fit")
    missing = [name for name in TO_GO_ON if name not in checkpoint]
    if missing:
        raise UserError(f"{path} has no {missing[0]}, without which no training can go on: it is damaged")


def compare(
    parser: ModelParser,
    path: str,
    asked: Mapping[str, Any],
    written: Mapping[str, Any],
    *,
    resumes: bool,
    in_order: bool,
) -> None:
    """Raise a :class:`UserError` if what was asked for is not what a checkpoint has.

    Args:
        parser: Of the command.
        path: Of the checkpoint.
        asked: The arguments of the model and of the data, as plain values.
        written: Those of the checkpoint.
        resumes: Whether training goes on from it.
        in_order: Whether the algorithms have to be in the same order.
    """
    ours, theirs = ([label(given) for given in config["data"]["algorithms"]] for config in (asked, written))
    if sorted(ours) != sorted(theirs) or (in_order and ours != theirs):
        raise UserError(f"{path} is a checkpoint for {theirs}, but the configuration asks for {ours}")
    free = () if resumes else parser.kind.free_in_evaluation
    names = [("model", name) for name in asked["model"] if name not in free]
    names += [("data", name) for name in parser.kind.kept_data if resumes and name in asked["data"]]
    for group, name in names:
        value, old = asked[group][name], written[group][name]
        if value != old and (resumes or _of_training(value) != _of_training(old)):
            raise UserError(f"{path} was made with {group}.{name} {old}, but the configuration asks for {value}")


def _settings_to_keep(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the checkpoint's run, which are those of a run that goes on unless it is told others."""
    run = run_of(checkpoint)
    kept = {f"trainer.{name}": run[name] for name in _KEPT_OF_TRAINER if run.get(name) is not None}
    seed = run.get("seed_everything")
    return kept if seed is None else {**kept, "seed_everything": seed}


def compare_run(path: str, checkpoint: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise a :class:`UserError` if a run that goes on would take other steps than before.

    Args:
        path: Of the checkpoint.
        checkpoint: What it holds.
        asked: The settings of the trainer and the seed (see :func:`nar.training.saving.run_settings`).
    """
    for name, old in run_of(checkpoint).items():
        if name in asked and old is not None and asked[name] != old:
            flag = name if name == "seed_everything" else f"trainer.{'devices' if name == 'world_size' else name}"
            raise UserError(f"{path} was made with {flag} {old}, but the configuration asks for {asked[name]}")


def label(algorithm: str | dict[str, Any]) -> str:
    """An algorithm's name as it is, a class as its instance is written in Python."""
    if not isinstance(algorithm, dict):
        return str(algorithm)
    args = {**algorithm.get("init_args", {}), **algorithm.get("dict_kwargs", {})}
    written = ", ".join(f"{name}={args[name]!r}" for name in sorted(args))
    return f"{algorithm['class_path']}({written})"


def is_named(checkpoint: Mapping[str, Any]) -> bool:
    """Whether the optimiser's state tells whose each part is; otherwise it is told by the order of the algorithms."""
    with suppress(KeyError, TypeError):
        states = checkpoint["optimizer_states"]
        return all("param_names" in group for state in states for group in state["param_groups"])
    return True  # what is wrong with it is said where training goes on


def _of_training(setting: Any) -> Any:
    """A setting without what a class has for evaluation alone."""
    if not isinstance(setting, dict) or "init_args" not in setting:
        return setting
    arguments = setting["init_args"].items()
    return {**setting, "init_args": {name: x for name, x in arguments if not name.endswith(_OF_EVALUATION)}}
