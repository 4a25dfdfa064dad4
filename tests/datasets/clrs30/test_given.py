"""Algorithms of CLRS-30 on inputs of a user's own, right ones and wrong ones."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import own_algorithm
import pytest
import torch
from engine import assert_equals_probes

from nar.batch import Feedback, NumpyArray
from nar.datasets import ALGORITHMS, sample
from nar.datasets.clrs30.given import check_given
from nar.datasets.clrs30.samplers import CLRS_30, run_on
from nar.errors import UserError

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
NUMBER = 150
"""Of mutants of each algorithm."""


def drawn(algorithm: str, num_nodes: int, seed: int = 0) -> tuple[Any, ...]:
    """What its sampler draws."""
    return CLRS_30[algorithm].draw(np.random.RandomState(seed), num_nodes)


def bits(feedback: Feedback[NumpyArray]) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    """All that it has."""
    (inputs, hints, lengths), outputs = feedback
    stages = (inputs, hints, {"lengths": lengths}, outputs)
    return [(name, str(x.dtype), x.shape, x.tobytes()) for stage in stages for name, x in stage.items()]


FORMS: dict[str, Callable[[Any], Any]] = {
    "as drawn": lambda value: value,
    "lists": lambda value: value.tolist() if isinstance(value, np.ndarray) else value,
    "tensors": lambda value: torch.as_tensor(value) if isinstance(value, np.ndarray) else value,
    "in Fortran's order": lambda value: np.asfortranarray(value) if isinstance(value, np.ndarray) else value,
    "read-only": lambda value: np.broadcast_to(value, np.shape(value)) if isinstance(value, np.ndarray) else value,
    "objects of NumPy": lambda value: value if isinstance(value, np.ndarray) else np.asarray(value)[()],
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@every_algorithm
def test_what_a_sampler_draws_gives_its_trajectories_in_whatever_form_it_is_given(algorithm: str, form: str) -> None:
    rng = np.random.RandomState(3)
    given = [tuple(map(FORMS[form], CLRS_30[algorithm].draw(rng, 9))) for _ in range(3)]
    ours = run_on(algorithm, [list(values) for values in given] if form == "lists" else given, num_nodes=9)
    assert bits(ours) == bits(sample(algorithm, num_nodes=9, num_samples=3, seed=3))


@every_algorithm
def test_given_inputs_have_the_types_that_the_algorithm_is_compiled_for(algorithm: str) -> None:
    own = drawn(algorithm, 9)
    (taken,) = check_given(CLRS_30[algorithm], [tuple(map(FORMS["lists"], own))], 9)
    for ours, theirs in zip(taken, own, strict=True):
        assert type(ours) is type(theirs)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype
            assert ours.flags.c_contiguous
            assert ours.flags.writeable


A = np.array([[0, 0.5, 0], [0.5, 0, 1.5], [0, 1.5, 0]])
PATH = (A > 0).astype(int)
X, Y = [0.0, 1.0, 0.2], [0.0, 0.1, 1.0]
WRONG: list[tuple[str, Any, str]] = [
    ("bfs", (PATH, 99), "expected s to be a node from 0 to 2, given 99"),
    ("bfs", (PATH, -1), "expected s to be a node from 0 to 2, given -1"),
    ("bfs", (PATH, 1.5), "expected s to be a node from 0 to 2, given 1.5"),
    ("bfs", (PATH, np.nan), "expected s to be a node from 0 to 2, given nan"),
    ("bfs", (PATH, True), "expected s to be a node from 0 to 2, given True"),
    ("bfs", (PATH, [1]), "expected s to be a node from 0 to 2, given [1]"),
    ("bfs", (PATH,), "expected a tuple of A and s, given (array([[0, 1, 0],"),
    ("bfs", (PATH, 1, 1), "expected a tuple of A and s, given (array([[0, 1, 0],"),
    ("bfs", PATH, "expected a tuple of A and s, given an array of shape (3, 3) and type int64"),
    ("bfs", (PATH[:2], 1), "expected A in shape (3, 3), given (2, 3)"),
    ("bfs", (np.zeros((4, 4)), 1), "expected A in shape (3, 3), given (4, 4)"),
    ("bfs", (A, 1), "expected whole numbers from 0 to 1 in A, given 0.5"),
    ("bfs", (PATH * 1j, 1), "expected numbers in A, given an array of shape (3, 3) and type complex128"),
    ("bfs", (PATH.astype(object), 1), "expected numbers in A, given an array of shape (3, 3) and type object"),
    ("bfs", ([[0, 1], [1]], 1), "expected numbers in A, given [[0, 1], [1]]"),
    ("bfs", (None, 1), "expected numbers in A, given None"),
    ("bfs", (torch.zeros(3, 3, requires_grad=True), 1), "expected numbers in A, given tensor([[0."),
    ("dijkstra", (-A, 1), "expected numbers of at least 0 in A, given -0.5"),
    ("dijkstra", (A * np.nan, 1), "expected 0 or a size from 1e-100 to 1e+100 in A, given nan"),
    ("dijkstra", (A * 1e-200, 1), "expected 0 or a size from 1e-100 to 1e+100 in A, given 5e-201"),
    ("dijkstra", (A * 4e8, 1), "expected paths shorter than 1e+09, given weights up to 6e+08 on 3 nodes"),
    ("mst_prim", (-A, 1), "expected numbers of at least 0 in A, given -0.5"),
    ("mst_prim", (np.triu(A), 1), "expected A to be symmetric, given 0.5 from 0 to 1 and 0.0 back"),
    ("mst_kruskal", (-A,), "expected numbers of at least 0 in A, given -0.5"),
    ("mst_kruskal", (np.triu(A),), "expected A to be symmetric"),
    ("bridges", (np.triu(PATH),), "expected A to be symmetric"),
    ("articulation_points", (np.triu(PATH),), "expected A to be symmetric"),
    ("bellman_ford", (-A, 1), "expected A to have no cycles of negative weight"),
    ("floyd_warshall", (-A,), "expected A to have no cycles of negative weight"),
    ("bellman_ford", (A - np.eye(3), 1), "expected no loop of negative weight in A"),
    ("dag_shortest_paths", (A, 1), "expected A to have no cycles, given one that has"),
    ("topological_sort", (np.eye(3),), "expected A to have no cycles, given one that has"),
    ("insertion_sort", ([1, 2],), "expected keys in shape (3,), given (2,)"),
    ("insertion_sort", ([1, 2, np.inf],), "expected 0 or a size from 1e-100 to 1e+100 in keys, given inf"),
    ("insertion_sort", ([1, 2, 2**53 + 1],), "expected 0 or a size from 1e-100 to 9007199254740991 in keys"),
    ("insertion_sort", ("abc",), "expected numbers in keys, given 'abc'"),
    ("minimum", ({1: 2},), "expected numbers in keys, given {1: 2}"),
    ("binary_search", (1, [3, 1, 2]), "expected keys in ascending order, given 1.0 after 3.0"),
    ("binary_search", (np.nan, [1, 2, 3]), "expected target to be a finite number, given nan"),
    ("binary_search", ([1], [1, 2, 3]), "expected target to be a finite number, given [1]"),
    ("activity_selector", ([1, 2, 3], [1, 1, 3]), "expected activities that finish after they start, given 2.0 to 1.0"),
    ("task_scheduling", ([0, 1, 2], [1, 1, 1]), "expected whole numbers from 1 to"),
    ("task_scheduling", ([1.5, 1, 2], [1, 1, 1]), "expected whole numbers from 1 to"),
    ("matrix_chain_order", ([1, 0, 2],), "expected numbers of at least 1e-100 in p, given 0.0"),
    ("optimal_bst", ([0.1] * 3, [0.1] * 3), "expected q in shape (4,), given (3,)"),
    ("optimal_bst", ([0.1, 0.1, -0.1], [0.1] * 4), "expected numbers from 0 to 1 in p, given -0.1"),
    ("lcs_length", ([0, 1], [4]), "expected whole numbers from 0 to 3 in y, given 4"),
    ("lcs_length", ([0, 1, 1], []), "expected 3 letters in x and y together, one or more in each, given 3 and 0"),
    ("lcs_length", (5, [1]), "expected x to be a list or an array, given 5"),
    ("kmp_matcher", ([0], [1, 2]), "expected a needle P no longer than the haystack T, given 2 and 1 letters"),
    ("naive_string_matcher", ("ac", "g"), "expected numbers in T, given 'ac'"),
    ("segments_intersect", ([0, 1, 2], [0, 1, 2]), "expected xs in shape (4,), given (3,)"),
    ("graham_scan", ([0, 1, 2], [0, 1, 2]), "expected no three points on one line"),
    ("jarvis_march", ([0, 0, 2], [0, 0, 2]), "expected points that all differ"),
]


@pytest.mark.parametrize(("algorithm", "values", "message"), WRONG)
def test_an_input_that_an_algorithm_does_not_take_is_refused_by_name(algorithm: str, values: Any, message: str) -> None:
    right = drawn(algorithm, 3)
    with pytest.raises(UserError) as error:
        run_on(algorithm, [right, values], num_nodes=3)
    assert str(error.value).startswith(f"{algorithm}, input 1: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [[], (), None, 5, "bfs", np.zeros((2, 3)), iter([(PATH, 1)])])
def test_what_is_no_list_of_inputs_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match="expected a list of one or more inputs of bfs, given"):
        run_on("bfs", given, num_nodes=3)


@pytest.mark.parametrize("num_nodes", [0, 1, -1, 40_000, 10**30, 3.0, None, "3", True])
def test_a_size_that_none_is_of_is_refused(num_nodes: Any) -> None:
    with pytest.raises(UserError, match="nodes"):
        run_on("bfs", [(PATH, 1)], num_nodes=num_nodes)


@pytest.mark.parametrize("values", [(), (PATH, PATH), PATH, None])
def test_an_algorithm_of_ones_own_is_given_as_many_arguments_as_it_takes(values: Any) -> None:
    with pytest.raises(UserError, match=r"^Components, input 1: expected a tuple of what `inputs` takes"):
        run_on(own_algorithm.Components(), [(PATH,), values], num_nodes=3)


# Generated inputs


ODD = [None, True, "a", b"\0", "", [], (), {}, -1, 99, 1.5, 10**30, np.nan, np.inf, 1j, ..., np.zeros(0), [[]]]
ENTRIES = [np.nan, np.inf, -np.inf, -1, 0, -0.0, 1, 0.5, 99, 2**31, 1e9, 1e20, 1e300, 1e-300, -1e-12]
NUMBERS = "biuf"
TYPES = ["f2", "f4", "f8", "g", "i1", "i8", "u8", "?", "c16", "O", "U", "S", "M8[s]"]


def changed(rng: np.random.RandomState, value: Any) -> Any:
    """A value in another form, of another type or size, with another entry, or another value."""
    way = rng.randint(10)
    if way == 0 or not isinstance(value, np.ndarray) or value.size == 0 or value.dtype.kind not in NUMBERS:
        return ODD[rng.randint(len(ODD))]
    array = value.copy()
    match way:
        case 1:
            return array[:-1]
        case 2:
            return np.concatenate([array, array[:1]])
        case 3:
            return array[..., None]
        case 4:
            return array[::-1]
        case 5:
            return array.T.tolist()
        case 6:
            with np.errstate(all="ignore"):
                return array.astype(TYPES[rng.randint(len(TYPES))])
    flat = array.astype(np.float64).ravel()
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(len(flat))
        flat[place] = flat[rng.randint(len(flat))] if way == 7 else ENTRIES[rng.randint(len(ENTRIES))]
    array = flat.reshape(array.shape)
    return np.maximum(array, array.T) if way == 9 and array.ndim == 2 and len(array) == len(array.T) else array


def mutants(algorithm: str) -> Iterator[tuple[int, Any]]:
    """Sizes and inputs of an algorithm that are near to what it takes."""
    rng = np.random.RandomState(ALGORITHMS.index(algorithm))
    for _ in range(NUMBER):
        num_nodes = int(rng.randint(4, 8))
        values = list(drawn(algorithm, num_nodes, rng.randint(2**31)))
        for _ in range(rng.randint(1, 3)):
            place = rng.randint(len(values))
            values[place] = changed(rng, values[place])
        if rng.randint(20) == 0:
            values = values[1:] if rng.randint(2) else [*values, values[0]]
        yield num_nodes, tuple(values)


def outcome(algorithm: str, num_nodes: int, values: Any) -> Feedback[NumpyArray] | str:
    """The trajectory, or what is said of the input."""
    try:
        return run_on(algorithm, [values], num_nodes=num_nodes)
    except UserError as error:
        return str(error)


def digests(algorithm: str) -> list[str]:
    """What becomes of each mutant."""
    found = (outcome(algorithm, *mutant) for mutant in mutants(algorithm))
    return [one if isinstance(one, str) else hashlib.sha256(repr(bits(one)).encode()).hexdigest() for one in found]


@pytest.mark.slow
@every_algorithm
def test_whatever_is_given_is_refused_or_gives_the_trajectory_of_dm_clrs(clrs: Any, algorithm: str) -> None:
    taken = 0
    for num_nodes, values in mutants(algorithm):
        ours = outcome(algorithm, num_nodes, values)
        if isinstance(ours, str):
            assert ours.startswith(algorithm)
            assert "\n" not in ours
        else:
            taken += 1
            (data,) = check_given(CLRS_30[algorithm], [values], num_nodes)
            _, probes = getattr(clrs._src.algorithms, algorithm)(*deepcopy(data))
            if algorithm == "naive_string_matcher" and ours.outputs["match"] == len(data[0]):
                clrs._src.probing.finalize(probes)  # which dm-clrs forgets where the needle is not found
            assert_equals_probes(clrs, algorithm, ours, probes)
    assert 0 < taken < NUMBER


@pytest.mark.slow
def test_whatever_is_given_compiled_code_reads_and_writes_where_plain_python_does() -> None:
    code = f"import sys; sys.path += {sys.path!r}; import test_given; print([*map(test_given.digests, {ALGORITHMS})])"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONSAFEPATH": "1"}
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(Path(__file__).parent)!r}); {code}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == str([*map(digests, ALGORITHMS)])


def test_every_algorithm_is_looked_at() -> None:
    assert all(algorithm.take for algorithm in CLRS_30.values())
