"""The sparse tasks, beside networkx, the dense algorithms and themselves in batches."""

import importlib.util
import pickle
import sys
import tracemalloc
import warnings
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from engine import by_hand
from torch import Tensor
from torch.utils.data import Subset

from nar.batch import NumpyArray
from nar.datasets.clrs30.families import draw_edges
from nar.errors import UserError
from nar.specs import Location, Stage, Type, at_stage

with warnings.catch_warnings():  # PyTorch Geometric 2.8 compiles with what torch 2.13 calls deprecated
    warnings.simplefilter("ignore")
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Batch
    from torch_geometric.loader import DataLoader
    from torch_geometric.utils import is_undirected

from nar.datasets.salsa import tasks as sparse
from nar.datasets.salsa.tasks import SPARSE_TASKS, Graph, SparseData, SparseTask, graph_of, padded, trajectory

SALSA_FAMILIES = ("erdos_renyi", "watts_strogatz", "delaunay")
DENSE = ("bfs", "dfs", "dijkstra", "mst_prim")

every_task = pytest.mark.parametrize("task", SPARSE_TASKS)
every_family = pytest.mark.parametrize("graphs", SALSA_FAMILIES)
every_size = pytest.mark.parametrize("num_nodes", [16, 160, 1600])


def sample(task: str, graphs: str, num_nodes: int, index: int = 0, **settings: Any) -> SparseData:
    """One sample of a task without hints."""
    return SparseTask(task, graphs=graphs, num_nodes=num_nodes, hints="none", **settings)[index]


def for_networkx(data: SparseData) -> Any:
    """The graph without loops, neighbours in ascending order, with the weights if it has any."""
    graph = nx.empty_graph(data.num_nodes)
    weights = data.A.tolist() if "A" in data else [1.0] * data.num_edges
    edges = zip(*data.edge_index.tolist(), weights, strict=True)
    graph.add_weighted_edges_from((u, v, weight) for u, v, weight in edges if u < v)
    return graph


def targets(data: SparseData, pointer: Tensor) -> Tensor:
    """The nodes at which pointers point."""
    return data.edge_index[1, pointer]


def joined(data: SparseData) -> list[tuple[int, int]]:
    """Each node with its predecessor, but for those that point at themselves."""
    return [(node, pi) for node, pi in enumerate(targets(data, data.pi).tolist()) if node != pi]


def matrix(graph: Graph, values: Any = 1) -> NumpyArray:
    """The matrix of edges or of their weights, loops left out."""
    senders, receivers = graph.edge_index[:, : len(graph.reverse)]
    A = np.zeros((graph.num_nodes, graph.num_nodes), np.asarray(values).dtype)
    A[senders, receivers] = values
    return A


def small_graph(seed: int, num_nodes: int = 12) -> Graph:
    """A connected graph."""
    return SparseTask("bfs").draw_graph(np.random.RandomState(seed), num_nodes)


def path(*nodes: int) -> Graph:
    """These nodes in a row."""
    return graph_of(np.stack([nodes[:-1], nodes[1:]], axis=1), len(nodes))


def assert_same(one: SparseData, other: SparseData) -> None:
    """Fail unless both have the same attributes."""
    assert {*one.keys()} == {*other.keys()}
    for name in one.keys():  # noqa: SIM118 (not a dict)
        if isinstance(one[name], Tensor):
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=0, msg=name)
        else:
            assert one[name] == other[name]


@every_family
@every_size
def test_breadth_first_search_finds_shortest_paths(graphs: str, num_nodes: int) -> None:
    data = sample("bfs", graphs, num_nodes)
    graph, s = for_networkx(data), int(data.s)
    depth = nx.single_source_shortest_path_length(graph, s)
    assert {node for node, _ in joined(data)} == {*graph} - {s}
    assert all(graph.has_edge(node, pi) and depth[node] == depth[pi] + 1 for node, pi in joined(data))
    assert int(data.length) == max(depth.values()) + 1


