"""A user's own graph, from whatever library it comes, as a matrix of weights and the names of its nodes."""
# N is the number of nodes, E that of edges.

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from nar.batch import NumpyArray
from nar.datasets.engine.arguments import is_finite, shown
from nar.errors import UserError, meant

WEIGHT = "weight"
"""The attribute of edges that is their weight if no other is named, as in networkx."""

_WEIGHTS_OF_PYG = (WEIGHT, "edge_weight", "edge_attr")
"""Where PyTorch Geometric's data may have weights if no attribute is named."""


class Graph(NamedTuple):
    """A graph as the algorithms are given it.

    Attributes:
        names: Of the nodes, in the user's order.
        weights: From sender (row) to receiver (column), 0 where there is no edge, [N, N].
    """

    names: tuple[Hashable, ...]
    weights: NumpyArray


def read_graph(
    data: Any, weight: str | None, names: Sequence[Hashable] | None, check_size: Callable[[int], None]
) -> Graph:
    """The graph that `data` holds.

    Args:
        data: A graph of networkx, ``Data`` of PyTorch Geometric, a sparse matrix of SciPy, a data frame, or a matrix in
            which 0 means that there is no edge.
        weight: The attribute that is an edge's weight; None if every edge weighs 1.
        names: Of the nodes, where `data` has none; by default numbers from 0.
        check_size: Raises an error if there are too many nodes; called before any matrix is made.

    Raises:
        UserError: If it is no graph, an edge is there twice, or a weight is missing, 0, infinite or no number.
    """
    if _is_networkx(data):
        return _from_networkx(data, weight, names, check_size)
    if hasattr(data, "edge_index"):
        return _from_pyg(data, weight, names, check_size)
    if hasattr(data, "tocoo"):
        return _from_scipy(data, weight, names, check_size)
    return _from_matrix(data, weight, names, check_size)


def _is_networkx(data: Any) -> bool:
    """Whether it is a graph of networkx, which need not be imported to tell."""
    return callable(getattr(data, "is_multigraph", None))


def is_graph(data: Any) -> bool:
    """Whether a user's data are a graph, and neither numbers nor a list of graphs."""
    return _is_networkx(data) or any(hasattr(data, name) for name in ("edge_index", "tocoo", "columns"))


def checked_names(names: Any, number: int) -> tuple[Hashable, ...]:
    """So many names that all differ, or a :class:`UserError`; numbers from 0 if there are none."""
    if names is None:
        return tuple(range(number))
    try:
        own: tuple[Hashable, ...] = tuple(name.item() if isinstance(name, np.generic) else name for name in names)
        times = Counter(own)
    except TypeError as error:
        raise UserError(f"expected names that can be keys of a dict, given {shown(names)}") from error
    if len(own) != number:
        raise UserError(f"expected {number} names, one for each, given {len(own)}")
    if len(times) < number:
        raise UserError(f"expected names that differ, given {shown(times.most_common(1)[0][0])} more than once")
    return own


def index_of(what: str, name: Any, names: Sequence[Hashable]) -> int:
    """The place of a name among those of the nodes, or a :class:`UserError` that says which may be meant."""
    with suppress(TypeError):  # of what cannot be a key
        place = {known: number for number, known in enumerate(names)}.get(name)
        if place is not None:
            return place
    hint = meant(name, [known for known in names if isinstance(known, str)]) if isinstance(name, str) else ""
    raise UserError(f"expected {what} to be one of the {len(names)} nodes, given {shown(name)}{hint}")


def _from_networkx(graph: Any, weight: str | None, names: Any, check_size: Callable[[int], None]) -> Graph:
    """The graph that a graph of networkx is; an undirected one has its edges both ways."""
    check_size(len(graph))
    own = tuple(graph.nodes)
    place = {name: number for number, name in enumerate(own)}
    names = own if names is None else checked_names(names, len(own))
    senders, receivers, values = [], [], []
    for u, v, attributes in graph.edges(data=True):
        if weight is not None and weight not in attributes:
            raise UserError(
                f"the edge from {shown(u)} to {shown(v)} has no {shown(weight)}: name the attribute that is its weight "
                "(weight=...), or say weight=None for edges that all weigh 1"
            )
        senders.append(place[u])
        receivers.append(place[v])
        values.append(1.0 if weight is None else attributes[weight])
        if not graph.is_directed() and u != v:
            senders.append(place[v])
            receivers.append(place[u])
            values.append(values[-1])
    return _from_edges(names, senders, receivers, values)


