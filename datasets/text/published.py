"""CLRS-Text in the form in which it is published: rows of text, question and answer, drawn, read and written.

Source: ``clrs/_src/clrs_text/huggingface_generators.py`` of dm-clrs 2.0.3, whose rows these are; the data sets
``tomg-group-umd/CLRS-Text-train`` and ``CLRS-Text-test`` of the Hugging Face Hub have the same columns.
"""

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypedDict

from nar.datasets.clrs30.samplers import check_size, known_algorithm
from nar.datasets.engine.arguments import check_sizes, check_whole, shown
from nar.datasets.text.format import TRACE
from nar.datasets.text.graphs import text_sample
from nar.datasets.text.stream import TRAIN_SIZES, TextSample, text_samples
from nar.errors import UserError, one_line
from nar.files import check_file, replacing, replacing_text

LINES, PARQUET = (".jsonl", ".json"), ".parquet"
_SIZE_IS_NOT_SAID = "segments_intersect"


class Row(TypedDict):
    """A text in the published columns.

    Attributes:
        text: Question and answer.
        question: The prompt.
        answer: The true answer, up to an empty line.
        algo_name: The algorithm.
        length: The size that was asked of its sampler.
        use_hints: Whether the answer begins with a trace.
    """

    text: str
    question: str
    answer: str
    algo_name: str
    length: int
    use_hints: bool


_KINDS: Mapping[str, type] = {"text": str, "question": str, "answer": str, "algo_name": str, "length": int}


def clrs_text_dataset(
    sizes: Mapping[str, Sequence[int]] = TRAIN_SIZES, num_samples: int = 1000, *, use_hints: bool = False, seed: int = 0
) -> list[Row]:
    """Texts on random inputs, in the published columns: to the letter the rows of dm-clrs's ``clrs_generator``.

    ``datasets.Dataset.from_list`` of Hugging Face makes a data set of them, and ``Trainer`` takes them as they are.

    Args:
        sizes: Sizes by algorithm; each text is of one of all these pairs, drawn evenly.
        num_samples: How many texts.
        use_hints: Whether answers begin with a trace.
        seed: Of pairs and inputs.

    Raises:
        UserError: If an algorithm is unknown or cannot be drawn at a size.
    """
    check_whole("num_samples", num_samples, at_least=0)
    pairs = [(name, size) for name, own in sizes.items() for size in check_sizes(f"sizes of {shown(name)}", own)]
    for name, size in pairs:
        check_size(known_algorithm(name), size)
    if not pairs:
        raise UserError(f"expected one or more algorithms, each with one or more sizes, given {shown(dict(sizes))}")
    choose = random.Random(seed).choice
    chosen = [choose(range(len(pairs))) for _ in range(num_samples)]
    drawn: dict[int, Iterator[TextSample]] = {
        pair: iter(_drawn(*pairs[pair], number, seed, use_hints)) for pair, number in Counter(chosen).items()
    }
    return [_row_of(next(drawn[pair]), use_hints=use_hints) for pair in chosen]


def _drawn(algorithm: str, num_nodes: int, number: int, seed: int, use_hints: bool) -> list[TextSample]:
    return text_samples(algorithm, num_nodes=num_nodes, num_samples=number, seed=seed, hints=use_hints)


def _row_of(sample: TextSample, *, use_hints: bool | None = None) -> Row:
    """A text in the published columns; whether hints were asked for is what its prompt says, unless it is given."""
    return Row(
        text=sample.prompt + sample.answer,
        question=sample.prompt,
        answer=sample.answer,
        algo_name=sample.algorithm,
        length=sample.num_nodes,
        use_hints=TRACE in sample.prompt if use_hints is None else use_hints,
    )


def samples_of(rows: Iterable[Mapping[str, Any]]) -> list[TextSample]:
    """Rows as texts with their graphs.

    Raises:
        UserError: With the number of the first row that is not as :func:`clrs_text_dataset` makes them.
    """
    return [_sample(number, row) for number, row in enumerate(rows, start=1)]


def _sample(number: int, row: Mapping[str, Any]) -> TextSample:
    _check_row(f"row {number}", row)
    try:
        sample = text_sample(row["question"], row["answer"])
    except UserError as error:
        raise UserError(f"row {number}: {error}") from error
    if row["algo_name"] != sample.algorithm:
        raise UserError(f"row {number}: expected algo_name {sample.algorithm}, given {shown(row['algo_name'])}")
    if row["length"] != sample.num_nodes and sample.algorithm != _SIZE_IS_NOT_SAID:
        raise UserError(
            f"row {number}: expected length {sample.num_nodes}, as many as in question, given {row['length']}"
        )
    return sample._replace(num_nodes=row["length"])


def _check_row(where: str, row: Any) -> None:
    """Raise a :class:`UserError` if it has not the columns."""
    for name, kind in _KINDS.items():
        if not isinstance(row, Mapping) or name not in row:
            given = ", ".join(map(str, row)) if isinstance(row, Mapping) else shown(row)
            raise UserError(f"{where}: expected the columns {', '.join(Row.__annotations__)}, given {given or 'none'}")
        if not isinstance(row[name], kind) or isinstance(row[name], bool):
            raise UserError(f"{where}: expected {name} as {kind.__name__}, given {shown(row[name])}")
    if row["text"] != row["question"] + row["answer"]:
        raise UserError(f"{where}: expected question and answer in text, given {shown(row['text'])}")


def read_texts(path: str | Path) -> list[Row]:
    """The rows of a file, JSON lines (``.jsonl``) or Parquet (``.parquet``, which needs pyarrow).

    Raises:
        UserError: If there is none, it is of another kind or damaged, or a row has not the columns.
    """
    path = _path(path)
    try:
        check_file(path)
        read: Any = _parquet().read_table(path).to_pylist() if path.suffix == PARQUET else _lines(path)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # of what a file may hold, as many kinds as there are libraries that read it
        raise UserError(f"{path} is damaged: {one_line(error)}") from error
    for number, row in enumerate(read, start=1):
        _check_row(f"{path}, row {number}", row)
    rows: list[Row] = read
    return rows


def _lines(path: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}, row {number}: expected JSON, given {shown(line)}") from error
    return rows


def write_texts(path: str | Path, rows: Iterable[Row]) -> None:
    """Write rows to a file, JSON lines or Parquet by its name as :func:`read_texts` reads them.

    Raises:
        UserError: If the name says neither, or it cannot be written.
    """
    path = _path(path)
    try:
        if path.suffix != PARQUET:
            with replacing_text(path) as text:
                text.writelines(f"{json.dumps(row)}\n" for row in rows)
            return
        pyarrow, parquet = import_module("pyarrow"), _parquet()
        kinds = {str: pyarrow.string(), int: pyarrow.int32(), bool: pyarrow.bool_()}
        schema = pyarrow.schema([(name, kinds[kind]) for name, kind in Row.__annotations__.items()])
        with replacing(path) as file:
            parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema), file)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or one_line(error)}") from error


def _path(path: str | Path) -> Path:
    if Path(path).suffix not in (*LINES, PARQUET):
        raise UserError(f"expected a file of texts, {', '.join(LINES)} or {PARQUET}, given {path}")
    return Path(path)


def _parquet() -> Any:
    try:
        return import_module("pyarrow.parquet")
    except ImportError as error:
        raise UserError(f"Parquet needs pyarrow ({error}): pip install pyarrow") from error
