"""Instances of Bellman-Ford that differ and have the same shortest paths.

Source: Mirjanić et al., "Latent Space Representations of Neural Algorithmic Reasoners", LoG 2023.
"""
# A is the matrix of weights, 0 where there is no edge, and s the source. Axes: I instances, V variants of each.

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.sparse.csgraph import dijkstra

from nar.batch import Batch, NumpyArray, to_tensors
from nar.datasets.clrs30.graphs import draw_weighted_graph_and_source
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30, check_size, run_on
from nar.datasets.engine.arguments import check_known, check_seed, check_whole, random_state

Instance = tuple[NumpyArray, int]
BELLMAN_FORD = "bellman_ford"
_LARGEST_SCALE = 4.0


def scaled(A: NumpyArray, s: int, scale: float) -> Instance:
    """All weights times a number above 0: distances are, too."""
    return A * scale, s


def renamed(A: NumpyArray, s: int, order: NumpyArray) -> Instance:
    """The nodes in another order: node i is what `order` [N] has at i."""
    return A[np.ix_(order, order)], int(np.flatnonzero(order == s)[0])


def reweighted(A: NumpyArray, s: int, potentials: NumpyArray) -> Instance:
    """Weights ``w_ij + p_i - p_j`` for potentials p [N]: every path from u to v is longer by ``p_u - p_v``."""
    return np.where(A != 0, A + potentials[:, None] - potentials[None, :], 0.0), s


def potentials(A: NumpyArray, reach: NumpyArray, part: float) -> NumpyArray:
    """Potentials with which weights stay above 0, as in Johnson's algorithm: a part, below 1, of the distances from one
    more node, from which an edge of weight ``reach[i]`` leads to every node i, [N].

    No edge loses more than this part of its weight.
    """
    kept: NumpyArray = part * (reach[:, None] + dijkstra(A)).min(axis=0)
    return kept


def _by_scale(rng: np.random.RandomState, A: NumpyArray, s: int) -> tuple[Instance, float]:
    scale = _LARGEST_SCALE ** rng.uniform(-1, 1)
    return scaled(A, s, scale), scale


def _by_renaming(rng: np.random.RandomState, A: NumpyArray, s: int) -> tuple[Instance, float]:
    order = rng.permutation(len(A))
    first, second = np.triu_indices(len(A), k=1)
    return renamed(A, s, order), float(np.mean(order[first] > order[second]))


def _by_potentials(rng: np.random.RandomState, A: NumpyArray, s: int) -> tuple[Instance, float]:
    part = rng.uniform(0, 1)
    return reweighted(A, s, potentials(A, rng.uniform(size=len(A)), part)), part


_Vary = Callable[[np.random.RandomState, NumpyArray, int], tuple[Instance, float]]
SYMMETRIES: Mapping[str, _Vary] = {"scaling": _by_scale, "permutation": _by_renaming, "reweighting": _by_potentials}


def study(
    symmetry: str, *, num_nodes: int, num_instances: int = 8, num_variants: int = 16, seed: int = 0
) -> tuple[Batch, NumpyArray]:
    """Instances of Bellman-Ford and variants of them, drawn from a seed; the instances are the same for all symmetries.

    Args:
        symmetry: One of :data:`SYMMETRIES`.
        num_nodes: N. Their positions are evenly spaced in the order of their names, also where these have changed.
        num_instances: I.
        num_variants: V.
        seed: Determines everything that is drawn.

    Returns:
        The trajectories of an instance and of all its variants, then those of the next, I · (1 + V). And for each
        variant the number by which weights are multiplied, the share of pairs of nodes in another order, or the part of
        the distances that potentials are made of, [I, V].

    Raises:
        UserError: If a number is not one to draw with.
    """
    check_known("symmetry", symmetry, SYMMETRIES)
    check_size(CLRS_30[BELLMAN_FORD], num_nodes)
    check_seed(seed)
    check_whole("num_instances", num_instances, at_least=1)
    check_whole("num_variants", num_variants, at_least=1)
    rng = random_state(seed)
    given: list[Instance] = []
    parameters: list[Sequence[float]] = []
    for A, s in [draw_weighted_graph_and_source(rng, num_nodes) for _ in range(num_instances)]:
        varied = [SYMMETRIES[symmetry](rng, A, s) for _ in range(num_variants)]
        given += [(A, s), *(variant for variant, _ in varied)]
        parameters.append([parameter for _, parameter in varied])
    feedback = apply_recipe(BELLMAN_FORD, run_on(BELLMAN_FORD, given, num_nodes=num_nodes))
    batch = Batch(BELLMAN_FORD, num_nodes, 0, to_tensors(feedback, recipe_spec(BELLMAN_FORD)))
    return batch, np.array(parameters)
