"""``nar view``: a page that shows, step by step, where a model parts from the algorithm."""

from nar.cli import startup  # noqa: F401 (before all that imports Lightning)

# isort: split
from collections.abc import Sequence

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from nar.cli.parser import Parser
from nar.cli.settings import check_given
from nar.errors import UserError
from nar.training.reasoner import Reasoner
from nar.viewer import show

USAGE = "nar view --ckpt_path runs/quickstart/best.ckpt [--num_nodes 64 --out view.html]"
ABOUT = """Write a page that shows, step by step, what a model predicts beside what the algorithm does: a file that any
browser opens, and that needs neither a server nor a network."""


def make_parser() -> Parser:
    """The parser of ``nar view``."""
    parser = Parser(prog="nar view", usage=USAGE, description=ABOUT)
    parser.add_argument("--ckpt_path", type=str | None, help="A checkpoint, a folder or a name of nar list.")
    parser.add_argument("--algorithm", type=str | None, help="Which to show; the model's first if not given.")
    parser.add_argument("--num_nodes", type=PositiveInt, default=16, help="The size of the instance.")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="Draws the instance.")
    parser.add_argument("--out", type=str, default="view.html", help="The file to write.")
    return parser


def parsed(args: Sequence[str]) -> Namespace:
    """The settings that a command line gives."""
    config = make_parser().parsed(args)
    if config.ckpt_path is None:
        raise UserError("nar view needs a checkpoint: --ckpt_path runs/quickstart/best.ckpt")
    return config


def run(args: Sequence[str]) -> None:
    """Run ``nar view``.

    Raises:
        UserError: If the checkpoint is of another kind, or its model does not know the algorithm, or the size is none
            of it, or the file cannot be written.
    """
    check_given(args)
    given = parsed(args)
    reasoner = Reasoner.from_pretrained(given.ckpt_path)
    algorithm = next(iter(reasoner.specs)) if given.algorithm is None else given.algorithm
    page = show(reasoner, algorithm, num_nodes=given.num_nodes, seed=given.seed)
    print(f"written: {page.save(given.out)}")
