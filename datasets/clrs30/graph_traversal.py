"""Traversal of graphs: breadth-first and depth-first search, and what depth-first search finds.

Source: Cormen et al., "Introduction to Algorithms"; ``clrs/_src/algorithms/graphs.py`` of dm-clrs 2.0.3, whose probes
these are.
"""
# A is the matrix of edges, pi holds predecessors, d and f the times at which nodes are discovered and finished. Grey
# nodes lie on a stack: s_last on top, s_prev[v] below v, at the bottom the node s, which points at itself.

import numpy as np
from numba import njit, objmode

from nar.batch import NumpyArray
from nar.datasets.engine.trace import Trace, record

WHITE, GREY, BLACK = 0, 1, 2
TICK = 0.01
"""What is added to the time, and to a count."""


@njit(cache=True)
def adjacency(A: NumpyArray) -> NumpyArray:
    """1 where there is an edge and, as if every node had a loop, on the diagonal; 0 elsewhere."""
    adj: NumpyArray = A + np.eye(len(A)) != 0
    return adj.astype(np.int8)


@njit(cache=True)
def argsort(keys: NumpyArray) -> NumpyArray:
    """The order that ``np.argsort`` gives: numba's own puts equal keys in another order."""
    with objmode(order="int64[::1]"):
        order = np.argsort(keys)
    return order


@njit(cache=True)
def bfs(A: NumpyArray, s: int, trace: Trace) -> tuple[NumpyArray]:
    """From the source, reach the neighbours of all nodes reached before, until there are no new ones."""
    n = len(A)
    reach, pi = np.zeros(n, np.int8), np.arange(n)
    reach[s] = 1
    while True:
        prev_reach = reach.copy()
        record(trace, reach, pi)
        for i in range(n):
            for j in range(n):
                if A[i, j] > 0 and prev_reach[i] == 1:
                    if pi[j] == j and j != s:
                        pi[j] = i
                    reach[j] = 1
        if np.all(reach == prev_reach):
            return (pi,)


