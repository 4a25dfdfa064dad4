"""Triplets along the paths of a graph, beside loops over all triplets of nodes."""
# Axes: N nodes, E edges, H hidden, F triplet features.

import pytest
import torch
from layers import randomised
from torch import Tensor

from nar.processors.sparse import PathTriplets
from nar.processors.sparse.path_triplets import paths

N, D, H, F = 6, 5, 4, 3


def random_edges(density: float) -> Tensor:
    """One-way edges, loops among them, in any order."""
    edge_index = (torch.rand(N, N) < density).nonzero().T
    return edge_index[:, torch.randperm(edge_index.shape[1])]


def by_loops(layer: PathTriplets, x: Tensor, edge_index: Tensor, edge_attr: Tensor, graph_attr: Tensor) -> Tensor:
    """The equation, one edge from j to k after another; `edges` has the features of each."""
    edges = {(s, r): e for (s, r), e in zip(edge_index.T.tolist(), edge_attr, strict=True)}
    states = []
    for (j, k), e in edges.items():
        found = [
            layer.node_1(x[i]) + layer.edge_1(edges[i, j]) + (layer.edge_2(edges[i, k]) if (i, k) in edges else 0)
            for i in range(N)
            if (i, j) in edges
        ]
        best = torch.stack(found).amax(dim=0) if found else torch.zeros(F, dtype=x.dtype)
        rest = layer.node_2(x[j]) + layer.node_3(x[k]) + layer.edge_3(e) + layer.graph(graph_attr)
        states.append(layer.output(best + rest).clamp(min=0))
    return torch.stack(states)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_edge_states_equal_the_equation_written_as_loops(density: float) -> None:
    layer, edge_index = randomised(PathTriplets(D, H, 2, 2, F)), random_edges(density)
    x, edge_attr = (torch.randn(n, width, dtype=torch.float64) for n, width in ((N, D), (edge_index.shape[1], 2)))
    graph_attr = torch.randn(2, dtype=torch.float64)
    found = layer(x, edge_index, edge_attr, graph_attr.expand(N, 2))
    torch.testing.assert_close(found, by_loops(layer, x, edge_index, edge_attr, graph_attr))


def test_without_features_of_edges_and_graphs_those_of_nodes_are_left() -> None:
    layer, edge_index = randomised(PathTriplets(D, H, None, None, F)), torch.tensor([[0, 1], [1, 2]])
    x = torch.randn(3, D, dtype=torch.float64)
    rest = layer.node_2(x[:2]) + layer.node_3(x[1:])
    best = torch.stack([torch.zeros(F, dtype=torch.float64), layer.node_1(x[0])])
    torch.testing.assert_close(layer(x, edge_index), layer.output(best + rest).relu())


def test_paths_are_all_pairs_of_edges_that_meet_and_the_edge_beside_them() -> None:
    edge_index = random_edges(0.4)
    edges = [tuple(edge) for edge in edge_index.T.tolist()]
    expected = {
        (before, after, edges.index((i, k)) if (i, k) in edges else -1)
        for before, (i, j) in enumerate(edges)
        for after, (other, k) in enumerate(edges)
        if j == other
    }
    found = paths(edge_index, N)
    assert (found.beside == -1).any()
    assert {*zip(*(x.tolist() for x in found), strict=True)} == expected
    assert len(found.after) == len(expected)
    assert found.after.equal(found.after.sort().values)


def test_there_are_no_states_without_edges() -> None:
    assert PathTriplets(D, H, None, None, F)(torch.randn(N, D), torch.zeros(2, 0, dtype=torch.int64)).shape == (0, H)


def test_whole_numbers_of_any_type_are_taken() -> None:
    layer, edge_index, x = PathTriplets(D, H, None, None, F), random_edges(0.5), torch.randn(N, D)
    assert layer(x, edge_index.int()).equal(layer(x, edge_index))


@pytest.mark.parametrize("bad", [-1, N, 10**6])
def test_an_edge_of_no_node_is_refused(bad: int) -> None:
    layer = PathTriplets(D, H, None, None, F)
    with pytest.raises(IndexError, match=f"PathTriplets: expected edge_index in 0 … {N - 1}, given {bad}"):
        layer(torch.randn(N, D), torch.tensor([[0, bad], [1, 2]]))


def test_features_that_are_not_of_every_edge_or_node_are_refused() -> None:
    x, edge_index = torch.randn(N, D), torch.tensor([[0, 1], [1, 2]])
    with pytest.raises(ValueError, match="PathTriplets: expected edge_attr of 2 rows, given 1"):
        PathTriplets(D, H, 3, None, F)(x, edge_index, torch.randn(1, 3))
    with pytest.raises(ValueError, match="PathTriplets: expected edge_attr of none, given 2"):
        PathTriplets(D, H, None, None, F)(x, edge_index, torch.randn(2, 3))
    with pytest.raises(ValueError, match=f"PathTriplets: expected node_graph_attr of {N} rows, given none"):
        PathTriplets(D, H, None, 3, F)(x, edge_index)
