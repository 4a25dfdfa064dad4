"""Shortest paths: Bellman-Ford, Dijkstra, through a directed acyclic graph, and Floyd-Warshall.

Source: Cormen et al., "Introduction to Algorithms"; ``clrs/_src/algorithms/graphs.py`` of dm-clrs 2.0.3, whose probes
these are.
"""
# A is the matrix of weights, 0 where there is no edge; d holds distances from the source s, pi predecessors. Masks tell
# where there is a distance yet: d is 0, and not infinite, where there is none.

import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets.clrs30.graph_traversal import BLACK, GREY, WHITE, adjacency, argsort
from nar.datasets.engine.trace import Trace, record
from nar.errors import UserError


@njit(cache=True)
def extract_min(keys: NumpyArray, in_queue: NumpyArray) -> int:
    """The node of the smallest key in the queue: of several, the one that NumPy sorts first."""
    queue = keys + (1.0 - in_queue) * 1e9
    u = int(np.argmin(queue))
    return u if np.sum(queue == queue[u]) == 1 else argsort(queue)[0]


@njit(cache=True)
def bellman_ford(A: NumpyArray, s: int, trace: Trace) -> tuple[NumpyArray]:
    """Relax all edges that leave a node reached before, until no distance changes.

    Raises:
        UserError: If they never stop changing, for which dm-clrs would wait without end.
    """
    n = len(A)
    pi, d, msk = np.arange(n), np.zeros(n), np.zeros(n, np.int8)
    msk[s] = 1
    for _ in range(n):
        prev_d, prev_msk = d.copy(), msk.copy()
        record(trace, pi, d, msk)
        for u in range(n):
            for v in range(n):
                if prev_msk[u] == 1 and A[u, v] != 0:
                    if msk[v] == 0 or prev_d[u] + A[u, v] < d[v]:
                        d[v] = prev_d[u] + A[u, v]
                        pi[v] = u
                    msk[v] = 1
        if np.all(d == prev_d):
            return (pi,)
    raise UserError("expected distances that settle, given a cycle of negative weight or a weight that is no number")


@njit(cache=True)
def dijkstra(A: NumpyArray, s: int, trace: Trace) -> tuple[NumpyArray]:
    """Take the nearest node out of the queue and relax the edges that leave it, until the queue is empty."""
    n = len(A)
    pi, d, mark, in_queue = np.arange(n), np.zeros(n), np.zeros(n, np.int8), np.zeros(n, np.int8)
    in_queue[s] = 1
    record(trace, pi, d, mark, in_queue, s)
    for _ in range(n):
        u = extract_min(d, in_queue)
        if in_queue[u] == 0:
            break
        mark[u], in_queue[u] = 1, 0
        for v in range(n):
            if A[u, v] != 0 and mark[v] == 0 and (in_queue[v] == 0 or d[u] + A[u, v] < d[v]):
                pi[v], d[v], in_queue[v] = u, d[u] + A[u, v], 1
        record(trace, pi, d, mark, in_queue, u)
    return (pi,)


@njit(cache=True)
def dag_shortest_paths(A: NumpyArray, s: int, trace: Trace) -> tuple[NumpyArray]:
    """Sort what the source reaches topologically, then relax the edges that leave one node after another."""
    n = len(A)
    pi, d, mark, topo = np.arange(n), np.zeros(n), np.zeros(n, np.int8), np.arange(n)
    color, s_prev = np.zeros(n, np.int8), np.arange(n)
    topo_head = 0
    u = v = s_last = s
    while True:
        record(trace, pi, d, mark, topo, topo_head, color, s_prev, u, v, s_last, 0)
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

    mark[s] = 1
    while topo[topo_head] != topo_head:
        i = topo_head
        mark[i] = 1
        record(trace, pi, d, mark, topo, topo_head, color, s_prev, u, v, s_last, 1)
        for j in range(n):
            if A[i, j] != 0 and (mark[j] == 0 or d[i] + A[i, j] < d[j]):
                pi[j], d[j], mark[j] = i, d[i] + A[i, j], 1
        topo_head = topo[i]
    record(trace, pi, d, mark, topo, topo_head, color, s_prev, u, v, s_last, 1)
    return (pi,)


@njit(cache=True)
def floyd_warshall(A: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Let paths between all pairs of nodes go through one node more at a time."""
    n = len(A)
    D, msk = A.copy(), adjacency(A)
    Pi = np.empty((n, n), np.int64)
    for i in range(n):
        Pi[i] = i
    for k in range(n):
        prev_D, prev_msk = D.copy(), msk.copy()
        record(trace, Pi, D, msk, k)
        for i in range(n):
            for j in range(n):
                if prev_msk[i, k] == 1 and prev_msk[k, j] == 1:
                    if msk[i, j] == 0 or prev_D[i, k] + prev_D[k, j] < D[i, j]:
                        D[i, j] = prev_D[i, k] + prev_D[k, j]
                        Pi[i, j] = Pi[k, j]
                    msk[i, j] = 1
    return (Pi,)
