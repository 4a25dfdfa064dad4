"""Dynamic programming: the order of a matrix chain, the longest common subsequence, the optimal binary search tree.

Source: Cormen et al., "Introduction to Algorithms"; Aho, Hopcroft and Ullman, "The design and analysis of computer
algorithms", 1974; ``clrs/_src/algorithms/dynamic_programming.py`` of dm-clrs 2.0.3, whose probes these are.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets.clrs30.given import SMALLEST, take_two_strings, two_strings, within
from nar.datasets.clrs30.known import InText, KnownAlgorithm, table
from nar.datasets.clrs30.sorting import draw_keys, key_inputs, sequence
from nar.datasets.engine.algorithm import positions
from nar.datasets.engine.trace import Trace, record
from nar.errors import UserError
from nar.specs import MASKED

DIAGONAL, UP, LEFT = 0, 1, 2
"""Where the longest common subsequence of two prefixes comes from."""


def _take_dimensions(num_nodes: int, p: Any, *, least: float = SMALLEST) -> tuple[NumpyArray]:
    """Numbers of rows and columns, which need not be whole."""
    return (within("p", p, (num_nodes,), least),)


@njit(cache=True)
def matrix_chain_order(p: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Split matrices i to j, where matrix i is p[i - 1] by p[i], so that their product takes the fewest operations.

    In each round, all chains are split anew from the costs of the round before, until no cost changes.

    Raises:
        UserError: If they never stop changing, for which dm-clrs would wait without end.
    """
    n = len(p)
    pred = sequence(np.arange(n))
    m, s, msk = np.zeros((n, n)), np.zeros((n, n), np.int16), np.eye(n, dtype=np.int8)
    msk[0, 0] = 0
    for _ in range(n):  # after round r, the costs of all chains of r + 1 matrices are there
        prev_m, prev_msk = m.copy(), msk.copy()
        record(trace, pred, m, s, msk)
        for i in range(1, n):
            for j in range(i + 1, n):
                for k in range(i, j):
                    if prev_msk[i, k] and prev_msk[k + 1, j]:
                        q = prev_m[i, k] + prev_m[k + 1, j] + p[i - 1] * p[k] * p[j]
                        if not msk[i, j] or q < m[i, j]:
                            m[i, j], s[i, j], msk[i, j] = q, k, 1
        if (prev_m == m).all():
            return (s,)
    raise UserError("expected costs that settle, given dimensions whose product is no number")


def draw_strings(
    rng: np.random.RandomState, num_nodes: int, *, length_2: int | None = None, chars: int = 4
) -> tuple[NumpyArray, NumpyArray]:
    """Two strings of characters below `chars`.

    Args:
        rng: Draws them.
        num_nodes: The length of the first string; of both together if there is no `length_2`.
        length_2: The length of the second string.
        chars: How many characters there are.

    Raises:
        UserError: If a string would be empty.
    """
    if length_2 is None:
        length_2 = num_nodes // 2
        num_nodes -= length_2
    if min(num_nodes, length_2) < 1:
        raise UserError(f"expected two strings of at least one character, given lengths {num_nodes} and {length_2}")
    characters = rng.randint(0, chars, num_nodes + length_2)
    return characters[:num_nodes], characters[num_nodes:]


def _scored_pairs(inputs: Mapping[str, NumpyArray]) -> NumpyArray:
    """Which pairs of letters are of both strings, which alone have a score."""
    of_both: NumpyArray = (inputs["string"][:, None] == 0) & (inputs["string"] == 1)
    return of_both


def string_inputs(x: NumpyArray, y: NumpyArray) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """``string``, ``pos`` and ``key``."""
    n, m = len(x), len(y)
    pos = np.concatenate([positions(n), positions(m)])
    return np.arange(n + m) >= n, pos, np.concatenate([x, y])


