"""Trajectories of the 30 algorithms of CLRS-30 on random inputs."""

import copyreg
from collections.abc import Collection, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np

from nar.batch import Feedback, NumpyArray
from nar.datasets.clrs30.divide_and_conquer import DIVIDE_AND_CONQUER
from nar.datasets.clrs30.dynamic_programming import DYNAMIC_PROGRAMMING
from nar.datasets.clrs30.families import FamilyDraw, on_family
from nar.datasets.clrs30.geometry import GEOMETRY
from nar.datasets.clrs30.given import check_given
from nar.datasets.clrs30.graphs import GRAPHS, weighted_both_ways
from nar.datasets.clrs30.greedy import GREEDY
from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.clrs30.searching import SEARCHING
from nar.datasets.clrs30.sorting import SORTING
from nar.datasets.clrs30.specs import ALGORITHMS
from nar.datasets.clrs30.strings import STRINGS
from nar.datasets.engine.algorithm import Algorithm, Hints, check_algorithm, check_hints, trajectories
from nar.datasets.engine.arguments import (
    MAX_NODES,
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

_FAMILIES = (SORTING, SEARCHING, DIVIDE_AND_CONQUER, GREEDY, DYNAMIC_PROGRAMMING, GRAPHS, STRINGS, GEOMETRY)
_BY_NAME = {name: algorithm for family in _FAMILIES for name, algorithm in family.items()}

CLRS_30: Mapping[str, KnownAlgorithm] = {name: _BY_NAME[name] for name in ALGORITHMS}
"""The 30 algorithms by name."""


def known_algorithm(name: Any) -> KnownAlgorithm:
    """The algorithm of CLRS-30 of that name.

    Raises:
        UserError: If there is none.
    """
    check_known("algorithm", name, ALGORITHMS)
    return CLRS_30[name]


# Another process has the same record under its name; what is in it, such as compiled functions, need not be sent there.
copyreg.pickle(KnownAlgorithm, lambda algorithm: (known_algorithm, (algorithm.name,)))


def algorithm_of(algorithm: str | Algorithm) -> Algorithm:
    """The algorithm itself, where its name may be given.

    Raises:
        UserError: If the name is not known.
    """
    return algorithm if isinstance(algorithm, Algorithm) else known_algorithm(algorithm)


def check_names(what: str, setting: Any, algorithms: Collection[Algorithm]) -> None:
    """Raise a :class:`UserError` if a setting by name is of an algorithm neither of CLRS-30 nor among `algorithms`."""
    own = [algorithm.name for algorithm in algorithms if algorithm.name not in ALGORITHMS]
    for name in setting if isinstance(setting, Mapping) else ():
        check_known(f"algorithm in {what}", name, [*ALGORITHMS, *own])


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
        [T, B, ...] padded with zeros, and lengths [B]. :func:`nar.datasets.to_dm_clrs` gives them dm-clrs's form.

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
    least = min(2, algorithm.min_num_nodes)  # with more than one the sampler alone is at a loss
    _check_num_nodes(algorithm.name, num_nodes, least)
    if not isinstance(given, list | tuple) or not given:
        raise UserError(f"expected a list of one or more inputs of {algorithm.name}, given {shown(given)}")
    if isinstance(algorithm, KnownAlgorithm):
        given = check_given(algorithm, given, int(num_nodes))
    else:
        _check_number(algorithm, given)
    values = iter(given)
    return trajectories(
        algorithm,
        num_nodes=int(num_nodes),
        num_samples=len(given),
        rng=np.random.RandomState(0),  # of which nothing is drawn
        hints=hints,
        draw=lambda rng, num_nodes: next(values),
    )


def _check_number(algorithm: Algorithm, given: Sequence[Any]) -> None:
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
    if not isinstance(algorithm, KnownAlgorithm):  # it is a user's own, and so are the arguments
        return
    check_arguments(known, args)
    if args.get("length_2") is not None:
        check_size(algorithm, num_nodes + args["length_2"])
    if "low" in known:
        low, high = (args.get(name, known[name].default) for name in ("low", "high"))
        makes_means = algorithm.graph is not None and algorithm.graph.weights is weighted_both_ways
        check_range(low, high, makes_segments=algorithm.name == "segments_intersect", makes_means=makes_means)


def check_size(algorithm: Algorithm, num_nodes: int, args: Collection[str] = ()) -> None:
    """Raise a :class:`UserError` unless trajectories of `algorithm` can be drawn at this size.

    Args:
        algorithm: What is to run.
        num_nodes: The size, which is neither below its smallest nor too large for pointers.
        args: The names of the sampler's arguments that are given, of which some allow of smaller sizes.
    """
    least = algorithm.min_num_nodes
    if isinstance(algorithm, KnownAlgorithm) and algorithm.min_num_nodes_with:
        least = min([least, *(size for name, size in algorithm.min_num_nodes_with.items() if name in args)])
    _check_num_nodes(algorithm.name, num_nodes, least)


def _check_num_nodes(algorithm: str, num_nodes: int, least: int) -> None:
    if not is_whole(num_nodes):
        raise UserError(f"expected the number of nodes to be a whole number, given {shown(num_nodes)}")
    if num_nodes < least:
        raise UserError(f"{algorithm} needs at least {least} nodes, given {shown(num_nodes)}")
    if num_nodes > MAX_NODES:
        raise UserError(f"{algorithm}'s pointers take at most {MAX_NODES} nodes, given {shown(num_nodes)}")
