"""The algorithms of SALSA-CLRS on sparse graphs, what they are given and their probes, and all of them by name.

Nothing here is a matrix of nodes by nodes: graphs are lists of edges, and all that describes two nodes is on an edge.

Source: Minder et al., "SALSA-CLRS: A Sparse and Scalable Benchmark for Algorithmic Reasoning", LoG 2023, and its code,
https://github.com/jkminder/SALSA-CLRS, whose probes these are; dm-clrs 2.0.3 for the algorithms of CLRS-30.
"""
# Axes: N nodes, T time.

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets.clrs30.graph_traversal import BLACK, GREY, TICK, WHITE
from nar.datasets.clrs30.shortest_paths import extract_min
from nar.datasets.clrs30.specs import SPECS
from nar.datasets.engine.trace import Trace, record
from nar.datasets.salsa.graph import Graph, loops
from nar.specs import Location, Probe, Spec, Stage, Type


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
def _has_open_child(graph: Graph, node: int, tree: NumpyArray) -> bool:
    """Whether there is an edge to a node that the flood reached from this one and that has not sent its echo yet.

    Two nodes that flooded each other are not each other's children.
    """
    for e in range(graph.start[node], graph.start[node + 1]):  # noqa: SIM110 (numba compiles no `any`)
        if tree[e] and not tree[graph.reverse[e]]:
            return True
    return False


@njit(cache=True)
def _send_echo(
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
                    _send_echo(graph, node, floodstate[node], visited, next_msgphase, next_echostate, next_tree)
            elif leaf[node] == 0 and not _has_open_child(graph, node, tree):
                if node == s:
                    done = True
                    break
                leaf[node] = 1
                _send_echo(graph, node, echostate[node], visited, next_msgphase, next_echostate, next_tree)
        visited, msgphase, tree, echostate = next_visited, next_msgphase, next_tree, next_echostate
        for node in range(n):
            if messages[node] > 0:
                if not visited[node]:
                    floodstate[node] = messages[node]
                elif not _has_open_child(graph, node, tree):
                    leaf[node], echostate[node], msgphase[node] = 1, floodstate[node], 1
                    _send_echo(graph, node, floodstate[node], visited, msgphase, echostate, tree)
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


def _draw_nothing(rng: np.random.RandomState, graph: Graph) -> tuple[()]:
    """There is no input other than the graph."""
    return ()


def _draw_source(rng: np.random.RandomState, graph: Graph) -> tuple[int]:
    """Any node."""
    return (rng.randint(graph.num_nodes),)


def _draw_source_and_weights(rng: np.random.RandomState, graph: Graph) -> tuple[int, NumpyArray]:
    """Any node, and weights as dm-clrs draws them (see ``weighted_both_ways``); loops weigh 1, as in SALSA-CLRS."""
    uniform = rng.random_sample(len(graph.reverse))
    weights = np.sqrt(uniform * uniform[graph.reverse] + 1e-3)
    return *_draw_source(rng, graph), np.concatenate([weights, np.ones(graph.num_nodes)])


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
    "bfs": Task(_without(["A", "adj"], "bfs"), _draw_source, bfs),
    "dfs": Task(_without(["A", "adj"], "dfs"), _draw_nothing, dfs),
    "dijkstra": Task(_without(["adj"], "dijkstra"), _draw_source_and_weights, dijkstra),
    "mst_prim": Task(_without(["adj"], "mst_prim"), _draw_source_and_weights, mst_prim),
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
        _draw_source,
        eccentricity,
    ),
}
"""The six tasks by name."""
