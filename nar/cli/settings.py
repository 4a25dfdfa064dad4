"""What is refused of settings before anything is made of them."""

import argparse
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from nar.errors import UserError

MOST_VALUES, MOST_LEVELS = 100_000, 50
"""How many values and levels a YAML text has at most, where aliases count as what they stand for."""
MOST_BYTES = 2**24
_YAML_FILES = (".yaml", ".yml", ".json")
_MOST_OF_A_SEED = 2**32 - 1
_PATHS = ("ckpt_path", "from_haiku", "out", "to_haiku", "trainer.default_root_dir")
_NO_LIMIT = math.inf
TRAINER: Mapping[str, tuple[float, float]] = {
    "accumulate_grad_batches": (1, _NO_LIMIT),
    "check_val_every_n_epoch": (1, _NO_LIMIT),
    "fast_dev_run": (0, _NO_LIMIT),
    "gradient_clip_val": (0, _NO_LIMIT),
    "limit_predict_batches": (0, _NO_LIMIT),
    "limit_test_batches": (0, _NO_LIMIT),
    "limit_train_batches": (0, _NO_LIMIT),
    "limit_val_batches": (0, _NO_LIMIT),
    "log_every_n_steps": (0, _NO_LIMIT),
    "max_epochs": (-1, _NO_LIMIT),
    "max_steps": (-1, _NO_LIMIT),
    "min_epochs": (0, _NO_LIMIT),
    "min_steps": (0, _NO_LIMIT),
    "num_nodes": (1, _NO_LIMIT),
    "num_sanity_val_steps": (-1, _NO_LIMIT),
    "overfit_batches": (0, _NO_LIMIT),
    "reload_dataloaders_every_n_epochs": (0, _NO_LIMIT),
    "val_check_interval": (0, _NO_LIMIT),
}
"""The least and the most that numbers of the trainer can be."""
_MORE_THAN_LEAST = ("val_check_interval",)
MOST_STEPS = 2**53
"""A count that is larger is no longer one as a float."""
GROUPS = ("model", "data", "trainer")
"""Names of settings that have settings of their own."""


def check_given(args: Sequence[str]) -> None:
    """Raise a :class:`UserError` if what a command line gives as YAML is none, or no settings by name."""
    check_yaml(args)
    for config in config_paths(args):
        _check_config(config, GROUPS)


def config_paths(args: Sequence[str]) -> list[str]:
    """What a command line gives as ``--config``."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    with suppress(argparse.ArgumentError):
        return list(parser.parse_known_args(args)[0].config)
    return []


def check_yaml(args: Sequence[str]) -> None:
    """Raise a :class:`UserError` if an argument, or a file that one names, is YAML that cannot be read, or that a few
    lines blow up beyond all measure.
    """
    for arg in args:
        for given in {arg, arg.partition("=")[2]}:
            if given.endswith(_YAML_FILES) and is_file(given):
                check_file(Path(given))
            elif "&" in given or given.count("[") + given.count("{") > MOST_LEVELS:
                _check_text(given, f"{given[:20]}…")


def is_file(path: str) -> bool:
    """Whether there is such a file; what no file can be called is none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def check_file(path: Path) -> None:
    """Raise a :class:`UserError` unless it is a file of YAML."""
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"expected a YAML file of at most {MOST_BYTES} bytes, given {path} of {path.stat().st_size}")
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"expected a YAML file in UTF-8, given {path}, which is not at byte {error.start}") from error
    _check_text(text, str(path))


