"""Minimum spanning trees: Kruskal and Prim.

Source: Cormen et al., "Introduction to Algorithms"; ``clrs/_src/algorithms/graphs.py`` of dm-clrs 2.0.3, whose probes
these are.
"""
# A is the matrix of weights, 0 where there is no edge; pi holds predecessors, for Kruskal those in trees of a forest of
# disjoint sets.

import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets.clrs30.graph_traversal import argsort
from nar.datasets.clrs30.shortest_paths import extract_min
from nar.datasets.engine.trace import Trace, record


@njit(cache=True)
def mst_kruskal(A: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """From the lightest edge to the heaviest, take each that joins two trees."""
    n = len(A)
    in_mst, pi = np.zeros((n, n), np.int8), np.arange(n)
    mask_u, mask_v = np.zeros(n, np.int8), np.zeros(n, np.int8)
    record(trace, in_mst, pi, 0, 0, 0, 0, mask_u, mask_v, 0)
    edges = [(u, v) for u in range(n) for v in range(u + 1, n) if A[u, v] > 0]
    weights = np.array([A[u, v] for u, v in edges])
    for i in argsort(weights):
        u, v = edges[i]
        root_u, root_v = u, v
        mask_u[:], mask_v[:] = 0, 0
        mask_u[u] = mask_v[v] = 1
        record(trace, in_mst, pi, u, v, root_u, root_v, mask_u, mask_v, 1)
        while pi[root_u] != root_u:
            root_u = _climb(pi, root_u, mask_u)
            record(trace, in_mst, pi, u, v, root_u, root_v, mask_u, mask_v, 1)
        while pi[root_v] != root_v:
            root_v = _climb(pi, root_v, mask_v)
            record(trace, in_mst, pi, u, v, root_u, root_v, mask_u, mask_v, 2)
        if root_u != root_v:
            in_mst[u, v] = in_mst[v, u] = 1
            pi[min(root_u, root_v)] = max(root_u, root_v)
        record(trace, in_mst, pi, u, v, root_u, root_v, mask_u, mask_v, 0)
    return (in_mst,)


@njit(cache=True)
def _climb(pi: NumpyArray, root: int, mask: NumpyArray) -> int:
    """Go up to the parent and let all nodes met before, those in the mask, point at it."""
    root = pi[root]
    for i in range(len(pi)):
        if mask[i] == 1:
            pi[i] = root
    mask[root] = 1
    return root


@njit(cache=True)
def mst_prim(A: NumpyArray, s: int, trace: Trace) -> tuple[NumpyArray]:
    """Let a tree grow from the source by the node that a lightest edge joins to it."""
    n = len(A)
    pi, key, mark, in_queue = np.arange(n), np.zeros(n), np.zeros(n, np.int8), np.zeros(n, np.int8)
    in_queue[s] = 1
    record(trace, pi, key, mark, in_queue, s)
    for _ in range(n):
        u = extract_min(key, in_queue)
        if in_queue[u] == 0:
            break
        mark[u], in_queue[u] = 1, 0
        for v in range(n):
            if A[u, v] != 0 and mark[v] == 0 and (in_queue[v] == 0 or A[u, v] < key[v]):
                pi[v], key[v], in_queue[v] = u, A[u, v], 1
        record(trace, pi, key, mark, in_queue, u)
    return (pi,)
