"""Trajectories of the 30 algorithms of CLRS-30 on random inputs."""

import math
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from inspect import signature
from typing import Any

import numpy as np

from nar.batch import Feedback, NumpyArray
from nar.datasets.clrs30.divide_and_conquer import DIVIDE_AND_CONQUER
from nar.datasets.clrs30.dynamic_programming import DYNAMIC_PROGRAMMING
from nar.datasets.clrs30.families import GIVEN, FamilyDraw, on_family
from nar.datasets.clrs30.geometry import GEOMETRY
from nar.datasets.clrs30.given import check_given
from nar.datasets.clrs30.graphs import GRAPHS, weighted_both_ways
from nar.datasets.clrs30.greedy import GREEDY
from nar.datasets.clrs30.searching import SEARCHING
from nar.datasets.clrs30.sorting import SORTING
from nar.datasets.clrs30.specs import ALGORITHMS, MIN_NUM_NODES_WITH, SPECS, min_num_nodes
from nar.datasets.clrs30.strings import STRINGS
from nar.datasets.engine.algorithm import Algorithm, Hints, check_algorithm, check_hints, trajectories
from nar.datasets.engine.arguments import (
    MOST_NODES,
    check_arguments,
    check_known,
    check_range,
    check_seed,
    check_whole,
    is_whole,
    plain,
    random_state,
    shown,
)
from nar.errors import UserError

FAMILIES = (SORTING, SEARCHING, DIVIDE_AND_CONQUER, GREEDY, DYNAMIC_PROGRAMMING, GRAPHS, STRINGS, GEOMETRY)


class _Known(Algorithm):
    """One of the 30. It is named in no help, unlike a class without the underscore."""

    is_checked = False
    draw: Any = None  # the functions of the algorithm
    inputs: Any = None
    run: Any = None

    def __init__(self, name: str) -> None:
        functions = next(family[name] for family in FAMILIES if name in family)
        self.name, self.spec, self.min_num_nodes = name, SPECS[name], min_num_nodes(name)
        self.draw, self.inputs, self.run = functions.draw, functions.inputs, functions.run


CLRS_30: Mapping[str, Algorithm] = {name: _Known(name) for name in ALGORITHMS}
"""The 30 algorithms by name."""


def algorithm_of(algorithm: str | Algorithm) -> Algorithm:
    """The algorithm itself, where its name may be given.

    Raises:
        UserError: If the name is not known.
    """
    if isinstance(algorithm, Algorithm):
        return algorithm
    check_known("algorithm", algorithm, ALGORITHMS)
    return CLRS_30[algorithm]


def sample(
    algorithm: str | Algorithm,
    *,
    num_nodes: int,
    num_samples: int,
    seed: int | Sequence[int],
    hints: Hints = "all",
    graphs: str | None = None,
    **args: Any,
) -> Feedback[NumpyArray]:
    """Trajectories of an algorithm on random inputs; those of CLRS-30 are the same as dm-clrs's.

    Args:
        algorithm: One of :data:`ALGORITHMS`, or an :class:`Algorithm` of your own.
        num_nodes: The sampler's ``length``. Segments always have 4 nodes, optimal search trees one more than this.
        num_samples: B, how many trajectories.
        seed: Of ``numpy.random.RandomState``: a number below 2³², or several for more than 32 bits.
        hints: Which hints to keep; the lengths are those of all hints in any case.
        graphs: A family of :data:`nar.datasets.clrs30.families.GRAPH_FAMILIES` in place of dm-clrs's random graphs.
        **args: For the sampler (or the family), such as ``p`` (edge densities to draw from) or ``length_needle``; and
            ``truncate_decimals``.

    Returns:
        Dicts of arrays by probe name, as compact as :class:`nar.specs.Type` says: inputs and outputs [B, ...], hints
        [T, B, ...] padded with zeros, and lengths [B]. :func:`nar.datasets.dense` gives them dm-clrs's form.

    Raises:
        UserError: If the algorithm is not known, the size too small for it, an argument not one of its sampler's or
            nothing to draw with, or the trajectories too large for the memory.

    Source:
        ``clrs.build_sampler(algorithm, num_samples, seed=seed, length=num_nodes, **args)``.
    """
    algorithm = algorithm_of(algorithm)
    check_algorithm(algorithm)
    check_hints(hints)
    if graphs is not None:
        algorithm = on_family(algorithm, graphs)
    if not algorithm.is_checked:  # what a user's own takes is not known here
        args = {name: plain(value) for name, value in args.items()}
    check_request(algorithm, num_nodes, num_samples, seed, args)
    rng = random_state(seed)
    num_nodes, num_samples = int(num_nodes), int(num_samples)
    return trajectories(algorithm, num_nodes=num_nodes, num_samples=num_samples, rng=rng, hints=hints, **args)


