"""The tasks of SALSA-CLRS: algorithms on sparse graphs, for models that pass messages along edges only.

Nothing here is a matrix of nodes by nodes: graphs are lists of edges, and all that describes two nodes is on an edge.

Source: Minder et al., "SALSA-CLRS: A Sparse and Scalable Benchmark for Algorithmic Reasoning", LoG 2023, and its code,
https://github.com/jkminder/SALSA-CLRS, whose probes these are; dm-clrs 2.0.3 for the algorithms of CLRS-30.
"""
# Axes: N nodes, E edges, of which M are no loops, T time.

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from nar.batch import NumpyArray
from nar.datasets.clrs30.families import draw_edges, known_family, sparse_density
from nar.datasets.clrs30.given import FAR, array_of, check_node, within
from nar.datasets.clrs30.graph_traversal import BLACK, GREY, TICK, WHITE
from nar.datasets.clrs30.shortest_paths import extract_min
from nar.datasets.clrs30.specs import SPECS
from nar.datasets.engine.algorithm import Hints, check_hints, positions
from nar.datasets.engine.arguments import check_known, check_seed, check_whole, is_whole, plain, shown
from nar.datasets.engine.memory import NEVER_ASKED, num_free_bytes
from nar.datasets.engine.trace import DTYPES, Trace, record
from nar.errors import UserError
from nar.specs import Location, Probe, Spec, Stage, Type, at_stage

try:
    from torch_geometric.data import Data
except ModuleNotFoundError as error:
    raise ImportError('nar.datasets.salsa.tasks needs PyTorch Geometric: pip install "torch-geometric>=2.8"') from error

MOST_NODES = 2**15  # the random graphs on more of them are drawn for minutes
MOST_SAMPLES = 2**32  # their numbers are words of the seeds that they are drawn from
MAX_DRAWS = 1000  # SALSA-CLRS's sparsest training graphs are connected once in 18
DTYPES_OF_INDICES = {Type.MASK_ONE: np.int32, Type.POINTER: np.int32}  # of nodes and of edges in a whole batch


class Graph(NamedTuple):
    """An undirected graph as edges in both directions, in the order of their senders and, of one sender, receivers.

    After these M edges come loops, of node v the edge M + v. A node points at another by the edge that it sends there.

    Attributes:
        start: Where each node's edges begin, and M, [N + 1].
        receivers: The node that each edge leads to, [E].
        reverse: The edge in the other direction, [M].
    """

    start: NumpyArray
    receivers: NumpyArray
    reverse: NumpyArray

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.start) - 1

    @property
    def edge_index(self) -> NumpyArray:
        """The sender and the receiver of each edge, [2, E]."""
        nodes = np.arange(self.num_nodes)
        senders = np.concatenate([np.repeat(nodes, np.diff(self.start)), nodes])
        return np.stack([senders, self.receivers])


def graph_of(edges: NumpyArray, num_nodes: int) -> Graph:
    """The graph of undirected edges, each given once, [M / 2, 2].

    Raises:
        UserError: If an edge is a loop or given twice, or leads to what is no node.
    """
    edges = np.asarray(edges)
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise UserError(f"expected edges as whole numbers in shape (number, 2), given {shown(edges)}")
    if edges.size and not 0 <= edges.min() <= edges.max() < num_nodes:
        raise UserError(f"expected nodes from 0 to {num_nodes - 1}, given {edges.min()} to {edges.max()} in edges")
    if len(np.unique(np.sort(edges, axis=1) @ [num_nodes, 1])) < len(edges) or (edges[:, 0] == edges[:, 1]).any():
        raise UserError("expected each edge once and no loops, given some twice or from a node to itself")
    senders, receivers = np.concatenate([edges, edges[:, ::-1]]).T
    order = np.lexsort((receivers, senders))
    senders, receivers = senders[order], receivers[order]
    start = np.searchsorted(senders, np.arange(num_nodes + 1))
    reverse = np.lexsort((senders, receivers))  # edges by receiver and sender are those that lead back
    return Graph(start, np.concatenate([receivers, np.arange(num_nodes)]), reverse)


