"""``nar compare``: two checkpoints on the same instances, and which differences are more than chance."""

from nar.cli import startup  # noqa: F401 (before all that imports Lightning)

# isort: split
from collections.abc import Sequence
from pathlib import Path

from nar.cli.commands.evaluate import add_settings, evaluated
from nar.cli.parser import Parser
from nar.cli.settings import check_yaml
from nar.errors import UserError
from nar.evaluation.compare import compare, markdown
from nar.evaluation.run import found
from nar.files import replacing_text

USAGE = "nar compare A.ckpt B.ckpt [--sizes 16 32 64] [--num_samples 1000]"
ABOUT = """Score two checkpoints on the same instances, and say at which algorithms and sizes they differ by more than
chance, and by which test. What nar evaluate has kept in --out is not computed again."""


def make_parser() -> Parser:
    """The parser of ``nar compare``."""
    parser = Parser(prog="nar compare", usage=USAGE, description=ABOUT)
    parser.add_argument("first", type=str, help="A file, a folder or a name.")
    parser.add_argument("second", type=str, help="Another.")
    add_settings(parser)
    return parser


def run(args: Sequence[str]) -> None:
    """Run ``nar compare``.

    Raises:
        UserError: If it cannot be done.
    """
    check_yaml(args)
    given = make_parser().parsed(args)
    first, second = (_only(checkpoint) for checkpoint in (given.first, given.second))
    if first == second:
        raise UserError(f"nar compare expects two checkpoints, given {first} twice")
    out, evaluation = Path(given.out), evaluated([first, second], given)
    text = "\n".join(markdown(compare(evaluation, first, second), first, second))
    with replacing_text(out / "comparison.md") as file:
        file.write(text + "\n")
    print(text)
    print(f"written: {out / 'comparison.md'}")


def _only(given: str) -> str:
    """The one checkpoint that an argument stands for."""
    paths = found([given])
    if len(paths) > 1:
        raise UserError(f"nar compare expects two checkpoints, given {given} with {len(paths)}")
    return paths[0]
