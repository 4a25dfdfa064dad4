"""Whether inputs of a user's own are what an algorithm of CLRS-30 takes: compiled code reads and writes without a look.

Every algorithm has a function here that has its arguments, of the size asked for, and returns them as its ``draw``
would have them: in the types that it is compiled for, and such that what it finds is right.
"""
# N is the number of nodes; A the matrix of edges, 0 where there is none, and s the source.

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from inspect import Parameter, signature
from typing import Any

import numpy as np

from nar.batch import NumpyArray
from nar.datasets.clrs30.families import GIVEN
from nar.datasets.clrs30.geometry import any_collinear
from nar.datasets.clrs30.graphs import acyclic
from nar.datasets.engine.arguments import is_finite, is_whole, shown
from nar.errors import UserError

LEAST, MOST = 1e-100, 1e100
"""Of the size of a number that is not 0: the products and sums that algorithms make then neither overflow nor vanish.
"""

MOST_EXACT = 2**53 - 1
"""Up to which a float that is a whole number is no other one, rounded."""

FAR = 1e9
"""What the algorithms that keep a queue add to the key of a node that is not in it: all keys have to be below."""

FLAT = 1e-14
"""Twice the area of a triangle, in squares that hold all points, below which rounding decides which way it turns."""

NUM_LETTERS = 4
UNDIRECTED = ("articulation_points", "bridges", "mst_kruskal", "mst_prim")
WITH_NEGATIVE_WEIGHTS = ("bellman_ford", "dag_shortest_paths", "floyd_warshall")


def check_given(algorithm: str, given: Sequence[Any], num_nodes: int) -> list[tuple[Any, ...]]:
    """What an algorithm of CLRS-30 is given, in the form that its ``draw`` gives it.

    Args:
        algorithm: The algorithm's name.
        given: Its arguments for each trajectory.
        num_nodes: The size of all of them, as the sampler would be asked for it.

    Raises:
        UserError: If one is not what the algorithm takes; the message names it.
    """
    take = TAKES[algorithm]
    parameters = signature(take).parameters.items()
    names = [name for name, parameter in parameters if parameter.kind is not Parameter.KEYWORD_ONLY][1:]
    taken = []
    for number, values in enumerate(given):
        try:
            if not isinstance(values, tuple | list) or len(values) != len(names):
                raise UserError(f"expected a tuple of {' and '.join(names)}, given {shown(values)}")
            taken.append(take(num_nodes, *values))
        except UserError as error:
            raise UserError(f"{algorithm}, input {number}: {error}") from error
    return taken


def array_of(name: str, value: Any, shape: tuple[int, ...]) -> NumpyArray:
    """The value as an array of floats of its own, all of them finite."""
    try:
        array = np.asarray(value)
    except Exception:  # of lists of different lengths, and whatever an object says that is asked for its numbers
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise UserError(f"expected numbers in {name}, given {shown(value)}")
    if array.shape != shape:
        raise UserError(f"expected {name} in shape {shape}, given {array.shape}")
    with np.errstate(all="ignore"):  # what is lost of longer types is looked at
        floats = np.array(array, np.float64, order="C")
        size = np.abs(floats)
    fits = (floats == 0) | (size >= LEAST) & (size <= MOST)
    if array.dtype.kind in "iu":
        fits &= size <= MOST_EXACT
    if not fits.all():
        most = f"{MOST:g}" if array.dtype.kind == "f" else MOST_EXACT
        raise UserError(f"expected 0 or a size from {LEAST:g} to {most} in {name}, given {array[~fits].flat[0]}")
    return floats


def within(
    name: str, value: Any, shape: tuple[int, ...], least: float, most: float = MOST, *, is_whole: bool = False
) -> NumpyArray:
    """The value as an array of numbers in [least, most]; of int64 if they are to be whole."""
    array = array_of(name, value, shape)
    fits = (array >= least) & (array <= most)
    if is_whole:
        fits &= array == np.floor(array)
    if not fits.all():
        limits = f"from {least:g} to {most:g}" if most < MOST else f"of at least {least:g}"
        raise UserError(f"expected {'whole ' * is_whole}numbers {limits} in {name}, given {array[~fits].flat[0]}")
    return array.astype(np.int64) if is_whole else array


