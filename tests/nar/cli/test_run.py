"""``nar run``: a model on data from a file."""

import json
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import pytest
import torch

from nar.datasets import CLRS30
from nar.processors import MPNN
from nar.training.reasoner import Reasoner


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands are given, with models that nobody has trained and data."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for name, algorithms in (("dijkstra", ["dijkstra"]), ("several", ["insertion_sort", "bfs"])):
        data = CLRS30(algorithms, train_sizes=[4])
        Reasoner(data.specs, MPNN(hidden_dim=8)).save_pretrained(tmp_path / name, data=data)
    graph = nx.Graph()
    graph.add_weighted_edges_from([("a", "b", 2.0), ("b", "c", 1.0), ("a", "c", 4.0)], weight="length")
    nx.write_graphml(graph, "graph.graphml")
    Path("keys.csv").write_text("name,key\nx,3\ny,1\nz,2\n")
    return tmp_path


def test_an_answer_is_printed_and_written(run: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    run("run", "./dijkstra", "graph.graphml", "--source", "a", "--weight", "length", "--out", "answer.json")
    printed = capsys.readouterr().out
    told = json.loads(Path("answer.json").read_text())
    assert told["algorithm"] == "dijkstra"
    assert {*told["tree"]} <= {"a", "b", "c"}
    assert {*told["outputs"]["pi"]} == {"a", "b", "c"}
    assert set(told["check"]) == {"right", "same", "entries", "why"}
    assert "check: " in printed
    assert "written: answer.json" in printed


def test_of_several_algorithms_one_is_named(run: Callable[..., None]) -> None:
    run("run", "./several", "keys.csv", "--algorithm", "insertion_sort")
    told = json.loads(Path("answer.json").read_text())
    assert sorted(told["order"]) == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["./dijkstra", "none.graphml"], "cannot read none.graphml"),
        (["./dijkstra", "graph.graphml", "--source", "d", "--weight", "length"], "expected source to be one of"),
        (["./dijkstra", "graph.graphml", "--source", "a"], "--weight ..."),
        (["./dijkstra", "keys.csv"], "expected numbers in the graph"),
        (["./several", "keys.csv"], "the model knows 2 algorithms"),
        (["./nothing", "keys.csv"], "no checkpoint at ./nothing"),
        (["./dijkstra", "graph.graphml", "--source", "a", "--unweighted", "true", "--steps", "few"], "steps"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_run_is_refused_in_one_line(
    args: list[str], message: str, run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("run", *args)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