def _from_pyg(data: Any, weight: str | None, names: Any, check_size: Callable[[int], None]) -> Graph:
    """The graph that ``Data`` of PyTorch Geometric are."""
    edge_index = numbers("edge_index", data.edge_index)
    if edge_index.ndim != 2 or len(edge_index) != 2:
        raise UserError(f"expected edge_index in shape (2, E), given {edge_index.shape}")
    number = data.num_nodes
    if number is None or (edge_index.size and not 0 <= edge_index.min() <= edge_index.max() < number):
        raise UserError(f"expected nodes from 0 to num_nodes - 1 in edge_index, given num_nodes {shown(number)}")
    check_size(int(number))
    values: Any = np.ones(edge_index.shape[1])
    if weight is not None:
        tried = _WEIGHTS_OF_PYG if weight == WEIGHT else (weight,)
        found = [value for name in tried if (value := getattr(data, name, None)) is not None]
        if not found:
            raise UserError(
                f"the edges have no {' or '.join(tried)}: name the attribute that is their weight (weight=...), or say "
                "weight=None for edges that all weigh 1"
            )
        values = numbers(weight, found[0])
        values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        if values.shape != edge_index.shape[1:]:
            raise UserError(f"expected one weight for each of the {edge_index.shape[1]} edges, given {values.shape}")
    senders, receivers = edge_index.astype(np.int64)
    return _from_edges(checked_names(names, int(number)), senders, receivers, values)


def _from_scipy(matrix: Any, weight: str | None, names: Any, check_size: Callable[[int], None]) -> Graph:
    """The graph of a sparse matrix, of which every stored entry is an edge."""
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise UserError(f"expected a square matrix of edges, given one of shape {matrix.shape}")
    check_size(matrix.shape[0])
    entries = matrix.tocoo()
    values = np.ones(entries.nnz) if weight is None else numbers("the matrix", entries.data)
    return _from_edges(checked_names(names, matrix.shape[0]), entries.row, entries.col, values)


def _from_matrix(data: Any, weight: str | None, names: Any, check_size: Callable[[int], None]) -> Graph:
    """The graph of a matrix, in which 0 means that there is no edge."""
    if names is None and hasattr(data, "columns"):
        names = tuple(data.columns)
    matrix = numbers("the graph", data)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise UserError(f"expected a graph or a square matrix of edges, given {shown(data)}")
    check_size(len(matrix))
    names = checked_names(names, len(matrix))
    if not (finite := np.isfinite(matrix)).all():
        u, v = np.argwhere(~finite)[0]
        raise UserError(
            f"expected finite numbers, and 0 where there is no edge, given {matrix[u, v]} from {shown(names[u])} to "
            f"{shown(names[v])}"
        )
    return Graph(names, (matrix != 0).astype(np.float64) if weight is None else matrix.astype(np.float64))


def _from_edges(names: tuple[Hashable, ...], senders: Any, receivers: Any, values: Any) -> Graph:
    """The graph of a list of edges."""
    weights = np.zeros((len(names), len(names)))
    for u, v, value in zip(senders, receivers, values, strict=True):
        wrong = (
            f"expected a finite number as its weight, given {shown(value)}"
            if not is_finite(value)
            else "expected a weight other than 0, which would mean no edge"
            if value == 0
            else "it is there more than once"
            if weights[u, v]
            else ""
        )
        if wrong:
            raise UserError(f"the edge from {shown(names[u])} to {shown(names[v])}: {wrong}")
        weights[u, v] = value
    return Graph(names, weights)


def numbers(name: str, value: Any) -> NumpyArray:
    """The numbers of an array, a tensor on any device or lists, or a :class:`UserError`."""
    if callable(getattr(value, "detach", None)):
        value = value.detach().cpu()
        value = value.double() if value.is_floating_point() else value
    try:
        array = np.asarray(value)
    except Exception:  # of lists of different lengths, and whatever an object says that is asked for its numbers
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise UserError(f"expected numbers in {name}, given {shown(value)}")
    return array
