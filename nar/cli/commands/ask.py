"""``nar ask``: what a language model answers to prompts of CLRS-Text, and where it is wrong."""

from nar.cli import startup  # noqa: F401 (before all that imports Lightning)

# isort: split
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from nar.cli.kinds import TEXT
from nar.cli.parser import Parser
from nar.cli.settings import check_given
from nar.datasets import ALGORITHMS
from nar.errors import UserError, one_line
from nar.training.checkpoint import config_of, read_checkpoint

ABOUT = "Have a model of nar fit answer prompts of CLRS-Text, and show where it and its reasoner alone are wrong."


def make_parser() -> Parser:
    """The parser of ``nar ask``."""
    parser = Parser(prog="nar ask", usage="nar ask --ckpt_path runs/transnar/best.ckpt [flags]", description=ABOUT)
    parser.add_argument("--ckpt_path", type=str | None, help="The checkpoint to read, of nar fit.")
    parser.add_argument(
        "--text", type=str | None, help="A prompt of your own, or a file of one, in place of drawn ones."
    )
    parser.add_argument("--algorithm", type=str | None, help="Which to ask about; the model's first if not given.")
    parser.add_argument("--num_nodes", type=PositiveInt, default=10, help="The size of instances.")
    parser.add_argument("--seed", type=NonNegativeInt, default=1, help="Of the instances.")
    parser.add_argument("--number", type=PositiveInt, default=1, help="How many texts to ask.")
    return parser


def parsed(args: Sequence[str]) -> Namespace:
    """The settings that a command line gives."""
    config = make_parser().parsed(args)
    if config.ckpt_path is None:
        raise UserError("nar ask needs a checkpoint: --ckpt_path runs/transnar/best.ckpt")
    if config.text is not None and config.algorithm is not None:
        raise UserError("expected --text or --algorithm, as a text says its algorithm, given both")
    return config


def _prompt_of(text: str) -> str:
    """A prompt of three lines: the text itself, or that of a file; line breaks at its end do not matter.

    Raises:
        UserError: If it is a file that cannot be read.
    """
    if "\n" not in text and Path(text).is_file():
        try:
            text = Path(text).read_text("utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {text}: {one_line(error)}") from error
    return f"{text.rstrip()}\n"


def run(args: Sequence[str]) -> None:
    """Run ``nar ask``.

    Raises:
        UserError: If the checkpoint is of another kind, or its model does not know the algorithm, or the size is not
            one of it, or a text of one's own is no prompt, or transformers is not installed.
    """
    check_given(args)
    given = parsed(args)
    TEXT.classes()  # says what has to be installed
    from nar.cli import answers
    from nar.datasets.text import text_sample, text_samples
    from nar.datasets.text.stream import DECIMALS
    from nar.hybrid.module import LanguageReasoner
    from nar.hybrid.saving import refused

    checkpoint = read_checkpoint(given.ckpt_path)
    module = LanguageReasoner.of_checkpoint(checkpoint, given.ckpt_path)
    model, tokenizer = module.model.eval(), module.tokenizer
    with refused(given.ckpt_path):
        data = config_of(checkpoint)["data"]
        hints, algorithm = bool(data["hints"]), str(data["algorithms"][0])
        decimals = int(data.get("decimals", DECIMALS))
    own = None if given.text is None else text_sample(_prompt_of(given.text))
    algorithm = own.algorithm if own else given.algorithm or algorithm
    if model.reasoner is not None and algorithm in ALGORITHMS and algorithm not in model.reasoner.heads:
        raise UserError(f"expected an algorithm of the reasoner ({', '.join(model.reasoner.heads)}), given {algorithm}")
    drawn = {"num_nodes": given.num_nodes, "num_samples": given.number, "seed": given.seed}
    texts = [own] if own else text_samples(algorithm, **drawn, hints=hints, truncate_decimals=decimals)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    try:
        answers.show(model, tokenizer, texts)
    except ValueError as error:
        raise UserError(str(error)) from error
