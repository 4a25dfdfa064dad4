"""What the library knows of an algorithm of CLRS-30, all of it in one record.

Each family of algorithms has a file with the functions of its algorithms, what draws their inputs, and at the end a
table of their records. Graph algorithms have several: the functions are in `graph_traversal.py`, `shortest_paths.py`
and `spanning_trees.py`, what draws their graphs and the table of all their records in `graphs.py`.
"""
# A is the matrix of edges, 0 where there is none.

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nar.batch import NumpyArray
from nar.datasets.clrs30.specs import SPECS
from nar.datasets.engine.algorithm import Algorithm

_DENSITIES = tuple(0.1 + 0.1 * i for i in range(9))
HALF_DENSITIES = tuple(p / 2 for p in _DENSITIES)


class GraphInput(NamedTuple):
    """The kind of graph that an algorithm is given.

    Attributes:
        directions: ``directions(rng, A)`` makes a graph of this kind of an undirected one. (Those without cycles are
            directed along a random order of their nodes.)
        weights: ``weights(rng, A, low, high)`` gives weights to the edges; None if it needs none.
        from_a_source: Whether it begins at a node.
        densities: Of the edges of dm-clrs's random graphs in training and validation: half as many where trajectories
            would grow too long.
    """

    directions: Callable[[np.random.RandomState, NumpyArray], NumpyArray]
    weights: Callable[[np.random.RandomState, NumpyArray, float, float], NumpyArray] | None = None
    from_a_source: bool = False
    densities: tuple[float, ...] = _DENSITIES


class InText(NamedTuple):
    """How CLRS-Text writes an algorithm's trajectories.

    Attributes:
        longest_in_training: The largest size of the published training set.
        longest_in_validation: The largest size of the published validation set.
        traced: The hints of which a trace consists and that are then asked for, if not those named after outputs.
        ends_with_hints: Whether the last of the hints that are traced are then the answer, in place of the outputs.
        in_parentheses: Whether each state is written in parentheses, if there is a trace.
        scored: ``scored(inputs)`` tells which entries of outputs CLRS-30 scores; None if it scores all.
        given: ``given(inputs)`` returns the arguments of :meth:`Algorithm.inputs` by what a text says of the inputs;
            None if they are these, in the order of the text.
        take: Takes these in place of the algorithm's own ``take``, where that refuses what samplers draw and cut off to
            a few decimals.
    """

    longest_in_training: int
    longest_in_validation: int
    traced: tuple[str, ...] = ()
    ends_with_hints: bool = False
    in_parentheses: bool = False
    scored: Callable[[Mapping[str, NumpyArray]], NumpyArray] | None = None
    given: Callable[[Mapping[str, Any]], tuple[Any, ...]] | None = None
    take: Callable[..., tuple[Any, ...]] | None = None


@dataclass(eq=False)
class _KnownAlgorithm(Algorithm):
    """An algorithm of CLRS-30.

    Attributes:
        name: Its name, and that of its probes in :data:`nar.datasets.SPECS`.
        draw: See :meth:`Algorithm.draw`.
        inputs: See :meth:`Algorithm.inputs`.
        run: See :meth:`Algorithm.run`.
        take: ``take(num_nodes, *arguments)`` returns arguments of a user's own as `draw` would have them, in the types
            that `run` is compiled for, or refuses those for which what it finds would not be right.
        text: How CLRS-Text writes it.
        graph: The kind of graph that it is given; None if it is given none.
        min_num_nodes: The smallest size at which dm-clrs draws well-formed trajectories (it drops an axis of length 1).
        min_num_nodes_with: The smallest size where an argument of `draw` is given, by the argument's name.
        samples_multiplier: How many times 32 trajectories make up the official test split: more where an output has few
            entries.
        moves_nodes: Whether the order of the nodes, the hint ``pred_h``, changes while it runs.
        is_string_matcher: Whether it is given a haystack and a needle.
    """

    is_checked = False

    name: str
    draw: Any = None
    inputs: Any = None
    run: Any = None
    take: Any = None
    text: InText = None  # type: ignore[assignment]  # they all have one
    graph: GraphInput | None = None
    min_num_nodes: int = 2
    min_num_nodes_with: Mapping[str, int] | None = None
    samples_multiplier: int = 1
    moves_nodes: bool = False
    is_string_matcher: bool = False

    def __post_init__(self) -> None:
        self.spec = SPECS[self.name]

    @property
    def plain_value(self) -> str:
        """The name, which is all that YAML and checkpoints hold of it (see :func:`nar.configuration.plain`)."""
        return self.name


KnownAlgorithm = _KnownAlgorithm  # no help of the command line lists what has an underscore as one to choose


def table(*algorithms: KnownAlgorithm) -> Mapping[str, KnownAlgorithm]:
    """The records of algorithms, each under the algorithm's name."""
    return {algorithm.name: algorithm for algorithm in algorithms}
