"""String matching: the naive matcher and that of Knuth, Morris and Pratt.

Source: Cormen et al., "Introduction to Algorithms"; ``clrs/_src/algorithms/strings.py`` of dm-clrs 2.0.3, whose probes
these are.
"""
# T is the haystack, of n letters, and P the needle, of m. The nodes are the letters of T and after them those of P.

from typing import Any

import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets.clrs30.given import take_two_strings, two_strings
from nar.datasets.clrs30.known import InText, KnownAlgorithm, table
from nar.datasets.engine.trace import Trace, record
from nar.errors import UserError


def draw_strings(
    rng: np.random.RandomState, num_nodes: int, *, length_needle: int | None = None, chars: int = 4
) -> tuple[NumpyArray, NumpyArray]:
    """A random haystack into which a random needle was put.

    Args:
        rng: What draws.
        num_nodes: The length of both together.
        length_needle: That of the needle; by default a fifth of all, and if negative, drawn from 1 to its absolute
            value.
        chars: How many different letters there can be, at most 4.

    Raises:
        UserError: If the needle is empty or not shorter than the haystack.
    """
    if length_needle is None:
        m = max(num_nodes // 5, 1)
    elif length_needle < 0:
        m = rng.randint(1, 1 - length_needle)
    else:
        m = length_needle
    if m == 0:
        raise UserError("expected a length_needle of at least 1, or a negative one, given 0")
    n = num_nodes - m
    if m >= n:
        raise UserError(f"{num_nodes} nodes cannot hold a needle of {m} letters and a longer haystack")
    letters = rng.randint(0, chars, num_nodes)
    P, T = letters[:m], letters[m:]
    s = rng.randint(0, n - m)
    T[s : s + m] = P
    return T, P


def _take_haystack_and_needle(num_nodes: int, T: Any, P: Any) -> tuple[NumpyArray, NumpyArray]:
    """A haystack and a needle that is no longer."""
    T, P = take_two_strings(num_nodes, T, P, names=("T", "P"))
    if len(P) > len(T):
        raise UserError(f"expected a needle P no longer than the haystack T, given {len(P)} and {len(T)} letters")
    return T, P


@njit(cache=True)
def string_inputs(T: NumpyArray, P: NumpyArray) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """``string``, which is 1 in the needle, ``pos`` and ``key``."""
    n, m = len(T), len(P)
    string = np.zeros(n + m, np.int8)
    string[n:] = 1
    return string, np.concatenate((np.arange(n) / n, np.arange(m) / m)), np.concatenate((T, P))


@njit(cache=True)
def sequences(n: int, m: int) -> NumpyArray:
    """Each letter's predecessor in its string; the first ones point at themselves."""
    predecessors = np.arange(n + m) - 1
    predecessors[0], predecessors[n] = 0, n
    return predecessors


@njit(cache=True)
def naive_string_matcher(T: NumpyArray, P: NumpyArray, trace: Trace) -> tuple[int]:
    """Try one place after another, and at each compare letter by letter."""
    n, m = len(T), len(P)
    for s in range(n - m + 1):
        for j in range(m):
            record(trace, sequences(n, m), s, s + j, n + j)
            if T[s + j] != P[j]:
                break
        else:
            return (s,)
    return (n,)


@njit(cache=True)
def kmp_matcher(T: NumpyArray, P: NumpyArray, trace: Trace) -> tuple[int]:
    """Read the haystack once; where a letter does not match, go on with a shorter prefix of the needle that does."""
    n, m = len(T), len(P)
    pi, k = _compute_prefix_function(P, n, trace)
    q = -1
    for i in range(n):
        s = max(i - m + 1, 0)
        _record_prefixes(trace, n, pi, k, max(q, 0), q < 0, s, i, 1)
        while q >= 0 and P[q + 1] != T[i]:
            q = pi[q]
            _record_prefixes(trace, n, pi, k, max(q, 0), q < 0, s, i, 1)
        if P[q + 1] == T[i]:
            q += 1
        if q == m - 1:
            return (s,)
    return (n,)


@njit(cache=True)
def _compute_prefix_function(P: NumpyArray, n: int, trace: Trace) -> tuple[NumpyArray, int]:
    """Where the longest shorter prefix of P ends that is also a suffix of P[:q + 1], for each q and for the last.

    It is -1 where that prefix is empty.
    """
    m = len(P)
    pi = np.arange(m)
    pi[0] = k = -1
    _record_prefixes(trace, n, pi, k, min(1, m - 1), True, 0, 0, 0)
    for q in range(1, m):
        while k >= 0 and P[k + 1] != P[q]:
            k = pi[k]
            _record_prefixes(trace, n, pi, k, q, True, 0, 0, 0)
        if P[k + 1] == P[q]:
            k += 1
        pi[q] = k
        _record_prefixes(trace, n, pi, k, q, True, 0, 0, 0)
    return pi, k


@njit(cache=True)
def _record_prefixes(
    trace: Trace, n: int, pi: NumpyArray, k: int, q: int, q_reset: bool, s: int, i: int, phase: int
) -> None:
    """Write down where prefixes end: at the needle's first letter, and as a reset, if they are empty."""
    m = len(pi)
    pointers, is_reset = np.arange(n + m), np.zeros(n + m, np.int8)
    for j in range(m):
        pointers[n + j] = n + max(pi[j], 0)
        is_reset[n + j] = pi[j] < 0
    record(trace, sequences(n, m), pointers, is_reset, n + max(k, 0), k < 0, n + q, q_reset, s, i, phase)


STRINGS = table(
    KnownAlgorithm(
        "naive_string_matcher",
        draw_strings,
        string_inputs,
        naive_string_matcher,
        _take_haystack_and_needle,
        InText(31, 64, traced=("s",), given=two_strings),
        min_num_nodes=3,
        samples_multiplier=64,
        is_string_matcher=True,
    ),
    KnownAlgorithm(
        "kmp_matcher",
        draw_strings,
        string_inputs,
        kmp_matcher,
        _take_haystack_and_needle,
        InText(31, 64, traced=("s",), given=two_strings),
        min_num_nodes=3,
        samples_multiplier=64,
        is_string_matcher=True,
    ),
)