def one_number(name: str, value: Any) -> float:
    """The value as a float."""
    if not is_finite(value) and getattr(value, "shape", None) != ():
        raise UserError(f"expected {name} to be a finite number, given {shown(value)}")
    return float(array_of(name, value, ()))


def length_of(name: str, value: Any) -> int:
    """How many entries there are of what has to be a list or an array."""
    try:
        return len(value)
    except TypeError as error:
        raise UserError(f"expected {name} to be a list or an array, given {shown(value)}") from error


def keys_alone(num_nodes: int, keys: Any) -> tuple[NumpyArray]:
    """Any keys."""
    return (array_of("keys", keys, (num_nodes,)),)


def target_and_sorted_keys(num_nodes: int, target: Any, keys: Any) -> tuple[float, NumpyArray]:
    """A target and ascending keys."""
    keys = array_of("keys", keys, (num_nodes,))
    if (descents := np.flatnonzero(np.diff(keys) < 0)).size:
        i = descents[0]
        raise UserError(f"expected keys in ascending order, given {keys[i + 1]} after {keys[i]}")
    return one_number("target", target), keys


def activities(num_nodes: int, s: Any, f: Any) -> tuple[NumpyArray, NumpyArray]:
    """Start and finish times."""
    s, f = array_of("s", s, (num_nodes,)), array_of("f", f, (num_nodes,))
    if (late := np.flatnonzero(s > f)).size:
        raise UserError(f"expected activities that finish after they start, given {s[late[0]]} to {f[late[0]]}")
    return s, f


def tasks(num_nodes: int, d: Any, w: Any) -> tuple[NumpyArray, NumpyArray]:
    """Deadlines and values."""
    return within("d", d, (num_nodes,), 1, MOST_EXACT, is_whole=True), array_of("w", w, (num_nodes,))


def dimensions(num_nodes: int, p: Any) -> tuple[NumpyArray]:
    """Numbers of rows and columns, which need not be whole."""
    return (within("p", p, (num_nodes,), LEAST),)


def probabilities(num_nodes: int, p: Any, q: Any) -> tuple[NumpyArray, NumpyArray]:
    """Probabilities of the keys, and of what lies before, between and after them."""
    return within("p", p, (num_nodes,), 0, 1), within("q", q, (num_nodes + 1,), 0, 1)


def two_strings(
    num_nodes: int, x: Any, y: Any, *, names: tuple[str, str] = ("x", "y")
) -> tuple[NumpyArray, NumpyArray]:
    """Two strings of one letter or more, of `num_nodes` letters together."""
    n, m = length_of(names[0], x), length_of(names[1], y)
    if min(n, m) < 1 or n + m != num_nodes:
        both = " and ".join(names)
        raise UserError(f"expected {num_nodes} letters in {both} together, one or more in each, given {n} and {m}")
    letters = partial(within, least=0, most=NUM_LETTERS - 1, is_whole=True)
    return letters(names[0], x, (n,)), letters(names[1], y, (m,))


def haystack_and_needle(num_nodes: int, T: Any, P: Any) -> tuple[NumpyArray, NumpyArray]:
    """A haystack and a needle that is no longer."""
    T, P = two_strings(num_nodes, T, P, names=("T", "P"))
    if len(P) > len(T):
        raise UserError(f"expected a needle P no longer than the haystack T, given {len(P)} and {len(T)} letters")
    return T, P


def segments(num_nodes: int, xs: Any, ys: Any) -> tuple[NumpyArray, NumpyArray]:
    """The ends of two segments, whatever size is asked for."""
    return array_of("xs", xs, (4,)), array_of("ys", ys, (4,))


def points(num_nodes: int, xs: Any, ys: Any) -> tuple[NumpyArray, NumpyArray]:
    """Points of which no three are on one line: else a hull depends on rounding, and Graham's scan might not end."""
    xs, ys = array_of("xs", xs, (num_nodes,)), array_of("ys", ys, (num_nodes,))
    extent = max(np.ptp(xs), np.ptp(ys))
    if len(np.unique(xs + 1j * ys)) < num_nodes:
        raise UserError("expected points that all differ, given two that are the same")
    if any_collinear(xs, ys, FLAT * extent**2):
        raise UserError("expected no three points on one line, given some that are")
    return xs, ys


