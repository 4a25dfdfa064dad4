"""Where nodes are drawn."""

import networkx
import numpy as np
import pytest

from nar.datasets import SPECS, sample
from nar.viewer.layouts import _are_apart, circle, edges_of, layouts, rows, sequences, springs


def inputs_of(algorithm: str, num_nodes: int, **args: object) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """The inputs of one trajectory."""
    drawn = sample(algorithm, num_nodes=num_nodes, num_samples=1, seed=0, **args)
    return {name: data[0] for name, data in drawn.features.inputs.items()}


def test_nodes_on_a_circle_do_not_touch() -> None:
    for number in (1, 2, 16, 64):
        layout = circle(number)
        points = np.array(layout.positions)
        distances = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(number)
        assert distances.min() > 2 * layout.size


@pytest.mark.slow
def test_springs_are_the_same_at_every_call() -> None:
    edges = list(networkx.path_graph(9).edges)
    assert springs(9, edges) == springs(9, edges)


def test_parts_of_a_graph_are_apart() -> None:
    assert _are_apart(springs(12, [(0, 1), (2, 3), (4, 5)]))
    assert _are_apart(springs(1, []))


@pytest.mark.slow
def test_a_sparse_graph_is_drawn_by_springs_at_first_and_a_dense_one_on_a_circle() -> None:
    names = [[layout.name for layout in layouts(SPECS["bfs"], inputs_of("bfs", 16, p=[p]))] for p in (0.3, 0.9)]
    assert names == [["springs", "circle"], ["circle", "springs"]]


def test_edges_are_there_once_where_they_lead_both_ways() -> None:
    undirected = edges_of(SPECS["bfs"], inputs_of("bfs", 8))
    directed = edges_of(SPECS["dfs"], inputs_of("dfs", 8))
    assert undirected is not None
    assert directed is not None
    assert not undirected.are_directed
    assert all(u < v for u, v in undirected.pairs)
    assert directed.are_directed
    there = inputs_of("dfs", 8)["A"] != 0
    assert len(directed.pairs) == there.sum() - np.trace(there)
    assert edges_of(SPECS["minimum"], inputs_of("minimum", 4)) is None


def test_points_keep_their_shape() -> None:
    given = inputs_of("graham_scan", 10)
    (layout,) = layouts(SPECS["graham_scan"], given)
    points = np.array(layout.positions)
    true = np.stack([given["x"], -given["y"]], axis=1)
    scale = np.ptp(points[:, 0]) / np.ptp(true[:, 0])
    np.testing.assert_allclose(points - points[0], (true - true[0]) * scale)


def test_strings_have_rows_of_their_own() -> None:
    given = inputs_of("naive_string_matcher", 20)
    assert sequences(SPECS["naive_string_matcher"], given) == [list(range(16)), list(range(16, 20))]
    (layout,) = layouts(SPECS["naive_string_matcher"], given)
    heights = [y for _, y in layout.positions]
    assert len(set(heights[:16])) == len(set(heights[16:])) == 1
    assert heights[0] < heights[16]


@pytest.mark.parametrize(("length", "in_a_row"), [(5, 5), (16, 16), (17, 17), (64, 32)])
def test_cells_of_a_row_lie_side_by_side(length: int, in_a_row: int) -> None:
    layout = rows([length])
    first = [x for x, y in layout.positions if y == layout.positions[0][1]]
    assert len(first) == in_a_row
    assert all(np.diff(first) >= 2 * layout.size)
    assert max(first) + layout.size < layout.width