@njit(cache=True)
def num_reached(graph: Graph, s: int) -> int:
    """How many nodes there are in the component of s."""
    seen, stack = np.zeros(len(graph.start) - 1, np.bool_), [s]
    seen[s] = True
    while stack:
        u = stack.pop()
        for e in range(graph.start[u], graph.start[u + 1]):
            v = graph.receivers[e]
            if not seen[v]:
                seen[v] = True
                stack.append(v)
    return int(np.sum(seen))


@njit(cache=True)
def loops(graph: Graph) -> NumpyArray:
    """The loop of each node, [N]."""
    return len(graph.reverse) + np.arange(len(graph.start) - 1)


@njit(cache=True)
def bfs(graph: Graph, s: int, trace: Trace) -> tuple[NumpyArray]:
    """From the source, reach the neighbours of all nodes reached before, until there are no new ones."""
    n = len(graph.start) - 1
    reach, pi, loop = np.zeros(n, np.int8), loops(graph), loops(graph)
    reach[s] = 1
    while True:
        prev_reach = reach.copy()
        record(trace, reach, pi)
        for i in range(n):
            if prev_reach[i] == 1:
                for e in range(graph.start[i], graph.start[i + 1]):
                    j = graph.receivers[e]
                    if pi[j] == loop[j] and j != s:
                        pi[j] = graph.reverse[e]
                    reach[j] = 1
        if np.all(reach == prev_reach):
            return (pi,)


@njit(cache=True)
def dfs(graph: Graph, trace: Trace) -> tuple[NumpyArray]:
    """Go on to a white neighbour for as long as there is one, and back to where one is left."""
    n = len(graph.start) - 1
    pi, s_prev, loop = loops(graph), loops(graph), loops(graph)
    color, d, f = np.zeros(n, np.int8), np.zeros(n), np.zeros(n)
    time = 0.0
    for s in range(n):
        if color[s] != WHITE:
            continue
        u = v = s_last = s
        while True:
            record(trace, pi, color, d, f, s_prev, s, u, v, s_last, time)
            if color[u] == BLACK:
                if u == s:
                    break
                s_last, s_prev[u] = graph.receivers[s_prev[u]], loop[u]
            u = s_last
            if d[u] == 0:
                time += TICK
                color[u], d[u] = GREY, time
                continue
            for e in range(graph.start[u], graph.start[u + 1]):
                v = graph.receivers[e]
                if color[v] == WHITE:
                    pi[v] = s_prev[v] = graph.reverse[e]
                    color[v], s_last = GREY, v
                    break
            else:
                v = n - 1  # dm-clrs's, which looks at all nodes
                time += TICK
                color[u], f[u] = BLACK, time
    return (pi,)