def graph(num_nodes: int, A: Any, *, algorithm: str) -> tuple[NumpyArray]:
    """A graph of the kind that a graph algorithm is right on."""
    given = GIVEN[algorithm]
    shape = num_nodes, num_nodes
    if given.weights is None:
        A = within("A", A, shape, 0, 1, is_whole=True)
    elif algorithm in WITH_NEGATIVE_WEIGHTS:
        A = array_of("A", A, shape)
    else:
        A = within("A", A, shape, 0)
    if algorithm in UNDIRECTED and (one_way := np.argwhere(A != A.T)).size:
        u, v = one_way[0]
        raise UserError(f"expected A to be symmetric, given {A[u, v]} from {u} to {v} and {A[v, u]} back")
    csgraph = graph_algorithms()
    if given.directions is acyclic and (
        csgraph.connected_components(A, connection="strong")[0] < num_nodes or A.diagonal().any()
    ):
        raise UserError("expected A to have no cycles, given one that has")
    if (A.diagonal() < 0).any():
        raise UserError("expected no loop of negative weight in A, given one")
    if algorithm == "floyd_warshall":
        check_cycles(A, csgraph.floyd_warshall)
    longest = {"dijkstra": num_nodes - 1, "mst_prim": 1}.get(algorithm, 0) * A.max()
    if longest >= FAR:
        raise UserError(f"expected paths shorter than {FAR:g}, given weights up to {A.max():g} on {num_nodes} nodes")
    return (A.astype(np.float64) if algorithm == "strongly_connected_components" else A,)


def graph_and_source(num_nodes: int, A: Any, s: Any, *, algorithm: str) -> tuple[NumpyArray, int]:
    """A graph as :func:`graph` takes it, and a node of it."""
    (A,) = graph(num_nodes, A, algorithm=algorithm)
    s = check_node("s", s, num_nodes)
    if algorithm == "bellman_ford":
        check_cycles(A, partial(graph_algorithms().bellman_ford, indices=s))
    return A, s


def check_node(name: str, value: Any, num_nodes: int) -> int:
    """The value as a node."""
    if not is_whole(value) or not 0 <= value < num_nodes:
        raise UserError(f"expected {name} to be a node from 0 to {num_nodes - 1}, given {shown(value)}")
    return int(value)


def graph_algorithms() -> Any:
    """Those of SciPy, which take long to be imported and are needed for inputs of a user's own alone."""
    return import_module("scipy.sparse.csgraph")


def check_cycles(A: NumpyArray, distances: Callable[[NumpyArray], NumpyArray]) -> None:
    """Raise a :class:`UserError` if a function of SciPy finds a cycle of negative weight on its way."""
    try:
        if (A < 0).any():
            distances(A)
    except graph_algorithms().NegativeCycleError as error:
        raise UserError("expected A to have no cycles of negative weight, given one that has") from error


TAKES: Mapping[str, Callable[..., tuple[Any, ...]]] = {
    **dict.fromkeys(("insertion_sort", "bubble_sort", "heapsort", "quicksort"), keys_alone),
    **dict.fromkeys(("minimum", "quickselect", "find_maximum_subarray_kadane"), keys_alone),
    "binary_search": target_and_sorted_keys,
    "activity_selector": activities,
    "task_scheduling": tasks,
    "matrix_chain_order": dimensions,
    "lcs_length": two_strings,
    "optimal_bst": probabilities,
    **dict.fromkeys(("naive_string_matcher", "kmp_matcher"), haystack_and_needle),
    "segments_intersect": segments,
    **dict.fromkeys(("graham_scan", "jarvis_march"), points),
    **{
        name: partial(graph_and_source if given.from_a_source else graph, algorithm=name)
        for name, given in GIVEN.items()
    },
}
"""``take(num_nodes, *arguments)`` returns the arguments of each algorithm of CLRS-30, checked and converted."""
