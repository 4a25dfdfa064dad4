"""What a user gives an algorithm, as the algorithm's own arguments and the names of its nodes.

Models have seen weights, keys and coordinates from the ranges of the samplers. What lies outside is shifted or divided
where that does not change the answer, as it does for none of the 30 algorithms; it is divided by a power of two, which
rounds nothing, so that what was equal stays equal.
"""
# N is the number of nodes; the arguments of an algorithm are those of nar.datasets.clrs30.given.

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from nar.batch import Feedback, NumpyArray, size_of
from nar.datasets.clrs30.given import LARGEST_EXACT, NUM_LETTERS
from nar.datasets.clrs30.graphs import GRAPHS
from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.clrs30.samplers import run_on
from nar.datasets.clrs30.strings import STRINGS
from nar.datasets.engine.algorithm import Algorithm, Hints
from nar.datasets.engine.arguments import is_finite, shown
from nar.errors import UserError
from nar.inference.graphs import WEIGHT, checked_names, index_of, is_graph, numbers, read_graph
from nar.specs import Stage, at_stage

_LARGEST_WEIGHT = math.sqrt(1 + 1e-3)
"""The largest weight of an edge in training (see :func:`nar.datasets.clrs30.graphs.weighted_both_ways`)."""

_RADIUS = 2.0
"""The radius of the disk in which points lie in training."""

_UNDIRECTED = ("articulation_points", "bridges", "mst_kruskal", "mst_prim")
ACYCLIC = ("dag_shortest_paths", "topological_sort")
_WITH_NEGATIVE_WEIGHTS = ("bellman_ford", "dag_shortest_paths", "floyd_warshall")
"""The algorithms that are right on graphs of these kinds alone."""

_TRAINED_UNDIRECTED = ("bellman_ford", "bfs", "dijkstra", "floyd_warshall")
"""The algorithms that run on directed graphs too, of which their samplers draw none."""


@dataclass(frozen=True)
class Options:
    """What a user says of an instance besides the data.

    Attributes:
        source: The name of the node that a graph algorithm starts from.
        target: What binary search looks for.
        needle: What a string matcher looks for, if the data are the haystack alone.
        weight: The attribute of edges that is their weight; None if all weigh 1.
        names: Of the nodes, where the data have none.
        check_size: Raises an error if there are too many nodes.
    """

    source: Any = None
    target: Any = None
    needle: Any = None
    weight: str | None = WEIGHT
    names: Any = None
    check_size: Callable[[int], None] = lambda num_nodes: None


@dataclass(frozen=True)
class Instance:
    """One instance of a problem.

    Attributes:
        algorithm: What is to be run on it.
        given: The algorithm's arguments, as its sampler would draw them.
        num_nodes: The size that the sampler would be asked for.
        names: Of the nodes.
        own: What the user gave, in the user's units, by what it is.
        scale: By what weights, keys or coordinates were divided for the model.
        shift: What was subtracted from them before; of points, from each coordinate.
        notes: In what the instance is unlike those that models are trained on, a sentence each.
    """

    algorithm: Algorithm
    given: tuple[Any, ...]
    num_nodes: int
    names: tuple[Hashable, ...]
    own: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    shift: float | tuple[float, float] = 0.0
    notes: tuple[str, ...] = ()

    def trajectory(self, hints: Hints) -> Feedback[NumpyArray]:
        """The classical algorithm's inputs, hints and outputs; a model sees the inputs and the first hints.

        Raises:
            UserError: If the algorithm would not be right on the instance.
        """
        try:
            return run_on(self.algorithm, [self.given], num_nodes=self.num_nodes, hints=hints)
        except UserError as error:
            raise UserError(str(error).replace(", input 0: ", ": ", 1)) from error


def read_instance(algorithm: Algorithm, data: Any, options: Options) -> Instance:
    """The instance that a user's data are.

    Raises:
        UserError: If they are not what the algorithm takes.
    """
    graph = algorithm.graph if isinstance(algorithm, KnownAlgorithm) else None
    for name, is_taken in (
        ("source", graph is not None and graph.from_a_source),
        ("target", algorithm.name == "binary_search"),
        ("needle", algorithm.name in STRINGS),
    ):
        if getattr(options, name) is not None and not is_taken:
            raise UserError(f"{algorithm.name} takes no {name}, given {shown(getattr(options, name))}")
    if not isinstance(algorithm, KnownAlgorithm):
        return _own_algorithm(algorithm, data)
    return READERS[algorithm.name](algorithm, data, options)