@every_family
@every_size
def test_depth_first_search_finds_the_tree_of_networkx(graphs: str, num_nodes: int) -> None:
    data = sample("dfs", graphs, num_nodes)
    assert dict(joined(data)) == nx.dfs_predecessors(for_networkx(data), 0)


@every_family
@every_size
def test_dijkstras_paths_are_as_short_as_networkxs(graphs: str, num_nodes: int) -> None:
    data = sample("dijkstra", graphs, num_nodes)
    graph, s = for_networkx(data), int(data.s)
    d = nx.single_source_dijkstra_path_length(graph, s)
    assert {node for node, _ in joined(data)} == {*graph} - {s}
    for node, pi in joined(data):
        assert d[pi] + graph[node][pi]["weight"] == pytest.approx(d[node], rel=1e-5)


@every_family
@every_size
def test_prims_tree_weighs_as_much_as_networkxs(graphs: str, num_nodes: int) -> None:
    data = sample("mst_prim", graphs, num_nodes)
    graph = for_networkx(data)
    tree = graph.edge_subgraph(joined(data))
    assert nx.is_tree(tree)
    assert len(tree) == num_nodes
    assert tree.size("weight") == pytest.approx(nx.minimum_spanning_tree(graph).size("weight"), rel=1e-5)


@every_family
@every_size
def test_independent_sets_are_independent_and_cannot_grow(graphs: str, num_nodes: int) -> None:
    data = sample("fast_mis", graphs, num_nodes)
    graph, chosen = for_networkx(data), {*torch.nonzero(data.inmis).ravel().tolist()}
    assert graph.subgraph(chosen).size() == 0
    assert nx.is_dominating_set(graph, chosen)


@every_family
@every_size
def test_eccentricities_are_those_of_networkx(graphs: str, num_nodes: int) -> None:
    dataset = SparseTask("eccentricity", graphs=graphs, num_nodes=num_nodes, hints="none")
    for index in range(3):
        data = dataset[index]
        assert int(data.eccentricity) == nx.eccentricity(for_networkx(data), int(data.s))


@pytest.mark.parametrize("task", DENSE)
def test_hints_and_outputs_are_those_of_the_dense_algorithm(task: str) -> None:
    for seed in range(30):
        graph = small_graph(seed, num_nodes=2 + seed % 15)
        inputs = SPARSE_TASKS[task].draw(np.random.RandomState(seed), graph)
        s, weights = inputs[:1], [weights[: len(graph.reverse)] for weights in inputs[1:]]
        data = trajectory(task, graph, inputs)
        (_, hints, lengths), outputs = by_hand(task, matrix(graph, *weights), *s)
        assert int(data.length) == lengths[0]
        for name, probe in SPARSE_TASKS[task].spec.items():
            if probe.stage is Stage.INPUT:
                continue
            theirs = outputs[name][0] if probe.stage is Stage.OUTPUT else hints[name][:, 0].T
            ours = (targets(data, data[name]) if probe.type is Type.POINTER else data[name]).numpy()
            np.testing.assert_array_equal(ours, np.reshape(theirs, ours.shape).astype(ours.dtype), err_msg=name)


@pytest.mark.parametrize("equal", [False, True])
def test_in_each_round_the_least_of_the_living_join_and_die_with_their_neighbours(equal: bool) -> None:
    for seed in range(20):
        graph, rng = small_graph(seed), np.random.RandomState(seed)
        numbers = rng.randint(3, size=(12, 12)) / 4 if equal else rng.random_sample((12, 12))
        alive, inmis, living = np.ones(12), np.zeros(12), matrix(graph)
        before, after = [], []
        while alive.any():
            number = numbers[:, len(before)]
            before.append((living, alive, 0, inmis))
            order = np.lexsort((-np.arange(12), number))  # of equal numbers, that of the later node is the smaller
            rank = np.argsort(order)
            least = alive * np.all(rank[:, None] <= np.where(living, rank, 12), axis=1)
            inmis = inmis + least
            alive = alive * (1 - least) * (1 - (living @ least > 0))
            living = matrix(graph) * np.outer(alive, alive)
            after.append((living, alive, 1, inmis))
        randomness = np.repeat(numbers[:, : len(before)], 2, axis=1)
        data = trajectory("fast_mis", graph, (randomness,))
        assert int(data.length) == 2 * len(before)
        expected = [state for both in zip(before, after, strict=True) for state in both]
        for time, (living, *others) in enumerate(expected):
            senders, receivers = data.edge_index
            assert np.array_equal(data.Ain_h[:, time], living[senders, receivers])
            for name, values in zip(("alive_h", "phase_h", "inmis_h"), others, strict=True):
                assert np.array_equal(data[name][:, time], np.atleast_1d(values)), name
        assert np.array_equal(data.inmis, inmis)


