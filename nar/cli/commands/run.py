"""``nar run``: a trained model on a graph, keys, strings or points from a file."""

from nar.cli import startup  # noqa: F401 (before all that imports Lightning)

# isort: split
import json
from collections.abc import Sequence
from typing import Any

from nar.cli.parser import Parser
from nar.cli.settings import check_yaml
from nar.errors import UserError
from nar.files import replacing_text
from nar.inference import Answer
from nar.inference.data_files import as_json, node_called, read_data
from nar.inference.reasoning import run as answer_of
from nar.ops.process import tune_process
from nar.training.reasoner import Reasoner

USAGE = "nar run dijkstra graph.graphml --source a [--weight length] [--out answer.json]"
ABOUT = """Run a trained reasoner (a name of nar list, a checkpoint, a folder or a name of the Hub) on data of your own:
a graph (.graphml, .gml, .edgelist, .json), or numbers, points and strings (.json, .csv). Its answer is printed beside
that of the classical algorithm, and written as JSON."""
_MOST_LINES = 40


def make_parser() -> Parser:
    """The parser of ``nar run``."""
    parser = Parser(prog="nar run", usage=USAGE, description=ABOUT)
    parser.add_argument("reasoner", type=str, help="A name, a checkpoint or a folder.")
    parser.add_argument("file", type=str, help="The data.")
    parser.add_argument("--algorithm", type=str | None, help="Which one, of a reasoner that knows several.")
    parser.add_argument("--source", type=str | None, help="The node that a graph algorithm starts from.")
    parser.add_argument("--target", type=float | None, help="What binary search looks for.")
    parser.add_argument("--needle", type=str | None, help="What a string matcher looks for.")
    parser.add_argument("--weight", type=str, default="weight", help="The attribute of edges that is their weight.")
    parser.add_argument("--unweighted", type=bool, default=False, help="Whether all edges weigh 1.")
    parser.add_argument("--steps", type=int | str, default="auto", help="A number, auto, or classical (see the docs).")
    parser.add_argument("--out", type=str, default="answer.json", help="The file to write.")
    return parser


def run(args: Sequence[str]) -> None:
    """Run ``nar run``.

    Raises:
        UserError: If it cannot be done.
    """
    check_yaml(args)
    given = make_parser().parsed(args)
    tune_process()
    data = read_data(given.file, given.weight)
    reasoner = Reasoner.from_pretrained(given.reasoner)
    named = [] if given.algorithm is None else [given.algorithm]
    try:
        answer = answer_of(
            reasoner,
            *named,
            data,
            source=None if given.source is None else node_called(given.source, data),
            target=given.target,
            needle=given.needle,
            weight=None if given.unweighted else given.weight,
            steps=given.steps,
        )
    except UserError as error:  # which tells of Python's arguments
        message = str(error).replace("weight=...", "--weight ...").replace("weight=None", "--unweighted true")
        raise UserError(message) from error
    if not isinstance(answer, Answer):
        raise UserError(f"nar run takes one instance, given {len(answer)} in {given.file}")
    told = as_json(answer)
    with replacing_text(given.out) as file:
        file.write(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    print(answer)
    for name in told:
        if name in ("algorithm", "outputs"):
            continue
        if name == "num_steps":
            break
        if name != "confidence":
            show(name, told[name])
    for note in answer.notes:
        print(f"note: {note}")
    print(f"check: {answer.check()}")
    print(f"written: {given.out}")


def show(name: str, value: Any) -> None:
    """Print a part of an answer, a line for each of its entries, as far as a screen holds them."""
    if not isinstance(value, dict):
        print(f"{name}: {value}")
        return
    print(f"{name}:")
    for place, (key, entry) in enumerate(value.items()):
        if place == _MOST_LINES:
            print(f"  … and {len(value) - _MOST_LINES} more in the file")
            break
        print(f"  {key}: {entry}")