def are_several(algorithm: Algorithm, data: Any, options: Options) -> bool:
    """Whether the data are a list of instances, and not one: lists are nested by one level more."""
    if not isinstance(algorithm, KnownAlgorithm):
        return isinstance(data, list)
    if algorithm.name in _OF_PAIRS and isinstance(data, tuple):
        return False  # whatever letters are
    axes = _NUM_AXES.get(algorithm.name, 1) - (options.needle is not None)
    axes += algorithm.name == "segments_intersect" and _are_pairs_of_ends(data)
    return isinstance(data, list | tuple | np.ndarray) and depth(data) > axes


def depth(data: Any) -> int:
    """How many levels of lists data are: a graph counts as a matrix, names and their values as a list, letters as 1."""
    if is_graph(data):
        return 2
    if isinstance(data, str):
        return 1
    if isinstance(data, Mapping):
        return 1 + depth(next(iter(data.values()), 0))
    if isinstance(data, list | tuple):
        return 1 + (depth(data[0]) if data else 0)
    return len(getattr(data, "shape", ()))


def fitted(values: NumpyArray, low: float, high: float, *, may_shift: bool) -> tuple[NumpyArray, float, float]:
    """Values in [low, high], the power of two that they were divided by and what was subtracted before.

    Args:
        values: Any.
        low: The least that is left as it is: 0, or -high.
        high: The most that is left as it is.
        may_shift: Whether something may be subtracted from all of them.
    """
    if values.size == 0 or (low <= values.min() and values.max() <= high):
        return values, 1.0, 0.0
    shift = float(values.min()) if may_shift else 0.0
    scale = power_of_two_from(np.abs(values - shift).max() / high)
    return (values - shift) / scale, scale, shift


def power_of_two_from(number: float) -> float:
    """The smallest power of two that is no less; 1 for 0."""
    if number == 0:
        return 1.0
    fraction, exponent = math.frexp(number)
    return math.ldexp(1.0, exponent - (fraction == 0.5))


def _named_numbers(what: str, data: Any, options: Options, width: int | None = None) -> tuple[Any, NumpyArray]:
    """Names, and for each a number, or so many, as floats: of a dict, or of a list and the names beside it.

    Raises:
        UserError: If something is no number; the message has the name.
    """
    names = options.names
    if isinstance(data, Mapping):
        names, data = (tuple(data) if names is None else names), list(data.values())
    array = numbers(what, data)
    shape = () if width is None else (width,)
    if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
        of_each = "a number" if width is None else f"{width} numbers"
        raise UserError(f"expected {what}: {of_each} for each, given {shown(data)}")
    options.check_size(len(array))
    names = checked_names(names, len(array))
    wrong = ~np.isfinite(array) if array.dtype.kind == "f" else np.abs(array.astype(np.float64)) > LARGEST_EXACT
    if wrong.any():
        place = np.argwhere(wrong)[0]
        of_float = "finite numbers" if array.dtype.kind == "f" else f"numbers of a size up to {LARGEST_EXACT}"
        raise UserError(f"expected {of_float} in {what}, given {array[tuple(place)]} for {shown(names[place[0]])}")
    return names, array.astype(np.float64)