def test_new_numbers_are_drawn_for_each_round_until_no_node_is_alive() -> None:
    data = SparseTask("fast_mis", graphs="path", num_nodes=200)[0]
    assert data.randomness.shape == (200, int(data.length))
    assert torch.equal(data.randomness[:, ::2], data.randomness[:, 1::2])
    assert len(data.randomness[:, ::2].unique()) == data.randomness.numel() / 2
    assert 0 <= data.randomness.min() < 0.01 < 0.99 < data.randomness.max() < 1
    assert not data.alive_h[:, -1].any()
    assert data.alive_h[:, -2].any()


def test_the_flood_goes_out_and_its_echo_comes_back() -> None:
    data = trajectory("eccentricity", path(0, 1, 2), (0,))
    assert data.visited_h.tolist() == [[0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert data.floodstate_h.tolist() == [[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1], [0, 0, 2, 2, 2, 2]]
    assert data.echostate_h.tolist() == [[0, 0, 0, 0, 2, 2], [0, 0, 0, 2, 2, 2], [0, 0, 0, 2, 2, 2]]
    assert data.msgphase_h.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert data.leaf_h.tolist() == [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    forth = {(0, 1): [0, 1, 1, 1, 0, 0], (1, 2): [0, 0, 1, 0, 0, 0]}
    edges = [*zip(*data.edge_index.tolist(), strict=True)]
    assert data.tree_h.tolist() == [forth.get(edge, [0] * 6) for edge in edges]
    assert data.eccentricity_h.tolist() == [[0, 0, 0, 0, 2, 2]]


@every_family
def test_the_flood_reaches_each_node_in_as_many_steps_as_edges(graphs: str) -> None:
    data = SparseTask("eccentricity", graphs=graphs, num_nodes=60)[0]
    depths = nx.single_source_shortest_path_length(for_networkx(data), int(data.s))
    depth = torch.tensor([depths[node] for node in range(60)])[:, None]
    time = torch.arange(int(data.length))
    assert torch.equal(data.visited_h, (time > depth).to(torch.int8))
    assert torch.equal(data.floodstate_h, torch.where(time >= depth, depth, 0).float())
    sender, receiver = data.edge_index
    assert not data.tree_h[depth[receiver, 0] < depth[sender, 0]].any()
    assert not data.tree_h[depth[receiver, 0] > depth[sender, 0], -1].any()
    assert not data.tree_h[-60:].any()
    assert torch.equal(data.eccentricity_h, data.echostate_h[data.s])


def test_nodes_that_flood_each_other_are_not_each_others_children() -> None:
    triangle = graph_of(np.array([[0, 1], [1, 2], [2, 0]]), 3)
    data = trajectory("eccentricity", triangle, (0,))
    assert (int(data.length), int(data.eccentricity)) == (4, 1)
    assert data.leaf_h[:, 2].tolist() == [0, 1, 1]


@every_task
def test_edges_go_both_ways_and_then_each_node_has_a_loop(task: str) -> None:
    data = sample(task, "erdos_renyi", 40)
    edges = [*zip(*data.edge_index.tolist(), strict=True)]
    assert edges[-40:] == [(node, node) for node in range(40)]
    assert edges[:-40] == sorted({(v, u) for u, v in edges[:-40]})
    assert all(u != v for u, v in edges[:-40])
    assert data.is_undirected()


def test_the_reverse_of_an_edge_leads_back() -> None:
    graph = small_graph(0, 50)
    senders, receivers = graph.edge_index[:, : len(graph.reverse)]
    assert np.array_equal(senders[graph.reverse], receivers)
    assert np.array_equal(receivers[graph.reverse], senders)


@pytest.mark.parametrize("task", ["dijkstra", "mst_prim"])
def test_weights_are_the_same_both_ways_and_1_on_loops(task: str) -> None:
    data = sample(task, "erdos_renyi", 300)
    assert is_undirected(data.edge_index, data.A)
    weights, loops = data.A[:-300], data.A[-300:]
    assert (loops == 1).all()
    assert 0.03 < weights.min() < 0.1 < 0.9 < weights.max() < 1.001
    assert float(weights.mean()) == pytest.approx(4 / 9, abs=0.02)  # of the geometric mean of two numbers from [0, 1)


@every_task
def test_probes_have_the_shape_of_what_they_describe(task: str) -> None:
    dataset = SparseTask(task, num_nodes=30)
    data = dataset[0]
    T = int(data.length)
    sizes = {Location.NODE: 30, Location.EDGE: data.num_edges, Location.GRAPH: 1}
    for name, probe in dataset.spec.items():
        size = 1 if probe.type is Type.MASK_ONE else sizes[probe.location]
        has_time = probe.stage is Stage.HINT or name == "randomness"
        assert data[name].shape == ((size, T) if has_time else (size,)), name
        expected = {Type.SCALAR: torch.float32, Type.POINTER: torch.int32, Type.MASK_ONE: torch.int32}
        assert data[name].dtype == expected.get(probe.type, torch.int8), name
    assert {*data.keys()} == {*dataset.spec, "task", "edge_index", "length", "num_nodes"}
    assert torch.equal(data.pos, torch.arange(30) / 30)


@every_task
def test_a_batch_holds_its_samples_padded_with_zeros(task: str) -> None:
    dataset = SparseTask(task, num_nodes=[5, 9, 60], num_samples=8)
    batch = next(iter(DataLoader(dataset, batch_size=8)))
    assert batch.num_graphs == 8
    assert len(batch.length.unique()) > 1
    timed = [name for name in ("randomness", *at_stage(dataset.spec, Stage.HINT)) if name in batch]
    for index, own in enumerate(batch.to_data_list()):
        alone = dataset[index]
        for name in timed:
            assert own[name].shape[-1] == batch.length.max()
            assert not own[name][..., int(alone.length) :].any()
            own[name] = own[name][..., : int(alone.length)]
        assert_same(own, alone)


@pytest.mark.parametrize("task", ["bfs", "dijkstra", "mst_prim"])
def test_indices_count_from_the_beginning_of_the_batch(task: str) -> None:
    dataset = SparseTask(task, num_nodes=[5, 9], num_samples=6)
    batch = next(iter(DataLoader(dataset, batch_size=6)))
    assert torch.equal(batch.edge_index[0, batch.pi], torch.arange(batch.num_nodes))
    assert batch.batch[batch.s].tolist() == [*range(6)]
    before = batch.edge_index[0, batch.pi_h[:, 0]]
    assert torch.equal(before, torch.arange(batch.num_nodes))


def test_a_part_of_the_dataset_is_padded_as_well() -> None:
    dataset = SparseTask("bfs", num_nodes=[5, 14], num_samples=20)
    batch = next(iter(DataLoader(Subset(dataset, range(4, 20)), batch_size=16)))
    assert batch.reach_h.shape == (batch.num_nodes, int(batch.length.max()))


def test_samples_collected_by_hand_can_be_padded() -> None:
    samples = [*SparseTask("bfs", num_nodes=[5, 14], num_samples=12)]
    shapes = [data.reach_h.shape for data in samples]
    batch = Batch.from_data_list(padded(samples))
    assert batch.reach_h.shape == (batch.num_nodes, int(batch.length.max()))
    assert [data.reach_h.shape for data in samples] == shapes


@every_task
def test_which_hints_are_kept_is_up_to_the_caller(task: str) -> None:
    every, first, none = (SparseTask(task, hints=hints)[3] for hints in ("all", "first", "none"))
    assert int(every.length) == int(first.length) == int(none.length) > 1
    for name in at_stage(SPARSE_TASKS[task].spec, Stage.HINT):
        assert torch.equal(first[name], every[name][..., :1])
        assert name not in none
    for name in at_stage(SPARSE_TASKS[task].spec, Stage.OUTPUT):
        assert torch.equal(none[name], every[name])


@every_task
def test_a_sample_is_determined_by_the_seed_and_its_index(task: str) -> None:
    one, same = SparseTask(task, seed=[3, 4], num_samples=5), SparseTask(task, seed=[3, 4], num_samples=50)
    other = SparseTask(task, seed=[3, 5], num_samples=5)
    assert_same(one[4], same[4])
    assert_same(pickle.loads(pickle.dumps(one))[4], one[4])
    assert_same(one[-1], one[4])
    graphs = {data.edge_index.numpy().tobytes() for dataset in (one, other) for data in dataset}
    assert len(graphs) == 10


def test_a_dataset_ends() -> None:
    dataset = SparseTask("bfs", num_samples=3)
    assert len(dataset) == len([*dataset]) == 3
    with pytest.raises(IndexError):
        dataset[3]


@pytest.mark.parametrize("graphs", ["erdos_renyi", "watts_strogatz", "delaunay", "random_geometric", "tree"])
def test_all_graphs_are_connected(graphs: str) -> None:
    dataset = SparseTask("bfs", graphs=graphs, num_nodes=[9, 40], num_samples=30, hints="none")
    assert all(nx.is_connected(for_networkx(data)) for data in dataset)
    assert {data.num_nodes for data in dataset} == {9, 40}


def test_densities_of_erdos_renyi_graphs_are_salsas_unless_given() -> None:
    sizes = [data.num_edges - 300 for data in SparseTask("bfs", num_nodes=300, num_samples=40, hints="none")]
    multiples = np.array(sizes) / 299 / np.log(300)
    assert 0.9 < multiples.min() < 1.3
    assert 2.7 < multiples.max() < 3.1
    assert sample("bfs", "erdos_renyi", 20, p=1.0).num_edges == 400


def test_the_density_does_not_change_until_a_graph_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def draw_three_in_vain(family: str, rng: np.random.RandomState, num_nodes: int, *, p: float) -> NumpyArray:
        tried.append(p)
        return draw_edges(family, rng, num_nodes, p=1.0 if len(tried) % 4 == 0 else 0.0)

    monkeypatch.setattr(sparse, "draw_edges", draw_three_in_vain)
    SparseTask("bfs")[0]  # one graph is drawn at the beginning, to find what cannot be drawn
    assert len(tried) == 8
    assert len({*tried[:4]}) == len({*tried[4:]}) == 1
    assert tried[0] != tried[4]


def test_parameters_of_watts_strogatz_graphs_are_salsas_unless_given() -> None:
    dataset = SparseTask("bfs", graphs="watts_strogatz", num_nodes=100, num_samples=40, hints="none")
    assert {(data.num_edges - 100) / 100 for data in dataset} == {4, 6, 8}
    rings = SparseTask("bfs", graphs="watts_strogatz", num_nodes=100, num_samples=10, rewiring=0.0, k=6)
    assert {(data.num_edges, int(data.edge_index[0].bincount().max())) for data in rings} == {(700, 7)}
    drawn = [sparse._drawn_parameters("watts_strogatz", np.random.RandomState(seed), 8) for seed in range(50)]
    assert {args["k"] for args in drawn} == {4, 6}
    rewiring = [args["rewiring"] for args in drawn]
    assert 0.05 <= min(rewiring) < 0.07 < 0.18 < max(rewiring) <= 0.2


@every_task
def test_memory_grows_with_edges_and_not_with_pairs_of_nodes(task: str) -> None:
    dataset = SparseTask(task, graphs="watts_strogatz", num_nodes=[400, 1600], k=6, hints="none")
    peaks = {}
    for size in (400, 1600):
        rng = np.random.RandomState(0)
        tracemalloc.start()
        graph = dataset.draw_graph(rng, size)
        data = trajectory(task, graph, SPARSE_TASKS[task].draw(rng, graph), "none")
        peaks[size] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert max(value.numel() for value in data.to_dict().values() if isinstance(value, Tensor)) <= 2 * 7 * size
    assert peaks[1600] < 6 * peaks[400]


def test_hints_that_would_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "num_free_bytes", lambda: 2000)
    monkeypatch.setattr(sparse, "UNCHECKED_BYTES", 0)
    with pytest.raises(UserError, match=r"hints on 16 nodes would take .* GiB are free: ask for hints=\"first\""):
        SparseTask("dfs")[0]


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("bsf", {}, "unknown task bsf; known are bfs, dfs, dijkstra, mst_prim, fast_mis, eccentricity"),
        ("bfs", {"graphs": "wheel"}, "unknown family of graphs 'wheel'; known are "),
        ("bfs", {"graphs": "path", "k": 4}, "graphs of path have no k; it has no parameters"),
        ("bfs", {"num_nodes": 1}, r"expected one or more sizes of at least 2 nodes, given 1$"),
        ("bfs", {"num_nodes": 16.7}, r"expected one or more sizes of at least 2 nodes, given 16\.7$"),
        ("bfs", {"num_nodes": "16"}, r"expected one or more sizes of at least 2 nodes, given '16'$"),
        ("bfs", {"num_nodes": [16, 4.5]}, r"expected one or more sizes of at least 2 nodes, given \[16, 4\.5\]$"),
        ("bfs", {"num_nodes": []}, r"expected one or more sizes of at least 2 nodes, given \[\]"),
        ("bfs", {"num_nodes": [9, 4], "graphs": "watts_strogatz"}, "watts_strogatz with k = 4 needs at least 5 nodes"),
        ("bfs", {"num_samples": 0}, "expected num_samples to be a whole number of at least 1, given 0$"),
        ("bfs", {"seed": "0"}, "expected a seed from 0 to 4294967295, or several, given '0'$"),
        ("bfs", {"hints": "x"}, "expected hints to be one of all, first, none, given 'x'$"),
        ("bfs", {"p": (0.5,)}, r"expected p in \[0, 1\], given \(0\.5,\)$"),
        ("bfs", {"p": "0.5"}, r"expected p in \[0, 1\], given '0\.5'$"),
        ("bfs", {"graphs": "random_geometric", "radius": "a"}, "expected a radius above 0, given 'a'$"),
        ("bfs", {"p": 0.0}, "expected a connected graph of erdos_renyi on 16 nodes, drawn 1000 that are none"),
    ],
)
def test_what_cannot_be_drawn_is_refused_at_once(task: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        SparseTask(task, **settings)


@every_task
@pytest.mark.parametrize(("edges", "num_nodes"), [([[0, 1], [1, 2]], 4), ([[2, 3]], 4), ([], 1)])
def test_graphs_in_parts_are_refused(task: str, edges: list[list[int]], num_nodes: int) -> None:
    graph = graph_of(np.array(edges, np.int64).reshape(-1, 2), num_nodes)
    with pytest.raises(UserError, match=f"expected at least 2 nodes, all connected; of the {num_nodes} given node 0"):
        trajectory(task, graph, SPARSE_TASKS[task].draw(np.random.RandomState(0), graph))


def test_without_pytorch_geometric_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    spec = importlib.util.spec_from_file_location("without_pyg", sparse.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r'needs PyTorch Geometric: pip install "torch-geometric>=2.8"'):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