@njit(cache=True)
def dijkstra(graph: Graph, s: int, A: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Take the nearest node out of the queue and relax the edges that leave it, until the queue is empty."""
    n = len(graph.start) - 1
    pi, d, mark, in_queue = loops(graph), np.zeros(n), np.zeros(n, np.int8), np.zeros(n, np.int8)
    in_queue[s] = 1
    record(trace, pi, d, mark, in_queue, s)
    for _ in range(n):
        u = extract_min(d, in_queue)
        mark[u], in_queue[u] = 1, 0
        for e in range(graph.start[u], graph.start[u + 1]):
            v = graph.receivers[e]
            if mark[v] == 0 and (in_queue[v] == 0 or d[u] + A[e] < d[v]):
                pi[v], d[v], in_queue[v] = graph.reverse[e], d[u] + A[e], 1
        record(trace, pi, d, mark, in_queue, u)
    return (pi,)


@njit(cache=True)
def mst_prim(graph: Graph, s: int, A: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Let a tree grow from the source by the node that a lightest edge joins to it."""
    n = len(graph.start) - 1
    pi, key, mark, in_queue = loops(graph), np.zeros(n), np.zeros(n, np.int8), np.zeros(n, np.int8)
    in_queue[s] = 1
    record(trace, pi, key, mark, in_queue, s)
    for _ in range(n):
        u = extract_min(key, in_queue)
        mark[u], in_queue[u] = 1, 0
        for e in range(graph.start[u], graph.start[u + 1]):
            v = graph.receivers[e]
            if mark[v] == 0 and (in_queue[v] == 0 or A[e] < key[v]):
                pi[v], key[v], in_queue[v] = graph.reverse[e], A[e], 1
        record(trace, pi, key, mark, in_queue, u)
    return (pi,)


@njit(cache=True)
def play_round(graph: Graph, numbers: NumpyArray, alive: NumpyArray, inmis: NumpyArray) -> None:
    """Let the living nodes with the smallest number among living neighbours join the set, and them and these die.

    Of two equal numbers that of the later node counts as smaller.
    """
    n = len(alive)
    for u in range(n):
        if alive[u]:
            inmis[u] = 1
            for e in range(graph.start[u], graph.start[u + 1]):
                v = graph.receivers[e]
                if alive[v] and (numbers[v] < numbers[u] or (numbers[v] == numbers[u] and v > u)):
                    inmis[u] = 0
                    break
    for u in range(n):
        if inmis[u]:
            alive[u] = 0
            for e in range(graph.start[u], graph.start[u + 1]):
                alive[graph.receivers[e]] = 0


@njit(cache=True)
def fast_mis(graph: Graph, randomness: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Play rounds until no node is alive; there are two hints for each, before and after.

    Source:
        Métivier et al., "An optimal bit complexity randomized distributed MIS algorithm", Distributed Computing 2011.
    """
    n, num_edges = len(graph.start) - 1, len(graph.reverse)
    Ain, alive, inmis = np.zeros(num_edges + n, np.int8), np.ones(n, np.int8), np.zeros(n, np.int8)
    Ain[:num_edges] = 1
    for time in range(0, randomness.shape[1], 2):
        record(trace, Ain, alive, 0, inmis)
        play_round(graph, randomness[:, time].copy(), alive, inmis)
        for u in range(n):
            for e in range(graph.start[u], graph.start[u + 1]):
                Ain[e] = alive[u] and alive[graph.receivers[e]]
        record(trace, Ain, alive, 1, inmis)
    return (inmis,)


@njit(cache=True)
def has_open_child(graph: Graph, node: int, tree: NumpyArray) -> bool:
    """Whether there is an edge to a node that the flood reached from this one and that has not sent its echo yet.

    Two nodes that flooded each other are not each other's children.
    """
    for e in range(graph.start[node], graph.start[node + 1]):  # noqa: SIM110 (numba compiles no `any`)
        if tree[e] and not tree[graph.reverse[e]]:
            return True
    return False


@njit(cache=True)
def send_echo(
    graph: Graph,
    node: int,
    echo: int,
    visited: NumpyArray,
    msgphase: NumpyArray,
    echostate: NumpyArray,
    tree: NumpyArray,
) -> None:
    """Tell those that flooded this node how far the flood went behind it, and take their edges out of the tree."""
    for e in range(graph.start[node], graph.start[node + 1]):
        n, back = graph.receivers[e], graph.reverse[e]
        if tree[back] and visited[n]:
            echostate[n] = max(echo, echostate[n])
            tree[back], msgphase[n] = 0, 1


@njit(cache=True)
def eccentricity(graph: Graph, s: int, trace: Trace) -> tuple[int]:
    """Flood the graph from the source with the number of steps; where the flood ends, nodes echo theirs to the source.

    The largest echo is the number of edges on the way to the node that is farthest from it.
    """
    n = len(graph.start) - 1
    visited, msgphase, leaf = np.zeros(n, np.int8), np.zeros(n, np.int8), np.zeros(n, np.int8)
    floodstate, echostate = np.zeros(n, np.int64), np.zeros(n, np.int64)
    tree = np.zeros(len(graph.receivers), np.int8)
    record(trace, visited, msgphase, floodstate, echostate, tree, leaf, echostate[s])
    done = False
    while not done:
        next_visited, next_msgphase, next_tree, next_echostate = (
            visited.copy(),
            msgphase.copy(),
            tree.copy(),
            echostate.copy(),
        )
        messages = np.zeros(n, np.int64)
        for node in range(n):
            if msgphase[node] == 0:
                if visited[node] or not (node == s or floodstate[node] > 0):
                    continue
                next_visited[node], leaf[node] = 1, 1
                for e in range(graph.start[node], graph.start[node + 1]):
                    v = graph.receivers[e]
                    if not visited[v]:
                        messages[v] = max(floodstate[node] + 1, messages[v])
                        next_tree[e], leaf[node] = 1, 0
                if leaf[node]:
                    next_echostate[node], next_msgphase[node] = floodstate[node], 1
                    send_echo(graph, node, floodstate[node], visited, next_msgphase, next_echostate, next_tree)
            elif leaf[node] == 0 and not has_open_child(graph, node, tree):
                if node == s:
                    done = True
                    break
                leaf[node] = 1
                send_echo(graph, node, echostate[node], visited, next_msgphase, next_echostate, next_tree)
        visited, msgphase, tree, echostate = next_visited, next_msgphase, next_tree, next_echostate
        for node in range(n):
            if messages[node] > 0:
                if not visited[node]:
                    floodstate[node] = messages[node]
                elif not has_open_child(graph, node, tree):
                    leaf[node], echostate[node], msgphase[node] = 1, floodstate[node], 1
                    send_echo(graph, node, floodstate[node], visited, msgphase, echostate, tree)
        record(trace, visited, msgphase, floodstate, echostate, tree, leaf, echostate[s])
    return (echostate[s],)


class Task(NamedTuple):
    """An algorithm on sparse graphs.

    Attributes:
        spec: Its probes. That of ``adj`` is the list of edges; without weights there is no ``A`` either.
        draw: ``draw(rng, graph)`` draws the inputs other than ``pos``, in the spec's order.
        run: ``run(graph, *inputs, trace)`` records the hints and returns the outputs, in the spec's order.
    """

    spec: Spec
    draw: Callable[[np.random.RandomState, Graph], tuple[Any, ...]]
    run: Callable[..., tuple[Any, ...]]


def draw_nothing(rng: np.random.RandomState, graph: Graph) -> tuple[()]:
    """There is no input other than the graph."""
    return ()


def draw_source(rng: np.random.RandomState, graph: Graph) -> tuple[int]:
    """Any node."""
    return (rng.randint(graph.num_nodes),)


def draw_source_and_weights(rng: np.random.RandomState, graph: Graph) -> tuple[int, NumpyArray]:
    """Any node, and weights as dm-clrs draws them (see ``weighted_both_ways``); loops weigh 1, as in SALSA-CLRS."""
    uniform = rng.random_sample(len(graph.reverse))
    weights = np.sqrt(uniform * uniform[graph.reverse] + 1e-3)
    return *draw_source(rng, graph), np.concatenate([weights, np.ones(graph.num_nodes)])


def draw_randomness(rng: np.random.RandomState, graph: Graph) -> tuple[NumpyArray]:
    """A number for each node and each time, new ones for each round until no node is alive, [N, T]."""
    alive, inmis = np.ones(graph.num_nodes, np.int8), np.zeros(graph.num_nodes, np.int8)
    rounds = []
    while alive.any():
        rounds.append(rng.random_sample(graph.num_nodes))
        play_round(graph, rounds[-1], alive, inmis)
    return (np.repeat(np.stack(rounds, axis=1), 2, axis=1),)


def _spec(*probes: tuple[Stage, Location, Type, str]) -> Spec:
    """A spec from the names of all probes of each kind, in order."""
    return {name: Probe(stage, location, type_) for stage, location, type_, names in probes for name in names.split()}


def _without(names: Iterable[str], algorithm: str) -> Spec:
    """The spec of one of CLRS-30's algorithms without some of its probes."""
    return {name: probe for name, probe in SPECS[algorithm].items() if name not in names}


SPARSE_TASKS: Mapping[str, Task] = {
    "bfs": Task(_without(["A", "adj"], "bfs"), draw_source, bfs),
    "dfs": Task(_without(["A", "adj"], "dfs"), draw_nothing, dfs),
    "dijkstra": Task(_without(["adj"], "dijkstra"), draw_source_and_weights, dijkstra),
    "mst_prim": Task(_without(["adj"], "mst_prim"), draw_source_and_weights, mst_prim),
    "fast_mis": Task(
        _spec(
            (Stage.INPUT, Location.NODE, Type.SCALAR, "pos randomness"),
            (Stage.HINT, Location.EDGE, Type.MASK, "Ain_h"),
            (Stage.HINT, Location.NODE, Type.MASK, "alive_h"),
            (Stage.HINT, Location.GRAPH, Type.MASK, "phase_h"),
            (Stage.HINT, Location.NODE, Type.MASK, "inmis_h"),
            (Stage.OUTPUT, Location.NODE, Type.MASK, "inmis"),
        ),
        draw_randomness,
        fast_mis,
    ),
    "eccentricity": Task(
        _spec(
            (Stage.INPUT, Location.NODE, Type.SCALAR, "pos"),
            (Stage.INPUT, Location.NODE, Type.MASK_ONE, "s"),
            (Stage.HINT, Location.NODE, Type.MASK, "visited_h msgphase_h"),
            (Stage.HINT, Location.NODE, Type.SCALAR, "floodstate_h echostate_h"),
            (Stage.HINT, Location.EDGE, Type.MASK, "tree_h"),
            (Stage.HINT, Location.NODE, Type.MASK, "leaf_h"),
            (Stage.HINT, Location.GRAPH, Type.SCALAR, "eccentricity_h"),
            (Stage.OUTPUT, Location.GRAPH, Type.SCALAR, "eccentricity"),
        ),
        draw_source,
        eccentricity,
    ),
}
"""The six tasks by name."""


class SparseData(Data):  # type: ignore[misc]
    """A trajectory on a sparse graph, or several in a batch of PyG's ``DataLoader``.

    Probes are attributes under their own names. Values of nodes are [N], of edges [E] and of the graph [1]; hints, and
    ``randomness``, have the time for their last axis: [N, T], [E, T] and [1, T]. In a batch nodes, edges and graphs are
    concatenated, and times after a graph's own ``length`` are padded with zeros. Mask and categorical probes are int8.
    A mask_one is the index of a node [1]. A pointer of node i is the index of the edge from i to the node it points at,
    which is ``edge_index[1, pi]``: the loop of i if it points at itself. In a batch both count from its beginning.

    Attributes:
        task: The task's name.
        edge_index: Both directions of each edge, then a loop for each node, [2, E].
        length: T, how many times hints are recorded in all, [1].
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        probe = SPARSE_TASKS[self.task].spec.get(key)
        if probe is None or probe.type not in DTYPES_OF_INDICES:
            return super().__inc__(key, value, *args, **kwargs)
        return self.num_nodes if probe.type is Type.MASK_ONE else self.num_edges


class SparseTask(Dataset[SparseData]):
    """A task of SALSA-CLRS on random connected graphs, drawn and run when they are asked for.

    For PyG's ``DataLoader``, which is given hints of the length of the longest in the batch. SALSA-CLRS trains on 10000
    Erdős–Rényi graphs of 4, 7, 11, 13 or 16 nodes, validates on 1000 of 16, and tests without hints on 1000 of each of
    the families ``erdos_renyi``, ``watts_strogatz`` and ``delaunay`` with each of 16, 80, 160, 800 and 1600 nodes.

    Args:
        task: One of :data:`SPARSE_TASKS`.
        graphs: One of :data:`nar.datasets.clrs30.families.GRAPH_FAMILIES`, drawn until the graph is connected.
        num_nodes: The size, or several of which each sample has one at random; from 2 to 2¹⁵.
        num_samples: How many.
        seed: With its index it determines a sample: a number below 2³², or several.
        hints: Which hints to keep; ``length`` counts all of them in any case.
        **parameters: Of the family. Those not given have its defaults, but for these, which are drawn for each sample
            as in SALSA-CLRS: ``p`` of Erdős–Rényi graphs (see :func:`nar.datasets.clrs30.families.sparse_density`), and
            of Watts–Strogatz graphs ``k`` (4, 6 or 8) and ``rewiring`` (from 0.05 to 0.2).

    Raises:
        UserError: If there is no such task, family or parameter, nothing can be drawn of what is given, or no connected
            graph is found.
    """

    def __init__(
        self,
        task: str,
        *,
        graphs: str = "erdos_renyi",
        num_nodes: int | Sequence[int] = 16,
        num_samples: int = 1000,
        seed: int | Sequence[int] = 0,
        hints: Hints = "all",
        **parameters: Any,
    ) -> None:
        check_known("task", task, SPARSE_TASKS)
        known_family(graphs)
        self.task = task
        self.graphs = graphs
        self.sizes = list(num_nodes) if isinstance(num_nodes, Sequence) else [num_nodes]
        self.hints = hints
        self.parameters = {name: plain(value) for name, value in parameters.items()}
        if not self.sizes or not all(is_whole(size) and size >= 2 for size in self.sizes):
            raise UserError(f"expected one or more sizes of at least 2 nodes, given {shown(num_nodes)}")
        if max(self.sizes) > MOST_NODES:
            raise UserError(f"expected sizes of at most {MOST_NODES} nodes, given {shown(num_nodes)}")
        self.sizes = [int(size) for size in self.sizes]
        check_whole("num_samples", num_samples, at_least=1)
        self.num_samples = int(num_samples)
        check_seed(seed)
        self.words = [int(word) for word in (seed if isinstance(seed, Sequence) else [seed])]
        check_hints(hints)
        if num_samples > MOST_SAMPLES:
            raise UserError(f"expected num_samples of at most {MOST_SAMPLES}, given {shown(num_samples)}")
        for size in self.sizes:
            self.draw_graph(np.random.RandomState(0), size)

    @property
    def spec(self) -> Spec:
        """The probes by name."""
        return SPARSE_TASKS[self.task].spec

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> SparseData:
        rng = np.random.RandomState([*self.words, range(self.num_samples)[index]])
        graph = self.draw_graph(rng, self.sizes[rng.randint(len(self.sizes))])
        return run_task(self.task, graph, SPARSE_TASKS[self.task].draw(rng, graph), self.hints)

    def __getitems__(self, indices: Sequence[int]) -> list[SparseData]:
        """What a ``DataLoader`` asks for: the samples of a batch, padded to the same length."""
        return padded([self[index] for index in indices])

    def draw_graph(self, rng: np.random.RandomState, num_nodes: int) -> Graph:
        """A connected graph of the family."""
        parameters = {**drawn_parameters(self.graphs, rng, num_nodes), **self.parameters}
        for _ in range(MAX_DRAWS):
            graph = graph_of(draw_edges(self.graphs, rng, num_nodes, **parameters), num_nodes)
            if num_reached(graph, 0) == num_nodes:
                return graph
        raise UserError(
            f"expected a connected graph of {self.graphs} on {num_nodes} nodes, drawn {MAX_DRAWS} that are none: "
            "ask for more edges"
        )


def drawn_parameters(family: str, rng: np.random.RandomState, num_nodes: int) -> dict[str, Any]:
    """Those parameters of a family that SALSA-CLRS draws for each graph."""
    if family == "erdos_renyi":
        return {"p": sparse_density(rng, num_nodes)}
    if family == "watts_strogatz":
        degrees = [k for k in (4, 6, 8) if k < num_nodes] or [4]
        return {"k": degrees[rng.randint(len(degrees))], "rewiring": rng.uniform(0.05, 0.2)}
    return {}


def trajectory(task: str, graph: Graph, inputs: tuple[Any, ...], hints: Hints = "all") -> SparseData:
    """Run a task on a connected graph.

    Args:
        task: One of :data:`SPARSE_TASKS`.
        graph: Of at least 2 nodes, as :func:`graph_of` makes it.
        inputs: Those other than ``pos``, as the task draws them.
        hints: Which to keep.

    Raises:
        UserError: If the graph is not such a one (the flood of ``eccentricity`` might never come back) or an input not
            what the task takes, or the hints would not fit into memory.
    """
    check_known("task", task, SPARSE_TASKS)
    check_hints(hints)
    check_graph(graph)
    return run_task(task, graph, checked_inputs(task, graph, inputs), hints)


def check_graph(graph: Graph) -> None:
    """Raise a :class:`UserError` unless :func:`graph_of` can have made the graph."""
    try:
        senders, receivers = graph.edge_index[:, : len(graph.reverse)]
        same = graph_of(np.stack([senders, receivers], axis=1)[senders < receivers], graph.num_nodes)
        is_right = all(np.array_equal(*arrays) for arrays in zip(graph, same, strict=True))
    except (AttributeError, IndexError, TypeError, ValueError):
        is_right = False
    if not is_right:
        raise UserError(f"expected a graph as graph_of makes it, given {shown(graph)}")


def checked_inputs(task: str, graph: Graph, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs of a task in the form in which it draws them.

    Raises:
        UserError: If one is not what the task takes.
    """
    names = [name for name in at_stage(SPARSE_TASKS[task].spec, Stage.INPUT) if name != "pos"]
    if not isinstance(inputs, tuple | list) or len(inputs) != len(names):
        raise UserError(f"{task}: expected a tuple of {' and '.join(names) or 'no inputs'}, given {shown(inputs)}")
    checked: list[Any] = []
    for name, value in zip(names, inputs, strict=True):
        if name == "s":
            checked.append(check_node(name, value, graph.num_nodes))
        elif name == "A":
            checked.append(checked_weights(graph, value))
        else:
            checked.append(checked_randomness(graph, value))
    return tuple(checked)


def checked_weights(graph: Graph, A: Any) -> NumpyArray:
    """Weights of edges, the same both ways, and of loops."""
    weights = within("A", A, (len(graph.receivers),), 0)
    of_edges = weights[: len(graph.reverse)]
    if not np.array_equal(of_edges, of_edges[graph.reverse]):
        raise UserError("expected A to have the same weight both ways, given two that differ")
    if of_edges.max(initial=0) * (graph.num_nodes - 1) >= FAR:
        raise UserError(f"expected paths shorter than {FAR:g}, given weights up to {of_edges.max():g}")
    return weights


def checked_randomness(graph: Graph, randomness: Any) -> NumpyArray:
    """Numbers for as many rounds, two of each, as it takes until no node is alive."""
    num_times = randomness.shape[-1] if isinstance(randomness, np.ndarray) and randomness.ndim else 0
    numbers = array_of("randomness", randomness, (graph.num_nodes, num_times))
    alive, inmis = np.ones(graph.num_nodes, np.int8), np.zeros(graph.num_nodes, np.int8)
    for time in range(0, num_times, 2):
        play_round(graph, numbers[:, time].copy(), alive, inmis)
    if alive.any() or num_times % 2:
        raise UserError(f"expected randomness of twice as many times as there are rounds, given {num_times}")
    return numbers


def run_task(task: str, graph: Graph, inputs: tuple[Any, ...], hints: Hints) -> SparseData:
    """Run a task on what it has drawn."""
    reached = num_reached(graph, 0)
    if not 2 <= reached == graph.num_nodes:
        raise UserError(
            f"expected at least 2 nodes, all connected; of the {graph.num_nodes} given node 0 reaches {reached}"
        )
    spec, _, run = SPARSE_TASKS[task]
    trace = Trace(np.zeros(1, np.int64), _buffers(at_stage(spec, Stage.HINT), graph, 0))
    outputs = run(graph, *inputs, trace)
    length = int(trace.length[0])
    room = {"all": length, "first": 1, "none": 0}[hints]
    if room:
        trace = Trace(np.zeros(1, np.int64), _buffers(at_stage(spec, Stage.HINT), graph, room))
        run(graph, *inputs, trace)
    stages = {Stage.INPUT: (positions(graph.num_nodes), *inputs), Stage.OUTPUT: outputs}
    if room:
        stages[Stage.HINT] = tuple(np.atleast_2d(buffer.T) for buffer in trace.buffers)
    data = SparseData(task=task, edge_index=torch.as_tensor(graph.edge_index), num_nodes=graph.num_nodes)
    data.length = torch.tensor([length])
    for stage, values in stages.items():
        for (name, probe), value in zip(at_stage(spec, stage).items(), values, strict=True):
            data[name] = _tensor(probe, value)
    return data


def padded(data: Iterable[SparseData]) -> list[SparseData]:
    """The same trajectories of one task, with hints as long as the longest, so that PyG's ``Batch`` takes them."""
    samples = [copy(sample) for sample in data]
    spec = SPARSE_TASKS[samples[0].task].spec
    for name in ["randomness", *at_stage(spec, Stage.HINT)]:
        if name in samples[0]:
            longest = max(sample[name].shape[-1] for sample in samples)
            for sample in samples:
                sample[name] = pad(sample[name], (0, longest - sample[name].shape[-1]))
    return samples


def _dtype(probe: Probe) -> Any:
    """Of its compact values."""
    return np.dtype({**DTYPES, **DTYPES_OF_INDICES}[probe.type])


def _buffers(spec: Spec, graph: Graph, num_times: int) -> tuple[NumpyArray, ...]:
    """Room for hints, [T, N], [T, E] or [T]."""
    sizes = {Location.NODE: [graph.num_nodes], Location.EDGE: [len(graph.receivers)], Location.GRAPH: []}
    shapes = [(num_times, *([] if probe.type is Type.MASK_ONE else sizes[probe.location])) for probe in spec.values()]
    types = [_dtype(probe) for probe in spec.values()]
    needed = sum(math.prod(shape) * type_.itemsize for shape, type_ in zip(shapes, types, strict=True))
    free = num_free_bytes() if needed >= NEVER_ASKED else needed
    if needed > free:
        raise UserError(
            f"{num_times} hints on {graph.num_nodes} nodes would take {needed / 2**30:.1f} GiB, and "
            f'{free / 2**30:.1f} GiB are free: ask for hints="first" or "none"'
        )
    return tuple(np.zeros(shape, type_) for shape, type_ in zip(shapes, types, strict=True))


def _tensor(probe: Probe, value: Any) -> Tensor:
    """The data of a probe, with an axis of graphs if it has one value for each."""
    data = np.atleast_1d(value)
    if probe.type is Type.SCALAR:
        return torch.tensor(data, dtype=torch.get_default_dtype())
    return torch.as_tensor(data.astype(_dtype(probe), copy=False))
