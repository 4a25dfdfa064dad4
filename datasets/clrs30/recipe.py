"""What the published recipe does to dm-clrs's trajectories before a model sees them.

Source: Ibarz et al., "A Generalist Neural Algorithmic Learner", LoG 2022; ``clrs/examples/run.py`` and
``clrs/_src/samplers.py`` of dm-clrs 2.0.3.
"""
# Axes: B graphs, N nodes, T time.

from collections.abc import Sequence
from typing import Any

import numpy as np

from nar.batch import Feedback, NumpyArray
from nar.datasets.clrs30.graphs import draw_communities
from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.clrs30.samplers import algorithm_of
from nar.datasets.engine.algorithm import Algorithm
from nar.specs import Probe, Spec, Stage, Type

_LONGEST_NEEDLE = 8
_STATIC_HINT = "pred_h"  # the order of a sequence, in the algorithms that never change it


def recipe_spec(algorithm: str | Algorithm) -> Spec:
    """The probes of `algorithm` as the model sees them: a hint that never changes is an input, and an output that is a
    permutation is a cyclic permutation with its first node.
    """
    algorithm = algorithm_of(algorithm)
    spec: dict[str, Probe] = {}
    for name, probe in algorithm.spec.items():
        if name == _STATIC_HINT and _has_static_hint(algorithm):
            spec["pred"] = probe._replace(stage=Stage.INPUT)
        elif probe.type is Type.SHOULD_BE_PERMUTATION:
            spec[name] = probe._replace(type=Type.PERMUTATION_POINTER)
            spec[f"{name}_mask"] = probe._replace(type=Type.MASK_ONE)
        else:
            spec[name] = probe
    return spec


def _has_static_hint(algorithm: Algorithm) -> bool:
    """Whether the hint ``pred_h`` never changes while `algorithm`, one of CLRS-30, runs."""
    return isinstance(algorithm, KnownAlgorithm) and _STATIC_HINT in algorithm.spec and not algorithm.moves_nodes


def apply_recipe(algorithm: str | Algorithm, feedback: Feedback[NumpyArray]) -> Feedback[NumpyArray]:
    """Trajectories of `algorithm` from :func:`nar.datasets.sample`, in the form of :func:`recipe_spec`."""
    algorithm = algorithm_of(algorithm)
    (inputs, hints, lengths), outputs = feedback
    inputs, hints = dict(inputs), dict(hints)
    if _has_static_hint(algorithm) and hints:
        inputs["pred"] = hints.pop(_STATIC_HINT)[0]
    new_outputs: dict[str, NumpyArray] = {}
    for name, data in outputs.items():
        if algorithm.spec[name].type is Type.SHOULD_BE_PERMUTATION:
            new_outputs[name], new_outputs[f"{name}_mask"] = cyclic_permutation(data)
        else:
            new_outputs[name] = data
    return Feedback(feedback.features._replace(inputs=inputs, hints=hints, lengths=lengths), new_outputs)


def cyclic_permutation(pointers: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """Predecessor pointers as a cyclic permutation and its first node.

    Args:
        pointers: Each node's predecessor in a sequence, the first node's being itself, [B, N].

    Returns:
        The same pointers, but for the first node's, which is the last node, [B, N]; and the first node [B].

    Source:
        ``predecessor_to_cyclic_predecessor_and_first`` in ``clrs/_src/probing.py`` of dm-clrs 2.0.3.
    """
    rows, nodes = np.arange(len(pointers)), np.arange(pointers.shape[1])
    number_of_successors = (pointers[:, :, None] == nodes).sum(axis=1)
    last = number_of_successors.argmin(axis=1)  # no node points at the last one
    first = (pointers == nodes).argmax(axis=1)
    cycle = pointers.copy()
    cycle[rows, first] = last
    return cycle, first.astype(pointers.dtype)


def randomise_positions(feedback: Feedback[NumpyArray], rng: np.random.RandomState) -> Feedback[NumpyArray]:
    """Trajectories with ``pos``, if they have it, drawn uniformly from [0, 1) and sorted, in each of two
    strings by itself.

    Source:
        ``process_random_pos`` in ``clrs/_src/samplers.py`` of dm-clrs 2.0.3.
    """
    pos = feedback.features.inputs.get("pos")
    if pos is None:
        return feedback
    new = np.asarray(rng.uniform(size=pos.shape))
    for graph in range(len(pos)):
        starts = np.flatnonzero(pos[graph] == 0)  # position 0 begins a sequence
        for start, end in zip(starts, [*starts[1:], pos.shape[1]], strict=True):
            new[graph, start:end].sort()
    inputs = {**feedback.features.inputs, "pos": new}
    return feedback._replace(features=feedback.features._replace(inputs=inputs))


def num_nodes_at(algorithm: str | Algorithm, size: int) -> int:
    """The number of nodes that `algorithm` has at a size: 5/4 of it for string matchers, the size itself for others.

    A published size n is the length of a string matcher's haystack, beside which there is a needle of n / 4 letters: at
    n = 64, the official test split has 80 nodes, and at 16, the largest training size, there are 20. dm-clrs 2.0.3 is
    asked for both together.

    Source:
        The archive CLRS30_v1.0.0 of Veličković et al. (2022), which ``clrs.build_sampler(..., length=80)`` of dm-clrs
        2.0.3 draws to the bit.
    """
    return size * 5 // 4 if _is_string_matcher(algorithm_of(algorithm)) else size


def _is_string_matcher(algorithm: Algorithm) -> bool:
    """Whether an algorithm is one of CLRS-30's string matchers."""
    return isinstance(algorithm, KnownAlgorithm) and algorithm.is_string_matcher


def train_sizes(algorithm: str | Algorithm, sizes: Sequence[int]) -> list[int]:
    """The numbers of nodes with which `algorithm` is trained: string matchers at the largest size alone."""
    algorithm = algorithm_of(algorithm)
    trained = [max(sizes)] if _is_string_matcher(algorithm) else sizes
    return [num_nodes_at(algorithm, size) for size in trained]


def train_sampler_args(algorithm: str | Algorithm, num_nodes: int) -> dict[str, Any]:
    """The sampler's arguments in training and validation: edge densities from 0.1 to 0.9, half of that where
    trajectories would grow too long; needles of every length up to 8 (less if the string would not hold them).
    """
    algorithm = algorithm_of(algorithm)
    if not isinstance(algorithm, KnownAlgorithm):
        return {}
    if algorithm.is_string_matcher:
        return {"length_needle": -min(_LONGEST_NEEDLE, (num_nodes - 1) // 2)}
    return {"p": algorithm.graph.densities} if algorithm.graph else {}


def has_communities(algorithm: str | Algorithm) -> bool:
    """Whether the graphs of `algorithm` are made of communities, as those of strongly_connected_components are."""
    algorithm = algorithm_of(algorithm)
    return isinstance(algorithm, KnownAlgorithm) and algorithm.draw is draw_communities