@njit(cache=True)
def dfs(A: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Go on to a white neighbour for as long as there is one, and back to where one is left."""
    n = len(A)
    pi, color, d, f, s_prev = np.arange(n), np.zeros(n, np.int8), np.zeros(n), np.zeros(n), np.arange(n)
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
                s_last, s_prev[u] = s_prev[u], u
            u = s_last
            if d[u] == 0:
                time += TICK
                color[u], d[u] = GREY, time
                continue
            for v in range(n):
                if A[u, v] != 0 and color[v] == WHITE:
                    pi[v], color[v] = u, GREY
                    s_prev[v], s_last = s_last, v
                    break
            else:
                time += TICK
                color[u], f[u] = BLACK, time
    return (pi,)


@njit(cache=True)
def topological_sort(A: NumpyArray, trace: Trace) -> tuple[NumpyArray, int]:
    """Search depth first, and put each node in front of the others when it is finished."""
    n = len(A)
    topo, color, s_prev = np.arange(n), np.zeros(n, np.int8), np.arange(n)
    topo_head = 0
    for s in range(n):
        if color[s] != WHITE:
            continue
        u = v = s_last = s
        while True:
            record(trace, topo, topo_head, color, s_prev, s, u, v, s_last)
            if color[u] == BLACK:
                if u == s:
                    break
                s_last, s_prev[u] = s_prev[u], u
            u = s_last
            if color[u] == WHITE:
                color[u] = GREY
                continue
            for v in range(n):
                if A[u, v] != 0 and color[v] == WHITE:
                    color[v] = GREY
                    s_prev[v], s_last = s_last, v
                    break
            else:
                color[u] = BLACK
                if color[topo_head] == BLACK:
                    topo[u] = topo_head
                topo_head = u
    return topo, topo_head


@njit(cache=True)
def strongly_connected_components(A: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Search depth first, then once more against the edges, beginning with the node finished last (Kosaraju)."""
    n = len(A)
    scc_id, d, f = np.arange(n), np.zeros(n), np.zeros(n)
    A_t = adjacency(A.T)
    order: NumpyArray = np.arange(n)
    time = 0.0
    for phase in range(2):
        color, s_prev = np.zeros(n, np.int8), np.arange(n)
        for s in order:
            if color[s] != WHITE:
                continue
            u = v = s_last = s
            while True:
                record(trace, scc_id, A_t, color, d, f, s_prev, s, u, v, s_last, time, phase)
                if color[u] == BLACK:
                    if u == s:
                        break
                    s_last, s_prev[u] = s_prev[u], u
                u = s_last
                if phase == 1:
                    scc_id[u] = s
                if color[u] == WHITE or d[u] == 0:
                    time += TICK
                    color[u], d[u] = GREY, time
                    continue
                for v in range(n):
                    edge = A[u, v] if phase == 0 else A[v, u]
                    if edge != 0 and color[v] == WHITE:
                        color[v] = GREY
                        s_prev[v], s_last = s_last, v
                        break
                else:
                    time += TICK
                    color[u], f[u] = BLACK, time
        order = argsort(-f)
    return (scc_id,)


@njit(cache=True)
def articulation_points(A: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Search depth first; a node is cut if a child reaches nothing before it, a root if it has two children."""
    n = len(A)
    is_cut, pi, color, s_prev = np.zeros(n, np.int8), np.arange(n), np.zeros(n, np.int8), np.arange(n)
    d, f, low, child_cnt = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    time = 0.0
    for s in range(n):
        if color[s] != WHITE:
            continue
        u = v = s_last = s
        while True:
            record(trace, is_cut, pi, color, d, f, low, child_cnt, s_prev, s, u, v, s_last, time)
            if color[u] == BLACK:
                if u == s:
                    break
                s_last, s_prev[u] = s_prev[u], u
            u = s_last
            if d[u] == 0:
                time += TICK
                color[u], d[u], low[u] = GREY, time, time
                continue
            for v in range(n):
                if A[u, v] != 0 and color[v] == WHITE:
                    pi[v], color[v] = u, GREY
                    s_prev[v], s_last = s_last, v
                    child_cnt[u] += TICK
                    break
                if A[u, v] != 0 and v != pi[u]:
                    low[u] = min(low[u], d[v])
                    record(trace, is_cut, pi, color, d, f, low, child_cnt, s_prev, s, u, v, s_last, time)
            else:
                time += TICK
                color[u], f[u] = BLACK, time
                for v in range(n):
                    if pi[v] == u:
                        low[u] = min(low[u], low[v])
                        if u != s and low[v] >= d[u]:
                            is_cut[u] = 1
                if u == s and child_cnt[u] > TICK:
                    is_cut[u] = 1
    return (is_cut,)


@njit(cache=True)
def bridges(A: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Search depth first; the edge to a child is a bridge if the child reaches nothing before itself."""
    n = len(A)
    is_bridge = adjacency(A) - np.int8(1)
    pi, color, s_prev = np.arange(n), np.zeros(n, np.int8), np.arange(n)
    d, f, low = np.zeros(n), np.zeros(n), np.zeros(n)
    time = 0.0
    for s in range(n):
        if color[s] != WHITE:
            continue
        u = v = s_last = s
        while True:
            record(trace, is_bridge, pi, color, d, f, low, s_prev, s, u, v, s_last, time)
            if color[u] == BLACK:
                if u == s:
                    break
                s_last, s_prev[u] = s_prev[u], u
            u = s_last
            if d[u] == 0:
                time += TICK
                color[u], d[u], low[u] = GREY, time, time
                continue
            for v in range(n):
                if A[u, v] != 0 and color[v] == WHITE:
                    pi[v], color[v] = u, GREY
                    s_prev[v], s_last = s_last, v
                    break
                if A[u, v] != 0 and v != pi[u]:
                    low[u] = min(low[u], d[v])
                    record(trace, is_bridge, pi, color, d, f, low, s_prev, s, u, v, s_last, time)
            else:
                time += TICK
                color[u], f[u] = BLACK, time
                for v in range(n):
                    if pi[v] == u:
                        low[u] = min(low[u], low[v])
                        if low[v] > d[u]:
                            is_bridge[u, v] = is_bridge[v, u] = 1
    return (is_bridge,)