def _graph(algorithm: Algorithm, data: Any, options: Options) -> Instance:
    """A graph with its weights, and the source where the algorithm has one."""
    given = GRAPHS[algorithm.name].graph
    assert given is not None
    names, weights = read_graph(data, options.weight if given.weights else None, options.names, options.check_size)
    _check_kind_of_graph(algorithm.name, names, weights)
    notes = []
    if algorithm.name in _TRAINED_UNDIRECTED and (weights != weights.T).any():
        notes.append(f"The graph is directed; models of {algorithm.name} are trained on undirected ones.")
    if (weights < 0).any():
        notes.append(f"Some weights are negative; models of {algorithm.name} are trained on weights from 0 to 1.")
    scaled, scale, _ = fitted(weights, -_LARGEST_WEIGHT if (weights < 0).any() else 0, _LARGEST_WEIGHT, may_shift=False)
    if not given.from_a_source:
        return Instance(algorithm, (scaled,), len(scaled), names, {"weights": weights}, scale, notes=tuple(notes))
    if options.source is None:
        raise UserError(f"{algorithm.name} starts from a node: say which (source=...)")
    source = index_of("source", options.source, names)
    own = {"weights": weights, "source": source}
    return Instance(algorithm, (scaled, source), len(scaled), names, own, scale, notes=tuple(notes))


def _check_kind_of_graph(algorithm: str, names: Sequence[Hashable], weights: NumpyArray) -> None:
    """Raise a :class:`UserError` that names edges if an algorithm is not right on such graphs."""
    if algorithm not in _WITH_NEGATIVE_WEIGHTS and (weights < 0).any():
        u, v = np.argwhere(weights < 0)[0]
        raise UserError(
            f"{algorithm} takes no negative weights, given {weights[u, v]} from {shown(names[u])} to {shown(names[v])}"
            f" ({', '.join(_WITH_NEGATIVE_WEIGHTS)} do)"
        )
    if algorithm in _UNDIRECTED and (weights != weights.T).any():
        u, v = np.argwhere((weights != weights.T) & (weights != 0))[0]
        back = f"one of {weights[v, u]}" if weights[v, u] else "none"
        raise UserError(
            f"{algorithm} takes undirected graphs, given an edge of {weights[u, v]} from {shown(names[u])} to "
            f"{shown(names[v])} and {back} back"
        )
    if algorithm in ACYCLIC:
        networkx: Any = import_module("networkx")
        graph = networkx.from_numpy_array(weights != 0, create_using=networkx.DiGraph)
        if not networkx.is_directed_acyclic_graph(graph):
            cycle = [u for u, _ in networkx.find_cycle(graph)]
            shown_nodes = [shown(names[node]) for node in [*cycle, cycle[0]]]
            if len(cycle) > 6:
                shown_nodes[3:-2] = ["..."]
            raise UserError(f"{algorithm} takes graphs without cycles, given {' → '.join(shown_nodes)}")


def _keys(algorithm: Algorithm, data: Any, options: Options, *, may_shift: bool = True) -> Instance:
    """Keys, which may be shifted where their order alone matters."""
    names, keys = _named_numbers("keys", data, options)
    scaled, scale, shift = fitted(keys, 0 if may_shift else -1, 1, may_shift=may_shift)
    return Instance(algorithm, (scaled,), len(keys), names, {"keys": keys}, scale, shift)


def _target_and_keys(algorithm: Algorithm, data: Any, options: Options) -> Instance:
    """Keys in ascending order and what to look for among them, shifted and divided alike."""
    names, keys = _named_numbers("keys", data, options)
    if not is_finite(options.target):
        raise UserError(f"binary_search looks for a number: say which (target=...), given {shown(options.target)}")
    scaled, scale, shift = fitted(np.append(keys, float(options.target)), 0, 1, may_shift=True)
    own = {"keys": keys, "target": float(options.target)}
    return Instance(algorithm, (float(scaled[-1]), scaled[:-1]), len(keys), names, own, scale, shift)


def _activities(algorithm: Algorithm, data: Any, options: Options) -> Instance:
    """Activities with a start and a finish."""
    names, times = _named_numbers("activities (start, finish)", data, options, width=2)
    if (late := np.flatnonzero(times[:, 0] > times[:, 1])).size:
        start, finish = times[late[0]]
        raise UserError(
            f"expected activities that finish after they start, given {start} to {finish} for {shown(names[late[0]])}"
        )
    scaled, scale, shift = fitted(times, 0, 1, may_shift=True)
    own = {"start": times[:, 0], "finish": times[:, 1]}
    return Instance(algorithm, (scaled[:, 0].copy(), scaled[:, 1].copy()), len(times), names, own, scale, shift)


