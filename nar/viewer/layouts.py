"""Where the nodes of an input are drawn: graphs in a circle or by springs, sequences in rows, points where they are."""
# Lengths are in units of the drawing, of which about one is a pixel.

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, NamedTuple

import numpy as np

from nar.batch import NumpyArray, size_of
from nar.specs import Location, Spec, Stage, Type, at_stage

Shape = Literal["circle", "cell"]
Point = tuple[float, float]

_EXTENT = 560.0
"""The width and height of a drawing that is no sequence."""
_MARGIN = 46.0
_CELLS_IN_A_ROW = 16
_CELLS_IN_A_LONG_ROW = 32
CELL, HALF_HEIGHT, EDGE = 38.0, 15.0, 14.0
ABOVE, BELOW, LANE = 49.0, 24.0, 11.0
"""The room of a row of cells: above for arrows, below for names and numbers, and a lane for each name of a choice."""
_FEW_EDGES = 2.5
"""How many edges there are for each node, at most, where springs show more than a circle does."""


class Layout(NamedTuple):
    """A way to draw the nodes.

    Attributes:
        name: By which it is chosen.
        shape: What stands for a node.
        width: Of the drawing.
        height: Of the drawing.
        size: The radius of circles, or half the width of cells.
        positions: The centre of each node.
        outward: For each node the direction in which there is room for what is written beside it.
    """

    name: str
    shape: Shape
    width: float
    height: float
    size: float
    positions: Sequence[Point]
    outward: Sequence[Point]


class Edges(NamedTuple):
    """The edges of a graph.

    Attributes:
        pairs: Their ends, without loops; each edge once if the graph is undirected.
        are_directed: Whether some edge is there one way alone.
    """

    pairs: Sequence[tuple[int, int]]
    are_directed: bool


def layouts(spec: Spec, inputs: Mapping[str, NumpyArray]) -> list[Layout]:
    """The ways in which the nodes of an input can be drawn, the best first.

    Args:
        spec: The algorithm's probes.
        inputs: Of one trajectory, without a batch axis.
    """
    num_nodes = num_nodes_of(spec, inputs)
    given = at_stage(spec, Stage.INPUT)
    if {"x", "y"} <= given.keys():
        return [plane(inputs["x"], inputs["y"])]
    edges = edges_of(spec, inputs)
    if edges is not None:
        both = [circle(num_nodes), springs(num_nodes, edges.pairs)]
        is_sparse = len(edges.pairs) <= _FEW_EDGES * num_nodes
        return both[::-1] if is_sparse and _are_apart(both[1]) else both
    later = [probe for probe in spec.values() if probe.stage is not Stage.INPUT and probe.location is Location.NODE]
    lanes = sum(probe.type is Type.MASK_ONE for probe in later)
    has_arrows = any("pointer" in probe.type or probe.type is Type.SHOULD_BE_PERMUTATION for probe in later)
    return [rows([len(sequence) for sequence in sequences(spec, inputs)], lanes, has_arrows=has_arrows)]


def num_nodes_of(spec: Spec, inputs: Mapping[str, NumpyArray]) -> int:
    """The number of nodes of one trajectory, from its inputs."""
    return size_of(spec, {name: data[None] for name, data in inputs.items()})


def edges_of(spec: Spec, inputs: Mapping[str, NumpyArray]) -> Edges | None:
    """The edges of the graph that an input is; None if it is none."""
    given = [name for name, probe in at_stage(spec, Stage.INPUT).items() if probe.location is Location.EDGE]
    masks = [name for name in given if spec[name].type is Type.MASK]
    if not given:
        return None
    there = inputs[masks[0]] > 0 if masks else inputs[given[0]] != 0
    is_directed = bool((there != there.T).any())
    pairs = np.argwhere(there if is_directed else np.triu(there))
    return Edges([(int(u), int(v)) for u, v in pairs if u != v], is_directed)


