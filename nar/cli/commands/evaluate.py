"""``nar evaluate``: checkpoints at many sizes and on families of graphs, with intervals, tables and a picture."""

from nar.cli import startup  # noqa: F401 (before all that imports Lightning)

# isort: split
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from nar.cli.parser import Parser
from nar.cli.settings import check_yaml
from nar.evaluation.run import FAMILY_OF_DM_CLRS, Evaluation, evaluate
from nar.ops.process import tune_process

USAGE = "nar evaluate CHECKPOINT... [--sizes 16 32 64 128] [--families dm-clrs watts_strogatz] [--hints true]"
ABOUT = """Score checkpoints (files, folders of nar sweep, or reasoners that come with nar) at many sizes and on
families of graphs: scores of CLRS-30 with intervals over instances, the share of instances without any error, hints
along time. What is known is kept: the same command goes on where it was ended, and computes nothing twice."""


def add_settings(parser: Parser) -> None:
    """Add what is to be evaluated, and where it is kept."""
    parser.add_argument("--out", type=str, default="evaluation", help="The folder to write.")
    parser.add_argument("--sizes", type=PositiveInt, nargs="+", default=[16, 32, 64], help="Numbers of nodes.")
    parser.add_argument("--algorithms", type=str, nargs="+", help="Of those that the checkpoints know; all by default.")
    parser.add_argument(
        "--families",
        type=str,
        nargs="+",
        default=[FAMILY_OF_DM_CLRS],
        help="Families of graphs, such as watts_strogatz, for algorithms on graphs; dm-clrs: official test splits.",
    )
    parser.add_argument(
        "--num_samples", type=PositiveInt | None, help="Instances of each; the official number by default."
    )
    parser.add_argument("--hints", type=bool, default=False, help="Score hints too, which takes memory at large sizes.")
    parser.add_argument("--cache_dir", type=str, default="~/.cache/nar", help="The folder of the cache of splits.")
    parser.add_argument("--device", type=str | None, help="Such as cuda or cpu; a GPU if there is one by default.")


def evaluated(checkpoints: Sequence[str], given: Namespace) -> Evaluation:
    """The evaluation of checkpoints by the settings of a command line."""
    tune_process()
    return evaluate(
        checkpoints,
        given.out,
        sizes=given.sizes,
        algorithms=given.algorithms,
        families=given.families,
        num_samples=given.num_samples,
        with_hints=given.hints,
        cache_dir=given.cache_dir,
        device=given.device,
    )


def make_parser() -> Parser:
    """The parser of ``nar evaluate``."""
    parser = Parser(prog="nar evaluate", usage=USAGE, description=ABOUT)
    parser.add_argument("checkpoints", type=str, nargs="+", help="Files, folders or names.")
    add_settings(parser)
    return parser


def run(args: Sequence[str]) -> None:
    """Run ``nar evaluate``.

    Raises:
        UserError: If it cannot be done.
    """
    check_yaml(args)
    given = make_parser().parsed(args)
    out, evaluation = Path(given.out), evaluated(given.checkpoints, given)
    from nar.evaluation.report import write_report  # here, as matplotlib takes long to be imported

    paths = write_report(evaluation, out)
    print((out / "table.md").read_text("utf-8"))
    print(f"written: {', '.join(map(str, paths))}")
