"""Rows of texts in the published columns: drawn, read and written."""

import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from nar.datasets.text import Row, clrs_text_dataset, read_texts, samples_of, text_samples, write_texts
from nar.errors import UserError

SIZES = {"bfs": [4, 5], "insertion_sort": [4, 7], "segments_intersect": [5], "optimal_bst": [4]}


@pytest.mark.parametrize(("hints", "seed"), [(False, 0), (True, 3)])
@pytest.mark.usefixtures("clrs")
def test_rows_are_those_of_dm_clrs(hints: bool, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = importlib.import_module("clrs._src.clrs_text.huggingface_generators").clrs_generator
        expected = list(theirs(SIZES, num_samples=24, use_hints=hints, seed=seed))
    assert clrs_text_dataset(SIZES, 24, use_hints=hints, seed=seed) == expected
    assert clrs_text_dataset(SIZES, 10, use_hints=hints, seed=seed) == expected[:10]


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.parquet"])
def test_what_is_read_is_what_was_written(name: str, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    rows = clrs_text_dataset(SIZES, 12, use_hints=True)
    write_texts(tmp_path / name, rows)
    assert read_texts(tmp_path / name) == rows
    write_texts(tmp_path / name, [])
    assert read_texts(tmp_path / name) == []


def test_parquet_has_the_published_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_texts(tmp_path / "texts.parquet", clrs_text_dataset(SIZES, 2))
    schema = parquet.read_schema(tmp_path / "texts.parquet")
    assert schema.names == ["text", "question", "answer", "algo_name", "length", "use_hints"]
    assert list(map(str, schema.types)) == [*["string"] * 4, "int32", "bool"]


def test_without_pyarrow_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "texts.parquet").touch()
    with pytest.raises(UserError, match=r"^Parquet needs pyarrow \(.*\): pip install pyarrow$"):
        read_texts(tmp_path / "texts.parquet")


def test_rows_become_texts_with_the_graphs_that_they_were_drawn_with() -> None:
    (sample,) = samples_of(clrs_text_dataset({"segments_intersect": [9]}, 1, seed=2))
    (expected,) = text_samples("segments_intersect", num_nodes=9, num_samples=1, seed=2)
    assert sample[:4] == expected[:4]
    for name, data in sample.features.inputs.items():
        assert data.tobytes() == expected.features.inputs[name].tobytes()


ROW = clrs_text_dataset({"bfs": [4]}, 1)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 5}, "row 1: expected length 4, as many as in question, given 5"),
        ({"length": True}, "row 1: expected length as int, given True"),
        ({"algo_name": "dfs"}, "row 1: expected algo_name bfs, given 'dfs'"),
        ({"answer": None}, "row 1: expected answer as str, given None"),
        ({"text": "bfs"}, "row 1: expected question and answer in text, given 'bfs'"),
        ({"question": "x", "answer": "y", "text": "xy"}, "row 1: unknown algorithm x; known are"),
    ],
)
def test_a_row_that_is_no_text_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        samples_of([{**ROW, **change}])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "x"}\n', "row 1: expected the columns text, question, answer, algo_name, length, use_hints, gi"),
        (f"{json.dumps(ROW)}\nbfs\n", r"texts\.jsonl, row 2: expected JSON, given 'bfs'"),
        ("[1]\n", "row 1: expected the columns text, .*, given \\[1\\]"),
        (b"\xff\xfe", r"texts\.jsonl is damaged: "),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_line(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as error:
        read_texts(path)
    assert "\n" not in str(error.value)


def test_files_that_are_missing_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*none\.jsonl: No such file"):
        read_texts(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match=r"expected a file of texts, \.jsonl, \.json or \.parquet, given .*texts\.csv"):
        read_texts(tmp_path / "texts.csv")
    with pytest.raises(UserError, match=r"expected a file of texts"):
        write_texts(tmp_path / "texts.csv", [])
    with pytest.raises(UserError, match=r"cannot write .*texts\.jsonl: No such file"):
        write_texts(tmp_path / "none" / "texts.jsonl", [Row(**ROW)])
    (tmp_path / "texts.parquet").write_text("no")
    pytest.importorskip("pyarrow")
    with pytest.raises(UserError, match=r"texts\.parquet is damaged: "):
        read_texts(tmp_path / "texts.parquet")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "expected one or more algorithms, each with one or more sizes, given {}"),
        ({"bsf": [4]}, "unknown algorithm bsf; .*did you mean bfs"),
        ({"bfs": []}, "expected at least one size in sizes of 'bfs'"),
        ({"bfs": [1]}, "bfs needs at least 2 nodes, given 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(sizes: dict[str, list[int]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        clrs_text_dataset(sizes, 1)
