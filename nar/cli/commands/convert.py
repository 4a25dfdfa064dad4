"""``nar convert``: weights of dm-clrs as a checkpoint, or back."""

from nar.cli import startup  # noqa: F401 (before all that imports Lightning)

# isort: split
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from nar.cli.agreement import parsed_over
from nar.cli.kinds import DENSE
from nar.cli.models import OF_TRAINING, ModelParser, add_model_arguments, give_weights, make, model_parser, parsed
from nar.cli.settings import check_given
from nar.errors import UserError
from nar.files import replacing
from nar.training.checkpoint import read_checkpoint, write_checkpoint
from nar.training.haiku import from_haiku, read_pickle, to_haiku, write_pickle

USAGE = """nar convert --from-haiku best.pkl --config scripts/configs/clrs30.yaml --out model.ckpt
       nar convert --to-haiku best.pkl --ckpt_path model.ckpt"""
ABOUT = """Turn weights that dm-clrs saved into a checkpoint (--from-haiku), or a checkpoint into weights that dm-clrs
restores (--to-haiku). The weights do not tell the model: with --from-haiku it is configured as for `nar fit`, by
--config and by flags. The order of data.algorithms is that of the algorithms in dm-clrs's model. What a configuration
says of the trainer has no effect."""


def make_parser() -> ModelParser:
    """The parser of ``nar convert``."""
    parser = model_parser(DENSE, "convert", ABOUT, USAGE)
    parser.of_others = (*OF_TRAINING, "ckpt_path")
    parser.add_argument("--from-haiku", type=str | None, help="The file to read, which dm-clrs saved.")
    parser.add_argument("--out", type=str | None, help="The checkpoint to write, with --from-haiku.")
    parser.add_argument("--to-haiku", type=str | None, help="The file to write, for dm-clrs to restore.")
    parser.add_argument("--ckpt_path", type=str | None, help="The checkpoint to read, with --to-haiku.")
    add_model_arguments(parser)
    return parser


def _check_direction(given: Namespace) -> None:
    """Raise a :class:`UserError` unless one direction is asked for, with what it needs and nothing else."""
    if (given.from_haiku is None) == (given.to_haiku is None):
        number = "neither" if given.from_haiku is None else "both"
        raise UserError(f"nar convert expects one of --from-haiku and --to-haiku, given {number}")
    flag, needed, excess = "--from-haiku", "out", "ckpt_path"
    if given.from_haiku is None:
        flag, needed, excess = "--to-haiku", excess, needed
    if given[needed] is None:
        raise UserError(f"nar convert {flag} needs a checkpoint: --{needed} model.ckpt")
    if given[excess] is not None:
        raise UserError(f"nar convert {flag} expects --{needed} and no --{excess}, given {given[excess]}")


def _check_places(source: str, target: str) -> None:
    """Raise a :class:`UserError` if a file would be read and written."""
    if Path(source).resolve() == Path(target).resolve():
        raise UserError(f"nar convert expects two different files, given {target} to read and to write")


def run(args: Sequence[str]) -> None:
    """Run ``nar convert``.

    Raises:
        UserError: If it cannot be done.
    """
    check_given(args)
    parser = make_parser()
    config = parsed(parser, args)
    _check_direction(config)
    if config.from_haiku is not None:
        _check_places(config.from_haiku, config.out)
        model, data = make(parser, config)
        model.model.load_state_dict(from_haiku(read_pickle(config.from_haiku), model.model))
        with replacing(config.out) as file:
            write_checkpoint(file, model, data)
        print(f"written: {config.out}")
        return
    _check_places(config.ckpt_path, config.to_haiku)
    checkpoint = read_checkpoint(config.ckpt_path)
    config = parsed_over(parser, args, config.ckpt_path, checkpoint, resumes=False)
    model, _ = make(parser, config)
    give_weights(model, config.ckpt_path, checkpoint)
    with replacing(config.to_haiku) as file:
        write_pickle(file, to_haiku(model.model))
    print(f"written: {config.to_haiku}")
