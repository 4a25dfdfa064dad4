"""Whether trajectories are as the sentences say that describe their probes: of each kind some that are easily wrong."""

from typing import Any, NamedTuple

import networkx
import numpy as np
import pytest

from nar.datasets import sample

SEEDS = pytest.mark.parametrize("seed", range(3))
Values = dict[str, Any]


class Trajectory(NamedTuple):
    """One trajectory: hints by time, and the number of times."""

    inputs: Values
    hints: Values
    outputs: Values
    length: int


def drawn(algorithm: str, num_nodes: int, seed: int) -> Trajectory:
    """A trajectory of an algorithm."""
    (inputs, hints, lengths), outputs = sample(algorithm, num_nodes=num_nodes, num_samples=1, seed=seed)
    length = int(lengths[0])
    by_time = {name: data[:length, 0] for name, data in hints.items()}
    first = ({name: data[0] for name, data in probes.items()} for probes in (inputs, outputs))
    return Trajectory(next(first), by_time, next(first), length)


def order(predecessors: Any) -> list[int]:
    """The nodes in the order that pointers to predecessors make."""
    following = {int(before): node for node, before in enumerate(predecessors) if before != node}
    nodes = [next(node for node, before in enumerate(predecessors) if before == node)]
    while nodes[-1] in following:
        nodes.append(following[nodes[-1]])
    assert len(nodes) == len(predecessors)
    return nodes


def graph_of(given: Trajectory, *, directed: bool = False) -> Any:
    """The graph of a trajectory, without loops."""
    graph = networkx.from_numpy_array(given.inputs["A"], create_using=networkx.DiGraph if directed else networkx.Graph)
    graph.remove_edges_from(list(networkx.selfloop_edges(graph)))
    return graph


@SEEDS
def test_insertion_sort_inserts_j_in_front_of_i(seed: int) -> None:
    given = drawn("insertion_sort", 8, seed)
    for t in range(1, given.length):
        i, j = given.hints["i"][t], given.hints["j"][t]
        assert i == j or given.hints["pred_h"][t][i] == j


@SEEDS
def test_bubble_sort_has_looked_at_j_and_carries_to_i(seed: int) -> None:
    given = drawn("bubble_sort", 6, seed)
    places = [(i, j) for i in range(5) for j in range(5, i, -1)]
    for t, (i, j) in enumerate(places, start=1):
        nodes = order(given.hints["pred_h"][t])
        assert (given.hints["i"][t], given.hints["j"][t]) == (nodes[i], nodes[j])