@njit(cache=True)
def lcs_length(x: NumpyArray, y: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Lengths c of the longest common subsequences of all prefixes, and b, where they come from.

    First come the prefixes of one character; then, in each round, all others anew from the round before, until no
    length changes.
    """
    n, m = len(x), len(y)
    pred = np.concatenate((sequence(np.arange(n)), n + sequence(np.arange(m))))
    c_h, b_h = np.zeros((n + m, n + m)), np.full((n + m, n + m), MASKED, np.int8)
    c, b = c_h[:n, n:], b_h[:n, n:]
    b[:] = DIAGONAL
    for i in range(n):
        if x[i] == y[0]:
            c[i, 0] = 1
        else:
            c[i, 0] = c[i - 1, 0] if i > 0 else 0
            b[i, 0] = UP
    for j in range(m):
        if x[0] == y[j]:
            c[0, j] = 1
        else:
            c[0, j] = c[0, j - 1] if j > 0 else 0
            b[0, j] = LEFT if c[0, j] else UP
    while True:
        prev_c = c.copy()
        record(trace, pred, b_h, c_h)
        for i in range(1, n):
            for j in range(1, m):
                if x[i] == y[j]:
                    c[i, j], b[i, j] = prev_c[i - 1, j - 1] + 1, DIAGONAL
                elif prev_c[i - 1, j] >= prev_c[i, j - 1]:
                    c[i, j], b[i, j] = prev_c[i - 1, j], UP
                else:
                    c[i, j], b[i, j] = prev_c[i, j - 1], LEFT
        if (prev_c == c).all():
            return (b_h,)


def _draw_probabilities(rng: np.random.RandomState, num_nodes: int) -> tuple[NumpyArray, NumpyArray]:
    """Probabilities of looking for each key, and of looking for what lies before, between and after the keys."""
    probabilities = rng.uniform(size=2 * num_nodes + 1)
    probabilities /= probabilities.sum()
    return probabilities[:num_nodes], probabilities[num_nodes:]


def _take_probabilities(num_nodes: int, p: Any, q: Any) -> tuple[NumpyArray, NumpyArray]:
    """Probabilities of the keys, and of what lies before, between and after them."""
    return within("p", p, (num_nodes,), 0, 1), within("q", q, (num_nodes + 1,), 0, 1)


def _probability_inputs(p: NumpyArray, q: NumpyArray) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """``pos``, ``p`` with a zero at the end, and ``q``."""
    return positions(len(q)), np.append(p, 0.0), q


def _p_and_q(inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Probabilities, by the inputs that are made of them."""
    return inputs["p"][:-1], inputs["q"]


@njit(cache=True)
def optimal_bst(p: NumpyArray, q: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """For keys i to j - 1, the root of the search tree with the least expected cost e; w is their total probability."""
    n = len(p)
    pred = sequence(np.arange(n + 1))
    e, w = np.diag(q), np.diag(q)
    root, msk = np.zeros((n + 1, n + 1), np.int16), np.eye(n + 1, dtype=np.int8)
    record(trace, pred, root, e, w, msk)
    for num_keys in range(1, n + 1):
        for i in range(n - num_keys + 1):
            j = i + num_keys
            e[i, j] = 1e9
            w[i, j] = w[i, j - 1] + p[j - 1] + q[j]
            for r in range(i, j):
                t = e[i, r] + e[r + 1, j] + w[i, j]
                if t < e[i, j]:
                    e[i, j], root[i, j] = t, r
            msk[i, j] = 1
        record(trace, pred, root, e, w, msk)
    return (root,)


DYNAMIC_PROGRAMMING = table(
    KnownAlgorithm(
        "matrix_chain_order",
        draw_keys,
        key_inputs,
        matrix_chain_order,
        _take_dimensions,
        InText(10, 12, take=partial(_take_dimensions, least=0)),  # with 0, costs may settle before all chains have one
    ),
    KnownAlgorithm(
        "lcs_length",
        draw_strings,
        string_inputs,
        lcs_length,
        take_two_strings,
        InText(10, 12, scored=_scored_pairs, given=two_strings),
        min_num_nodes_with={"length_2": 1},
    ),
    KnownAlgorithm(
        "optimal_bst",
        _draw_probabilities,
        _probability_inputs,
        optimal_bst,
        _take_probabilities,
        InText(10, 10, given=_p_and_q),
        min_num_nodes=1,  # it has a node more
    ),
)