def _tasks(algorithm: Algorithm, data: Any, options: Options) -> Instance:
    """Tasks with a deadline and a value."""
    names, pairs = _named_numbers("tasks (deadline, value)", data, options, width=2)
    deadlines, values = pairs[:, 0].copy(), pairs[:, 1].copy()
    wrong = (deadlines < 1) | (deadlines != np.floor(deadlines))
    if wrong.any():
        task = np.flatnonzero(wrong)[0]
        raise UserError(
            f"expected deadlines that are whole numbers of at least 1, given {deadlines[task]} for {shown(names[task])}"
        )
    scaled, scale, shift = fitted(values, 0, 1, may_shift=True)
    own = {"deadlines": deadlines, "values": values}
    within = np.minimum(deadlines, len(pairs))  # after as many units of time as there are tasks, all are done
    return Instance(algorithm, (within, scaled), len(pairs), names, own, scale, shift)


def _dimensions(algorithm: Algorithm, data: Any, options: Options) -> Instance:
    """The dimensions of a chain of matrices, one more than there are matrices."""
    bounds, p = _named_numbers("dimensions", data, Options(check_size=options.check_size))
    if (p <= 0).any():
        raise UserError(f"expected dimensions above 0, given {p[p <= 0][0]}")
    matrices = tuple(range(1, len(p))) if options.names is None else checked_names(options.names, len(p) - 1)
    scaled, scale, _ = fitted(p, 0, 1, may_shift=False)
    return Instance(algorithm, (scaled,), len(p), bounds, {"dimensions": p, "matrices": matrices}, scale)


def _probabilities(algorithm: Algorithm, data: Any, options: Options) -> Instance:
    """How often keys, and what lies between them, are looked for, divided by the sum of all."""
    if not isinstance(data, list | tuple) or len(data) != 2:
        raise UserError(
            "expected a pair: how often each key is looked for, and what lies before, between and after the keys; "
            f"given {shown(data)}"
        )
    keys, p = _named_numbers("frequencies of the keys", data[0], options)
    _, q = _named_numbers("frequencies of what lies between the keys", data[1], Options())
    if len(q) != len(p) + 1:
        raise UserError(
            f"expected {len(p) + 1} frequencies of what lies before, between and after {len(p)} keys, given {len(q)}"
        )
    if (both := np.concatenate([p, q])).min() < 0 or both.sum() == 0:
        raise UserError(f"expected frequencies of at least 0, not all of them 0, given {both.min()}")
    total = float(both.sum())
    scale = total if abs(total - 1) > 1e-9 else 1.0
    own = {"p": p, "q": q, "keys": keys}
    return Instance(algorithm, (p / scale, q / scale), len(p), tuple(range(len(q))), own, scale)


def _strings(algorithm: Algorithm, data: Any, options: Options, *, called: tuple[str, str]) -> Instance:
    """Two strings, with a number from 0 to 3 for each letter that occurs in them."""
    pair = data if options.needle is None else (data, options.needle)
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise UserError(f"expected a pair of strings, {' and '.join(called)}, given {shown(data)}")
    first, second = (_letters(name, string) for name, string in zip(called, pair, strict=True))
    options.check_size(len(first) + len(second))
    alphabet = list(dict.fromkeys([*first, *second]))
    if len(alphabet) > NUM_LETTERS:
        some = ", ".join(map(shown, alphabet[: NUM_LETTERS + 1]))
        raise UserError(f"{algorithm.name} knows {NUM_LETTERS} different letters, given {len(alphabet)}: {some}, ...")
    if all(type(letter) is int and 0 <= letter < NUM_LETTERS for letter in alphabet):
        alphabet = list(range(NUM_LETTERS))
    code = {letter: number for number, letter in enumerate(alphabet)}
    given = tuple(np.array([code[letter] for letter in string], np.int64) for string in (first, second))
    names = tuple(
        (name, place) for name, string in zip(called, (first, second), strict=True) for place in range(len(string))
    )
    own = {"first": first, "second": second, "is_text": all(isinstance(string, str) for string in pair)}
    return Instance(algorithm, given, len(names), names, own)