def sequences(spec: Spec, inputs: Mapping[str, NumpyArray]) -> list[list[int]]:
    """The nodes of each string, where an input ``string`` tells them apart; else all nodes as one sequence."""
    nodes = range(num_nodes_of(spec, inputs))
    probe = spec.get("string")
    if probe is None or (probe.stage, probe.location, probe.type) != (Stage.INPUT, Location.NODE, Type.MASK):
        return [list(nodes)]
    which = inputs["string"]
    return [own for own in ([node for node in nodes if which[node] == string] for string in (0, 1)) if own]


def circle(num_nodes: int) -> Layout:
    """All nodes on a circle, the first on top, clockwise."""
    centre, radius = _EXTENT / 2, _EXTENT / 2 - _MARGIN
    angles = [2 * math.pi * node / num_nodes - math.pi / 2 for node in range(num_nodes)]
    outward = [(math.cos(angle), math.sin(angle)) for angle in angles]
    size = min(18.0, 0.44 * 2 * math.pi * radius / num_nodes)
    positions = [(centre + radius * x, centre + radius * y) for x, y in outward]
    return Layout("circle", "circle", _EXTENT, _EXTENT, size, positions, outward)


def springs(num_nodes: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Neighbours near to one another, as if there were springs between all nodes, as long as the paths are.

    Parts of a graph that are not joined are held together as by one edge. It is the same at every call.

    Source: Kamada and Kawai, "An algorithm for drawing general undirected graphs", 1989.
    """
    networkx: Any = import_module("networkx")  # here, as it takes long to be imported
    graph = networkx.Graph()
    graph.add_nodes_from(range(num_nodes))
    graph.add_edges_from(edges)
    parts = [min(part) for part in networkx.connected_components(graph)]
    graph.add_edges_from((parts[0], part) for part in parts[1:])
    around = networkx.circular_layout(graph)
    found = networkx.kamada_kawai_layout(graph, pos=around) if num_nodes > 1 else around
    return _scattered("springs", np.array([found[node] for node in range(num_nodes)]), same_scale=False)


def _are_apart(layout: Layout) -> bool:
    """Whether no two nodes lie on one another."""
    points = np.array(layout.positions)
    distances = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(len(points))
    return bool(distances.min() > 2.2 * layout.size)


def plane(x: NumpyArray, y: NumpyArray) -> Layout:
    """Points at their coordinates, the second one upwards."""
    return _scattered("plane", np.stack([x, -y], axis=1), same_scale=True)


def _scattered(name: str, points: NumpyArray, *, same_scale: bool) -> Layout:
    """Points anywhere, scaled to fill the drawing; what is written beside them is below."""
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    extent = np.where(extent > 0, extent, 1.0)
    if same_scale:
        low, extent = low - (extent.max() - extent) / 2, np.full(2, extent.max())
    scaled = _MARGIN + (points - low) / extent * (_EXTENT - 2 * _MARGIN)
    size = float(np.clip(75 / math.sqrt(len(points)), 9.0, 16.0))
    positions = [(float(a), float(b)) for a, b in scaled]
    return Layout(name, "circle", _EXTENT, _EXTENT, size, positions, [(0.0, 1.0)] * len(points))


def rows(lengths: Sequence[int], lanes: int = 0, *, has_arrows: bool = True) -> Layout:
    """Sequences one below the other, each in as many rows of cells as it needs.

    Args:
        lengths: Of the sequences.
        lanes: How many names may be written below a row, each at a height of its own.
        has_arrows: Whether arrows may be drawn above.
    """
    in_a_row = _CELLS_IN_A_ROW if max(lengths) <= _CELLS_IN_A_ROW else _CELLS_IN_A_LONG_ROW
    above = ABOVE if has_arrows else ABOVE / 4
    positions: list[Point] = []
    height = 0.0
    for length in lengths:
        for start in range(0, length, in_a_row):
            own = range(min(in_a_row, length - start))
            positions += [(CELL * (place + 0.5) + EDGE, height + above + HALF_HEIGHT) for place in own]
            height += above + 2 * HALF_HEIGHT + BELOW + LANE * lanes
    width = CELL * max(_CELLS_IN_A_ROW, min(in_a_row, max(lengths))) + 2 * EDGE
    return Layout("rows", "cell", width, height, CELL / 2 - 2, positions, [(0.0, 1.0)] * sum(lengths))