@SEEDS
def test_heapsort_names_what_sank_and_what_rose(seed: int) -> None:
    given = drawn("heapsort", 8, seed)
    hints, key = given.hints, given.inputs["key"]
    for t in range(1, given.length):
        earlier, nodes = order(hints["pred_h"][t - 1]), order(hints["pred_h"][t])
        size = nodes.index(hints["heap_size"][t]) + 1
        for place, node in enumerate(nodes):
            assert hints["parent"][t][node] == (nodes[(place - 1) // 2] if 0 < place < size else node)
        rose, sank = hints["j"][t], hints["largest"][t]
        if hints["phase"][t] == 1:
            assert (hints["i"][t], rose, sank) == (nodes[0], earlier[0], 0)
            assert nodes.index(rose) == size
        elif nodes != earlier:
            assert key[rose] > key[sank]
            assert nodes.index(rose) == earlier.index(sank) < earlier.index(rose) == nodes.index(sank)
        else:
            assert rose == sank
        if hints["phase"][t] == 2:
            assert nodes.index(hints["i"][t]) == size


@SEEDS
@pytest.mark.parametrize("algorithm", ["quicksort", "quickselect"])
def test_partitions_keep_what_is_no_larger_than_the_pivot_before_i(algorithm: str, seed: int) -> None:
    given = drawn(algorithm, 8, seed)
    key = given.inputs["key"]
    for t in range(given.length):
        nodes = order(given.hints["pred_h"][t])
        p, r, i, j = (nodes.index(given.hints[name][t]) for name in "prij")
        pivot = key[nodes[r if j < r else i]]
        assert all(key[node] <= pivot for node in nodes[p:i])
        assert all(key[node] > pivot for node in nodes[i : j + 1] if j < r)
        if algorithm == "quickselect":
            assert key[given.hints["pivot"][t]] == pivot
            assert given.hints["i_rank"][t] * 8 == pytest.approx(i if j < r else i - p)
    if algorithm == "quickselect":
        assert (key < key[given.outputs["median"]]).sum() == 4


@SEEDS
def test_breadth_first_search_reaches_after_t_steps_what_is_t_edges_away(seed: int) -> None:
    given = drawn("bfs", 10, seed)
    away = networkx.single_source_shortest_path_length(graph_of(given), int(given.inputs["s"]))
    for t in range(given.length):
        assert [bool(x) for x in given.hints["reach_h"][t]] == [away.get(node, np.inf) <= t for node in range(10)]


@SEEDS
def test_a_topological_order_leads_along_all_edges(seed: int) -> None:
    given = drawn("topological_sort", 8, seed)
    nodes = [int(given.outputs["topo_head"])]
    while given.outputs["topo"][nodes[-1]] != nodes[-1]:
        nodes.append(int(given.outputs["topo"][nodes[-1]]))
    assert all(nodes.index(u) < nodes.index(v) for u, v in graph_of(given, directed=True).edges)


@SEEDS
def test_one_node_stands_for_a_strongly_connected_component(seed: int) -> None:
    given = drawn("strongly_connected_components", 10, seed)
    for component in networkx.strongly_connected_components(graph_of(given, directed=True)):
        (of_all,) = {int(given.outputs["scc_id"][node]) for node in component}
        assert of_all in component
    second = int(np.argmax(given.hints["phase"] == 1))
    entered_anew = np.flatnonzero(given.hints["d"][-1] != given.hints["d"][second])
    assert set(entered_anew) <= set(given.hints["s"][second:])
    assert (given.hints["A_t"][0] == (given.inputs["A"].T + np.eye(10) != 0)).all()


@SEEDS
def test_without_cuts_and_bridges_a_graph_falls_apart(seed: int) -> None:
    given = drawn("articulation_points", 10, seed)
    assert set(np.flatnonzero(given.outputs["is_cut"])) == set(networkx.articulation_points(graph_of(given)))
    given = drawn("bridges", 10, seed)
    found = {(int(u), int(v)) for u, v in np.argwhere(given.outputs["is_bridge"] == 1) if u < v}
    assert found == {(min(edge), max(edge)) for edge in networkx.bridges(graph_of(given))}


@SEEDS
def test_prefixes_of_the_needle_end_where_pi_points(seed: int) -> None:
    given = drawn("kmp_matcher", 20, seed)
    needle = list(given.inputs["key"][16:])
    for q in range(4):
        longest = max(k for k in range(q + 1) if needle[:k] == needle[q + 1 - k : q + 1])
        assert given.hints["pi"][-1][16 + q] == 16 + max(longest - 1, 0)
        assert given.hints["is_reset"][-1][16 + q] == (longest == 0)


@SEEDS
def test_a_search_tree_is_come_to_as_often_as_its_keys_and_gaps_are_looked_for(seed: int) -> None:
    given = drawn("optimal_bst", 5, seed)
    p, q = given.inputs["p"], given.inputs["q"]
    assert p[-1] == 0
    for i in range(6):
        for j in range(i, 6):
            assert given.hints["w"][-1][i, j] == pytest.approx(p[i:j].sum() + q[i : j + 1].sum())


@SEEDS
def test_floyd_and_warshall_know_the_node_before_the_last(seed: int) -> None:
    given = drawn("floyd_warshall", 6, seed)
    length = dict(networkx.all_pairs_dijkstra_path_length(graph_of(given)))
    for i in range(6):
        for j in range(6):
            before = int(given.outputs["Pi"][i, j])
            if j not in length[i]:
                assert before == i
            elif i != j:
                assert length[i][before] + given.inputs["A"][before, j] == pytest.approx(length[i][j])


@SEEDS
def test_kadane_sums_from_i_to_j(seed: int) -> None:
    given = drawn("find_maximum_subarray_kadane", 9, seed)
    hints, key = given.hints, given.inputs["key"]
    for t in range(given.length):
        assert hints["j"][t] == t
        assert hints["sum"][t] == pytest.approx(key[hints["i"][t] : t + 1].sum())
        assert hints["best_sum"][t] == pytest.approx(key[hints["best_low"][t] : hints["best_high"][t] + 1].sum())


@SEEDS
def test_the_hull_of_the_points_scanned_lies_on_the_stack(seed: int) -> None:
    given = drawn("graham_scan", 8, seed)
    for t in range(1, given.length):
        stack = [int(given.hints["last_stack"][t])]
        while given.hints["stack_prev"][t][stack[-1]] != stack[-1]:
            stack.append(int(given.hints["stack_prev"][t][stack[-1]]))
        assert set(stack) == set(np.flatnonzero(given.hints["in_hull_h"][t]))
        assert stack[-1] == given.hints["best"][t]