def _letters(name: str, string: Any) -> list[Hashable]:
    """The letters of a string or a list."""
    try:
        letters = [letter.item() if hasattr(letter, "item") else letter for letter in string]
        dict.fromkeys(letters)
    except (TypeError, ValueError, RuntimeError) as error:  # what NumPy and PyTorch say of letters that are arrays
        raise UserError(f"expected {name} to be a string or a list of letters, given {shown(string)}") from error
    return letters


def _segments(algorithm: Algorithm, data: Any, options: Options) -> Instance:
    """Two segments, as pairs of ends or as four ends."""
    if _are_pairs_of_ends(data):
        data = np.reshape(data, (4, 2))
    names, ends = _named_numbers("ends of two segments (x, y)", data, options, width=2)
    if len(ends) != 4:
        raise UserError(f"expected the 4 ends of two segments, given {len(ends)}")
    scaled, scale, shift = fitted(ends, 0, 1, may_shift=True)
    own = {"xs": ends[:, 0], "ys": ends[:, 1]}
    return Instance(algorithm, (scaled[:, 0].copy(), scaled[:, 1].copy()), 4, names, own, scale, (shift, shift))


def _are_pairs_of_ends(data: Any) -> bool:
    """Whether the data are two segments of two points, and neither four points nor a list of instances."""
    try:
        return depth(data) == 3 and np.shape(data) == (2, 2, 2)
    except ValueError:  # of lists of different lengths
        return False


def _points(algorithm: Algorithm, data: Any, options: Options) -> Instance:
    """Points, moved to around the origin and drawn together if they lie outside of the disk of training."""
    names, points = _named_numbers("points (x, y)", data, options, width=2)
    scale, shift = 1.0, (0.0, 0.0)
    if np.hypot(points[:, 0], points[:, 1]).max(initial=0) > _RADIUS:
        centre = (points.min(axis=0) + points.max(axis=0)) / 2
        radius = np.hypot(*(points - centre).T).max()
        scale, shift = power_of_two_from(radius / _RADIUS), (float(centre[0]), float(centre[1]))
    xs, ys = ((points - np.array(shift)) / scale).T.copy()
    own = {"xs": points[:, 0], "ys": points[:, 1]}
    return Instance(algorithm, (xs, ys), len(points), names, own, scale, shift)


def _own_algorithm(algorithm: Algorithm, data: Any) -> Instance:
    """What an algorithm of a user's own draws, in a tuple."""
    if not isinstance(data, tuple):
        raise UserError(f"expected a tuple of what {algorithm.name} draws, given {shown(data)}")
    inputs = dict(zip(at_stage(algorithm.spec, Stage.INPUT), algorithm.inputs(*data), strict=True))
    batched = {name: np.asarray(value)[None] for name, value in inputs.items()}
    size = size_of(algorithm.spec, batched)
    return Instance(algorithm, data, size, tuple(range(size)))


_OF_PAIRS = ("optimal_bst", "lcs_length", *STRINGS)
"""The algorithms that are given two lists or strings of different lengths."""

_NUM_AXES: Mapping[str, int] = {
    **dict.fromkeys(GRAPHS, 2),
    **dict.fromkeys(("activity_selector", "task_scheduling", *_OF_PAIRS), 2),
    **dict.fromkeys(("segments_intersect", "graham_scan", "jarvis_march"), 2),
}
"""How many levels of lists one instance is, where it is not 1; a graph is a matrix."""

READERS: Mapping[str, Callable[[Algorithm, Any, Options], Instance]] = {
    **dict.fromkeys(GRAPHS, _graph),
    **dict.fromkeys(("insertion_sort", "bubble_sort", "heapsort", "quicksort", "minimum", "quickselect"), _keys),
    "find_maximum_subarray_kadane": partial(_keys, may_shift=False),
    "binary_search": _target_and_keys,
    "activity_selector": _activities,
    "task_scheduling": _tasks,
    "matrix_chain_order": _dimensions,
    "optimal_bst": _probabilities,
    "lcs_length": partial(_strings, called=("x", "y")),
    **dict.fromkeys(STRINGS, partial(_strings, called=("haystack", "needle"))),
    "segments_intersect": _segments,
    **dict.fromkeys(("graham_scan", "jarvis_march"), _points),
}
"""What makes an instance of a user's data and options, for each algorithm of CLRS-30."""
