"""Instances from files, and answers as JSON."""

import json
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from nar.errors import UserError
from nar.inference.data_files import node_called, read_data

GRAPH = nx.Graph()
GRAPH.add_weighted_edges_from([("a", "b", 0.5), ("b", "c", 0.25), ("c", "d", 1.0)])


def edges(graph: Any) -> set[tuple[frozenset[str], float]]:
    return {(frozenset((str(u), str(v))), float(w)) for u, v, w in graph.edges(data="weight")}


@pytest.mark.parametrize("ending", [".graphml", ".gml", ".edgelist", ".edges", ".json"])
def test_a_graph_is_the_same_in_every_form(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"graph{ending}"
    match ending:
        case ".graphml":
            nx.write_graphml(GRAPH, path)
        case ".gml":
            nx.write_gml(GRAPH, path)
        case ".edgelist":
            path.write_text("# u v weight\na b 0.5\n\nb c .25\nc d 1  # the last\n")
        case ".edges":
            path.write_text("a,b,0.5\nb,c,0.25\nc,d,1.0\n")
        case ".json":
            path.write_text(json.dumps(nx.node_link_data(GRAPH, edges="links")))
    assert edges(read_data(path)) == edges(GRAPH)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3\n1\n2.5\n", [3, 1, 2.5]),
        ("3,1,2.5\n", [3, 1, 2.5]),
        ("name,value\na,3\nb,1\n", {"a": 3, "b": 1}),
        ("a,3,4\nb,1,2\n", {"a": [3, 4], "b": [1, 2]}),
        ("x,y\n0.5,1\n-1,2\n", [[0.5, 1], [-1, 2]]),
        ("\ufeff0,1\n1,0\n\n", [[0, 1], [1, 0]]),
    ],
)
def test_numbers_of_a_csv_file_are_a_list_rows_or_by_name(text: str, expected: Any, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(text, "utf-8")
    assert read_data(tmp_path / "data.csv") == expected


@pytest.mark.parametrize("data", [[3, 1, 2], {"a": 1, "b": 2}, ["abca", "bc"], [[0.5, 1.0], [1.0, 0.5]]])
def test_other_json_is_what_it_says(data: Any, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps(data))
    assert read_data(tmp_path / "data.json") == data


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "expected a file with the ending .graphml"),
        ("a.graphml", "<no", "is no graphml that can be read"),
        ("a.gml", "graph [", "is no gml that can be read"),
        ("a.json", "{", "is no json that can be read"),
        ("a.json", "[" * 100_000, "is no json that can be read"),
        ("a.edgelist", "a b c d\n", "expected two nodes and a weight or none in line 1"),
        ("a.edgelist", "a b x\n", "expected a number, given 'x'"),
        ("a.edgelist", "a b 1\nb a 2\n", "line 2 of .* has the edge b a once more"),
        ("a.csv", "", "expected numbers in"),
        ("a.csv", "1,2\n3\n", "expected rows of one length"),
        ("a.csv", "a,1\na,2\n", "expected names that differ"),
        ("a.csv", "a,1\nb,x\n", "expected a number, given 'x'"),
    ],
)
def test_a_file_of_another_form_is_refused_in_one_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_data(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    for name in ("none.json", "folder.json"):
        with pytest.raises(UserError, match="cannot read"):
            read_data(tmp_path / name)


def test_a_node_is_called_by_its_name_or_as_it_is_written() -> None:
    assert node_called("a", GRAPH) == "a"
    assert node_called("3", nx.path_graph(5)) == 3
    assert node_called("nobody", GRAPH) == "nobody"
    assert node_called("2", [[0, 1], [1, 0]]) == 2
    assert node_called("x", [[0, 1], [1, 0]]) == "x"
