"""Instances from files, and answers as JSON."""

import csv
import json
import math
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

from nar.datasets.engine.arguments import shown
from nar.errors import UserError, one_line
from nar.files import check_file
from nar.inference.answers import Answer
from nar.inference.graph_answers import ShortestPaths
from nar.inference.graphs import WEIGHT


def read_data(path: str | Path, weight: str | None = WEIGHT) -> Any:
    """What a file holds, as :func:`nar.inference.run` takes it.

    A graph of networkx from GraphML, GML, a list of edges (``u v`` or ``u v weight`` a line) or the node-link form of
    JSON; lists, numbers, strings or names and their values from other JSON; from CSV a list of numbers, or of rows of
    them, by name if the first column holds names.

    Args:
        path: Of the file: ``.graphml``, ``.gml``, ``.edgelist`` or ``.edges``, ``.json`` or ``.csv``.
        weight: What the third column of a list of edges is called.

    Raises:
        UserError: If there is no such file, or it is of another form.
    """
    path = Path(path)
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"expected a file with the ending {', '.join(READERS)}; given {path}")
    try:
        check_file(path)
        return read(path, weight)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # whatever a reader makes of a file of another form
        raise UserError(f"{path} is no {path.suffix.lower()[1:]} that can be read: {one_line(error)}") from error


def _graphml(path: Path, weight: str | None) -> Any:
    import networkx

    return networkx.read_graphml(path)


def _gml(path: Path, weight: str | None) -> Any:
    import networkx

    return networkx.read_gml(path)


def _edges(path: Path, weight: str | None) -> Any:
    import networkx

    graph = networkx.Graph()
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        parts = line.partition("#")[0].replace(",", " ").split()
        if not parts:
            continue
        if len(parts) not in (2, 3):
            raise UserError(f"expected two nodes and a weight or none in line {number} of {path}, given {shown(line)}")
        if graph.has_edge(*parts[:2]):
            raise UserError(f"line {number} of {path} has the edge {parts[0]} {parts[1]} once more")
        graph.add_edge(*parts[:2], **({weight or WEIGHT: _number(parts[2])} if len(parts) == 3 else {}))
    return graph


def _json(path: Path, weight: str | None) -> Any:
    data = json.loads(path.read_text("utf-8"))
    if isinstance(data, Mapping) and "nodes" in data and ("edges" in data or "links" in data):
        import networkx

        return networkx.node_link_graph(dict(data), edges="edges" if "edges" in data else "links")
    return data


def _csv(path: Path, weight: str | None) -> Any:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(cell.strip() for cell in row)]
    if not rows:
        raise UserError(f"expected numbers in {path}, given none")
    if any(_is_word(cell) for cell in rows[0][1:]) and not any(_is_word(cell) for row in rows[1:] for cell in row[1:]):
        rows = rows[1:]  # what the columns are called
    if len({len(row) for row in rows}) > 1:
        raise UserError(f"expected rows of one length in {path}, given {sorted({len(row) for row in rows})}")
    if len(rows) == 1:
        return [_number(cell) for cell in rows[0]]
    if any(_is_word(row[0]) for row in rows):
        named = {row[0]: [_number(cell) for cell in row[1:]] for row in rows}
        if len(named) < len(rows):
            raise UserError(f"expected names that differ in the first column of {path}")
        return {name: values[0] if len(values) == 1 else values for name, values in named.items()}
    numbers = [[_number(cell) for cell in row] for row in rows]
    return [row[0] for row in numbers] if len(rows[0]) == 1 else numbers


def _is_word(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return True
    return False


def _number(text: str) -> float | int:
    try:
        number = float(text)
    except ValueError as error:
        raise UserError(f"expected a number, given {shown(text)}") from error
    return int(number) if number.is_integer() and "." not in text and abs(number) < 2**53 else number


READERS: Mapping[str, Callable[[Path, str | None], Any]] = {
    ".graphml": _graphml,
    ".gml": _gml,
    ".edgelist": _edges,
    ".edges": _edges,
    ".json": _json,
    ".csv": _csv,
}
"""What reads a file, by the ending of its name."""


def node_called(name: str, data: Any) -> Hashable:
    """The node of a graph that a text names: the text itself, or another name that is written so.

    Where there is none, or no names are known, the number that is written so, or the text.
    """
    nodes = list(getattr(data, "nodes", ()))
    if name in nodes:
        return name
    same = [node for node in nodes if str(node) == name]
    if same:
        return same[0]  # type: ignore[no-any-return]
    return name if nodes or _is_word(name) else _number(name)


def as_json(answer: Answer) -> dict[str, Any]:
    """An answer as plain values, with names as texts: its own form, the outputs and how sure the model is of them."""
    check = answer.check()
    form = {
        name: _plain(getattr(answer, name))
        for name in dir(type(answer))
        if not name.startswith("_")
        and not hasattr(Answer, name)
        and not callable(getattr(type(answer), name))
        and name != "weights"
    }
    if isinstance(answer, ShortestPaths):
        reached = [name for name, length in answer.distances.items() if math.isfinite(length)]
        form["paths"] = {str(name): _plain(answer.path(name)) for name in reached}
    return {
        "algorithm": answer.algorithm,
        **form,
        "outputs": _plain(answer.outputs),
        "confidence": _plain(answer.confidence),
        "num_steps": answer.num_steps,
        "stopped_by": answer.stopped_by,
        "scale": answer.scale,
        "notes": list(answer.notes),
        "check": {"right": check.right, "same": check.same, "entries": _plain(check.entries), "why": check.why},
    }


def _plain(value: Any) -> Any:
    """A value as JSON has it: pairs of nodes as ``u -> v``, sets as lists, what is not finite as None."""
    if isinstance(value, Mapping):
        return {_key(name): _plain(item) for name, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.item() if hasattr(value, "item") else str(value)


def _key(name: Any) -> str:
    return " -> ".join(map(str, name)) if isinstance(name, tuple) and len(name) == 2 else str(name)