def run_on(
    algorithm: str | Algorithm, given: Sequence[tuple[Any, ...]], *, num_nodes: int, hints: Hints = "all"
) -> Feedback[NumpyArray]:
    """Trajectories of an algorithm on inputs of your own, in the form of :func:`sample`.

    Args:
        algorithm: One of :data:`ALGORITHMS`, or an :class:`Algorithm` of your own.
        given: For each trajectory what its ``draw`` would give, such as a matrix of weights and a source. Of CLRS-30's
            it may be in lists, or arrays of any type of number (see :mod:`nar.datasets.clrs30.given`).
        num_nodes: The size of all of them, as :func:`sample` would be asked for it.
        hints: Which hints to keep.

    Raises:
        UserError: If the algorithm is not known, nothing is given or what it does not take, or the trajectories are
            too large for the memory.
    """
    algorithm = algorithm_of(algorithm)
    check_algorithm(algorithm)
    check_hints(hints)
    other = copy(algorithm)
    other.min_num_nodes = min(2, algorithm.min_num_nodes)  # with more than one the sampler alone is at a loss
    check_size(other, num_nodes)
    if not isinstance(given, list | tuple) or not given:
        raise UserError(f"expected a list of one or more inputs of {algorithm.name}, given {shown(given)}")
    if CLRS_30.get(algorithm.name) is algorithm:
        given = check_given(algorithm.name, given, int(num_nodes))
    else:
        check_number(algorithm, given)
    values = iter(given)
    other.draw = lambda rng, num_nodes: next(values)  # type: ignore[method-assign]
    rng = np.random.RandomState(0)  # of which nothing is drawn
    return trajectories(other, num_nodes=int(num_nodes), num_samples=len(given), rng=rng, hints=hints)


def check_number(algorithm: Algorithm, given: Sequence[Any]) -> None:
    """Raise a :class:`UserError` if an algorithm of a user's own has no use for as many arguments as it is given."""
    for number, values in enumerate(given):
        try:
            signature(algorithm.inputs).bind(*values)
        except TypeError as error:
            which = f"{algorithm.name}, input {number}"
            raise UserError(
                f"{which}: expected a tuple of what `inputs` takes, given {shown(values)}: {error}"
            ) from error


def check_request(
    algorithm: Algorithm, num_nodes: int, num_samples: int, seed: int | Sequence[int], args: Mapping[str, Any]
) -> None:
    """Raise a :class:`UserError` if a size, a number, a seed or an argument is not one to draw trajectories with."""
    check_size(algorithm, num_nodes, args)
    check_whole("num_samples", num_samples, at_least=1)
    check_seed(seed)
    known = dict([*signature(algorithm.draw).parameters.items()][2:])
    known.setdefault("truncate_decimals", signature(trajectories).parameters["truncate_decimals"])
    unknown = args.keys() - known.keys()
    if unknown:
        graphs = f" on graphs of {algorithm.draw.family}" if isinstance(algorithm.draw, FamilyDraw) else ""
        raise UserError(
            f"the sampler of {algorithm.name}{graphs} has no {', '.join(sorted(unknown))}; it has {', '.join(known)}"
        )
    if algorithm.is_checked:  # it is a user's own, and so are the arguments
        return
    check_arguments(known, args)
    if args.get("length_2") is not None:
        check_size(algorithm, num_nodes + args["length_2"])
    if "low" in known:
        low, high = (args.get(name, known[name].default) for name in ("low", "high"))
        makes_means = algorithm.name in GIVEN and GIVEN[algorithm.name].weights is weighted_both_ways
        check_range(low, high, makes_segments=algorithm.name == "segments_intersect", makes_means=makes_means)


def check_size(algorithm: str | Algorithm, num_nodes: int, args: Collection[str] = ()) -> None:
    """Raise a :class:`UserError` unless trajectories of `algorithm` can be drawn at this size.

    Args:
        algorithm: An algorithm, or the name of one.
        num_nodes: The size, which is neither below its smallest nor too large for pointers.
        args: The names of the sampler's arguments that are given, of which some allow of smaller sizes.
    """
    algorithm = algorithm_of(algorithm)
    least = min([algorithm.min_num_nodes, *(MIN_NUM_NODES_WITH.get((algorithm.name, name), math.inf) for name in args)])
    if not is_whole(num_nodes):
        raise UserError(f"expected the number of nodes to be a whole number, given {shown(num_nodes)}")
    if num_nodes < least:
        raise UserError(f"{algorithm.name} needs at least {least} nodes, given {shown(num_nodes)}")
    if num_nodes > MOST_NODES:
        raise UserError(f"{algorithm.name}'s pointers take at most {MOST_NODES} nodes, given {shown(num_nodes)}")
