"""Instances of Bellman-Ford with the same shortest paths, and algorithms on given inputs."""

import networkx as nx
import numpy as np
import pytest

from nar.batch import NumpyArray
from nar.datasets import sample
from nar.datasets.clrs30.graphs import draw_weighted_graph_and_source
from nar.datasets.clrs30.samplers import run_on
from nar.datasets.clrs30.symmetries import SYMMETRIES, potentials, renamed, reweighted, scaled, study
from nar.errors import UserError

SEEDS = range(6)
N = 9


def instance(seed: int) -> tuple[NumpyArray, int]:
    """A sparse graph, some of whose nodes have no path from the source."""
    return draw_weighted_graph_and_source(np.random.RandomState(seed), N, p=(0.35,))


def predecessors(A: NumpyArray, s: int) -> NumpyArray:
    """What Bellman-Ford returns."""
    return run_on("bellman_ford", [(A, s)], num_nodes=len(A)).outputs["pi"][0]


def assert_shortest(A: NumpyArray, s: int, pi: NumpyArray) -> None:
    """Fail unless pointers to predecessors are those of the shortest paths that networkx finds."""
    _, paths = nx.single_source_dijkstra(nx.from_numpy_array(A, create_using=nx.DiGraph), s)
    expected = np.arange(len(A))
    for node, path in paths.items():
        expected[node] = path[-2] if len(path) > 1 else node
    np.testing.assert_array_equal(pi, expected)


def test_given_inputs_are_run_as_if_they_had_been_drawn() -> None:
    drawn = sample("bellman_ford", num_nodes=N, num_samples=3, seed=4)
    rng = np.random.RandomState(4)
    given = [draw_weighted_graph_and_source(rng, N) for _ in range(3)]
    ours = run_on("bellman_ford", given, num_nodes=N)
    for one, other in ((ours.features.inputs, drawn.features.inputs), (ours.features.hints, drawn.features.hints)):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    np.testing.assert_array_equal(ours.features.lengths, drawn.features.lengths)
    np.testing.assert_array_equal(ours.outputs["pi"], drawn.outputs["pi"])


def test_running_on_given_inputs_changes_no_algorithm() -> None:
    run_on("bellman_ford", [instance(0)], num_nodes=N)
    assert sample("bellman_ford", num_nodes=4, num_samples=2, seed=1).outputs["pi"].shape == (2, 4)


def test_running_on_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="expected a list of one or more inputs"):
        run_on("bellman_ford", [], num_nodes=N)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_scaling_keeps_shortest_paths(seed: int, scale: float) -> None:
    A, s = instance(seed)
    variant = scaled(A, s, scale)
    assert_shortest(*variant, predecessors(*variant))
    np.testing.assert_array_equal(predecessors(*variant), predecessors(A, s))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("part", [0.2, 0.99])
def test_reweighting_keeps_shortest_paths_edges_and_the_sign_of_weights(seed: int, part: float) -> None:
    A, s = instance(seed)
    p = potentials(A, np.random.RandomState(seed).uniform(size=N), part)
    variant, _ = reweighted(A, s, p)
    assert_shortest(variant, s, predecessors(variant, s))
    np.testing.assert_array_equal(predecessors(variant, s), predecessors(A, s))
    np.testing.assert_array_equal(variant > 0, A > 0)
    assert (variant >= (1 - part) * A - 1e-12).all()


def test_reweighting_changes_the_length_of_a_path_by_the_potentials_of_its_ends() -> None:
    A = np.array([[0, 0.5, 0.9], [0.5, 0, 0.3], [0.9, 0.3, 0]])
    p = potentials(A, np.array([0, 9, 9]), 0.5)
    variant, _ = reweighted(A, 0, p)
    np.testing.assert_allclose(p, [0, 0.25, 0.4])
    np.testing.assert_allclose(variant[0, 1] + variant[1, 2], A[0, 1] + A[1, 2] + p[0] - p[2])


@pytest.mark.parametrize("seed", SEEDS)
def test_renaming_renames_the_predecessors(seed: int) -> None:
    A, s = instance(seed)
    order = np.random.RandomState(seed).permutation(N)
    variant = renamed(A, s, order)
    np.testing.assert_array_equal(predecessors(*variant), order.argsort()[predecessors(A, s)[order]])


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_a_study_has_every_instance_before_its_variants_which_differ_and_run_as_long(symmetry: str) -> None:
    batch, parameters = study(symmetry, num_nodes=N, num_instances=3, num_variants=4, seed=1)
    assert parameters.shape == (3, 4)
    A = batch.feedback.features.inputs["A"].unflatten(0, (3, 5))
    rng = np.random.RandomState(1)
    for i in range(3):
        np.testing.assert_array_equal(A[i, 0], draw_weighted_graph_and_source(rng, N)[0].astype(np.float32))
        assert all(not A[i, 0].equal(variant) for variant in A[i, 1:])
    lengths = batch.feedback.features.lengths.view(3, 5)
    assert lengths.equal(lengths[:, :1].expand(3, 5))