def _check_text(text: str, name: str) -> None:
    """Raise a :class:`UserError` if YAML is broken, refers to itself, or has too many values or levels."""
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = [(None, 0)]
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            anchor, size = getattr(event, "anchor", None), 0
            match event:
                case yaml.AliasEvent():
                    if anchor in (of for of, _ in opened):
                        raise UserError(f"expected YAML that does not refer to itself, given {name}: *{anchor}")
                    anchor, size = None, sizes.get(str(anchor), 1)
                case yaml.ScalarEvent():
                    size = 1
                case yaml.CollectionStartEvent():
                    opened.append((anchor, 1))
                    continue
                case yaml.CollectionEndEvent():
                    anchor, size = opened.pop()
            if anchor is not None:
                sizes[anchor] = size
            outer, others = opened.pop()
            opened.append((outer, others + size))
            if len(opened) > MOST_LEVELS or others + size > MOST_VALUES:
                raise UserError(f"expected YAML of {MOST_VALUES} values on {MOST_LEVELS} levels at most, given {name}")
    except yaml.YAMLError as error:
        raise UserError(f"expected YAML, given {name}: {' '.join(str(error).split())}") from error


def _check_config(text_or_path: str, groups: Sequence[str]) -> None:
    """Raise a :class:`UserError` unless a configuration is a mapping, and so are its groups of settings.

    Args:
        text_or_path: As it was given; a file that there is not is not looked at.
        groups: The names of those that have settings of their own.
    """
    is_path = is_file(text_or_path)
    if os.path.isdir(text_or_path):
        raise UserError(f"expected a YAML file of settings, given the folder {text_or_path}")
    if is_path:
        check_file(Path(text_or_path))
    text = Path(text_or_path).read_text(encoding="utf-8") if is_path else text_or_path
    name = text_or_path if is_path else "--config"
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError:
        return
    if isinstance(config, str) and not is_path:  # the path of a file that is missing
        return
    if not isinstance(config, Mapping):
        raise UserError(f"expected settings by name in {name}, given {'nothing' if config is None else config!r}")
    for group in groups:
        if group in config and not isinstance(config[group], Mapping | str):
            raise UserError(f"expected settings by name as {group} in {name}, given {config[group]!r}")


def check_values(settings: Mapping[str, Any]) -> None:
    """Raise a :class:`UserError` if there is a number that is none, or a text that no file can be called."""
    for name, value in leaves(settings):
        if isinstance(value, float) and math.isnan(value):
            raise UserError(f"expected --{name} to be a number, given {value}")
        if isinstance(value, str) and ("\0" in value or not _is_utf8(value)):
            raise UserError(f"expected --{name} to be text in UTF-8 without a NUL character, given {value!a}")
        if isinstance(value, str) and name in _PATHS and not value.strip():
            raise UserError(f"expected --{name} to be a path, given {value!r}")


def leaves(given: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value among nested settings, with the name of the flag that sets it, without its dashes; names too."""
    if isinstance(given, Mapping):
        for key, value in given.items():
            yield name, key
            yield from leaves(value, name if key == "init_args" else f"{name}.{key}".lstrip("."))
    elif isinstance(given, list | tuple):
        for value in given:
            yield from leaves(value, name)
    else:
        yield name, given


def _is_utf8(text: str) -> bool:
    """Whether a text can be written in UTF-8; names of files in another encoding cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_seed(seed: Any) -> None:
    """Raise a :class:`UserError` unless all generators take it."""
    if not isinstance(seed, bool) and not 0 <= seed <= _MOST_OF_A_SEED:
        raise UserError(f"expected --seed_everything from 0 to {_MOST_OF_A_SEED}, or true or false, given {seed}")


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Raise a :class:`UserError` if a number of the trainer is not one that it can have."""
    for name, (least, most) in TRAINER.items():
        value = settings.get(name)
        if value == {}:  # a time of no length
            raise UserError(f"expected --trainer.{name} to be a number, or a time such as {{minutes: 10}}, given {{}}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if name in _MORE_THAN_LEAST and value == least:
            raise UserError(f"expected --trainer.{name} above {least}, given {value}")
        if not least <= value <= most or abs(value) > MOST_STEPS:
            limits = f"of at least {least}" if value < least else f"of at most {min(most, MOST_STEPS)}"
            raise UserError(f"expected --trainer.{name} {limits}, given {value}")
