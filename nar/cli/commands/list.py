"""``nar list``: the reasoners that come with the library."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from nar.cli.parser import Parser
from nar.training.folders import list_pretrained

ABOUT = """List the reasoners that come with nar, which Reasoner.from_pretrained, nar test --ckpt_path, nar evaluate and
nar run take by name, with their scores on test splits in per cent."""


def make_parser() -> Parser:
    """The parser of ``nar list``."""
    return Parser(prog="nar list", description=ABOUT)


def run(args: Sequence[str]) -> None:
    """Run ``nar list``.

    Raises:
        UserError: If it is given arguments.
    """
    make_parser().parsed(args)
    shipped = list_pretrained()
    sizes = sorted({int(size) for facts in shipped.values() for size in facts.get("scores", {})})
    table = Table(title="reasoners that come with nar")
    for column in ("name", "steps", *(f"n = {size}" for size in sizes)):
        table.add_column(column, justify="left" if column == "name" else "right")
    for name, facts in shipped.items():
        scores = {int(size): found["score"] for size, found in facts.get("scores", {}).items()}
        cells = (f"{100 * scores[size]:.1f}" if size in scores else "" for size in sizes)
        table.add_row(name, str(facts.get("steps", "")), *cells)
    console = Console()
    if not console.is_terminal:
        console.width = 120  # no line is broken that another program may read
    console.print(table)
