"""Whether inputs of a user's own are what a task of SALSA-CLRS takes: compiled code reads and writes without a look."""
# Axes: N nodes, T time.

from typing import Any

import numpy as np

from nar.batch import NumpyArray
from nar.datasets.clrs30.given import FAR, array_of, check_node, within
from nar.datasets.engine.arguments import shown
from nar.datasets.salsa.algorithms import SPARSE_TASKS, play_round
from nar.datasets.salsa.graph import Graph
from nar.errors import UserError
from nar.specs import Stage, at_stage


def checked_inputs(task: str, graph: Graph, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs of a task in the form in which it draws them.

    Raises:
        UserError: If one is not what the task takes.
    """
    names = [name for name in at_stage(SPARSE_TASKS[task].spec, Stage.INPUT) if name != "pos"]
    if not isinstance(inputs, tuple | list) or len(inputs) != len(names):
        raise UserError(f"{task}: expected a tuple of {' and '.join(names) or 'no inputs'}, given {shown(inputs)}")
    checked: list[Any] = []
    for name, value in zip(names, inputs, strict=True):
        if name == "s":
            checked.append(check_node(name, value, graph.num_nodes))
        elif name == "A":
            checked.append(_checked_weights(graph, value))
        else:
            checked.append(_checked_randomness(graph, value))
    return tuple(checked)


def _checked_weights(graph: Graph, A: Any) -> NumpyArray:
    """Weights of edges, the same both ways, and of loops."""
    weights = within("A", A, (len(graph.receivers),), 0)
    of_edges = weights[: len(graph.reverse)]
    if not np.array_equal(of_edges, of_edges[graph.reverse]):
        raise UserError("expected A to have the same weight both ways, given two that differ")
    if of_edges.max(initial=0) * (graph.num_nodes - 1) >= FAR:
        raise UserError(f"expected paths shorter than {FAR:g}, given weights up to {of_edges.max():g}")
    return weights


def _checked_randomness(graph: Graph, randomness: Any) -> NumpyArray:
    """Numbers for as many rounds, two of each, as it takes until no node is alive."""
    num_times = randomness.shape[-1] if isinstance(randomness, np.ndarray) and randomness.ndim else 0
    numbers = array_of("randomness", randomness, (graph.num_nodes, num_times))
    alive, inmis = np.ones(graph.num_nodes, np.int8), np.zeros(graph.num_nodes, np.int8)
    for time in range(0, num_times, 2):
        play_round(graph, numbers[:, time].copy(), alive, inmis)
    if alive.any() or num_times % 2:
        raise UserError(f"expected randomness of twice as many times as there are rounds, given {num_times}")
    return numbers
