"""An algorithm of a user's own: its data, what is refused, how it is cached, and what a model makes of it."""

import importlib
import pickle
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import own_algorithm
import pytest
import torch
from numba import njit
from own_algorithm import (
    COMPONENTS,
    KINDS,
    CompiledComponents,
    Components,
    ComponentsByFunction,
    EveryKind,
    Told,
    probe_of,
)
from torch.utils.data import DataLoader

from nar.batch import Feedback, NumpyArray
from nar.datasets import CLRS30, Algorithm, Trace, record, sample
from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.engine.fingerprint import code_of
from nar.datasets.splits import generation
from nar.datasets.splits.cache import Cache
from nar.datasets.splits.generation import generate_splits
from nar.datasets.splits.splits import Split, SplitBatches, TrainStream
from nar.errors import UserError
from nar.model.losses import losses
from nar.model.metrics import counts, scores
from nar.model.unroll import EncodeProcessDecode
from nar.processors import PGN
from nar.specs import Location, Probe, Stage, Type, at_stage

NODE, EDGE, GRAPH = Location
STAGES = pytest.mark.parametrize("stage", Stage)


def drawn(algorithm: Algorithm, num_nodes: int = 4, **settings: Any) -> Feedback[NumpyArray]:
    """A few trajectories."""
    return sample(algorithm, **{"num_nodes": num_nodes, "num_samples": 3, "seed": 0, **settings})


def refusal(algorithm: Algorithm, **settings: Any) -> str:
    """What is said of an algorithm that breaks its spec."""
    with pytest.raises(UserError) as error:
        drawn(algorithm, **settings)
    return str(error.value)


def saying(probe: Probe, value: Any) -> Told:
    """An algorithm that says `value` of a probe ``p``."""
    at = {stage: (value,) if probe.stage is stage else () for stage in Stage}
    hints = (at[Stage.HINT],) if at_stage({"p": probe}, Stage.HINT) else ()
    return Told({"p": probe}, at[Stage.INPUT], hints, at[Stage.OUTPUT])


def doing(algorithm: Algorithm, **methods: Any) -> Any:
    """The algorithm with other methods."""
    for name, method in methods.items():
        setattr(algorithm, name, method)
    return algorithm


def data_of(algorithm: Algorithm, name: str) -> Any:
    """A probe's data in one trajectory; of a hint at the first time."""
    (inputs, hints, _), outputs = drawn(algorithm, num_samples=1)
    return ({**inputs, **outputs}[name] if name not in hints else hints[name][0])[0].tolist()


# What is drawn


def arrays(feedback: Feedback[NumpyArray]) -> dict[str, NumpyArray]:
    """All that it has."""
    (inputs, hints, lengths), outputs = feedback
    return {**inputs, **hints, **outputs, "lengths": lengths}


def assert_equal(ours: Feedback[NumpyArray], theirs: Feedback[NumpyArray]) -> None:
    """Fail if a value or a type of it differs."""
    one, other = arrays(ours), arrays(theirs)
    assert list(one) == list(other)
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        np.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [CompiledComponents, ComponentsByFunction])
@pytest.mark.parametrize("hints", ["all", "first", "none"])
def test_compiled_code_gives_the_data_of_plain_python(compiled: type[Components], hints: str) -> None:
    settings: dict[str, Any] = {"num_nodes": 9, "num_samples": 20, "hints": hints}
    assert_equal(drawn(compiled(2.0), **settings), drawn(Components(2.0), **settings))


def test_components_are_found() -> None:
    (inputs, hints, lengths), outputs = drawn(Components(), num_nodes=12)
    for sample_, adj in enumerate(inputs["adj"]):
        joined = np.linalg.matrix_power(adj.astype(np.int64) + np.eye(12, dtype=np.int64), 12) > 0
        assert outputs["label"][sample_].tolist() == joined.argmax(axis=1).tolist()
        last = hints["label_h"][lengths[sample_] - 1, sample_]
        assert last.tolist() == outputs["label"][sample_].tolist()


@STAGES
@pytest.mark.parametrize(
    ("location", "type_", "indices", "rows"),
    [
        (NODE, Type.MASK_ONE, 2, [0, 0, 1, 0]),
        (NODE, Type.POINTER, [3, 1, 1, 0], np.eye(4)[[3, 1, 1, 0]]),
        (NODE, Type.CATEGORICAL, [0, 2, 1, 0], np.eye(3)[[0, 2, 1, 0]]),
        (EDGE, Type.POINTER, np.arange(16).reshape(4, 4) % 4, np.eye(4)[np.arange(16).reshape(4, 4) % 4]),
        (GRAPH, Type.CATEGORICAL, 1, [0, 1, 0]),
        (GRAPH, Type.POINTER, 3, [False, False, False, True]),
    ],
)
def test_a_choice_is_an_index_or_a_row_with_a_single_1(
    stage: Stage, location: Location, type_: Type, indices: Any, rows: Any
) -> None:
    probe = probe_of(stage, location, type_)
    by_index, by_row = (data_of(saying(probe, value), "p") for value in (indices, rows))
    assert by_index == by_row == np.asarray(indices).tolist()


def test_what_an_algorithm_does_to_its_data_does_not_matter() -> None:
    class InPlace(Components):
        def run(self, adj: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
            result = super().run(adj, trace)
            adj[:] = False  # and yet the first trajectory is run twice
            return result

    assert_equal(drawn(InPlace(), num_nodes=9), drawn(Components(), num_nodes=9))


def test_what_is_recorded_is_as_it_was_then() -> None:
    class Overwriting(Components):
        def run(self, adj: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
            label = np.zeros(len(adj))
            for i in range(3):
                label[:] = i
                record(trace, label)
            return (label,)

    assert drawn(Overwriting()).features.hints["label_h"][:, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("times", "length"), [(0, 1), (1, 1), (3, 3)])
def test_without_hints_the_number_of_records_is_that_of_steps(times: int, length: int) -> None:
    features = drawn(Told({}, hints=[()] * times)).features
    assert features.hints == {}
    assert features.lengths.tolist() == [length] * 3


def test_compiled_code_records_steps_without_hints() -> None:
    @njit
    def run(trace: Trace) -> tuple[NumpyArray]:
        for _ in range(5):
            record(trace)
        return (np.zeros(4),)

    assert drawn(doing(Told({}), run=run)).features.lengths.tolist() == [5, 5, 5]


@pytest.mark.parametrize("num_nodes", [1, 2, 5])
def test_every_kind_of_probe_is_drawn_in_its_shape(num_nodes: int) -> None:
    algorithm = EveryKind()
    (inputs, hints, lengths), outputs = drawn(algorithm, num_nodes=num_nodes)
    shapes = {NODE: (num_nodes,), EDGE: (num_nodes, num_nodes), GRAPH: ()}
    assert lengths.tolist() == [3, 3, 3]
    for name, data in {**inputs, **hints, **outputs}.items():
        probe = algorithm.spec[name]
        leading = (3, 3) if probe.stage is Stage.HINT else (3,)
        assert data.shape == leading + (() if probe.type is Type.MASK_ONE else shapes[probe.location]), name


def test_an_argument_of_its_own_draw_reaches_it() -> None:
    class Dense(Components):
        def draw(self, rng: np.random.RandomState, num_nodes: int, *, density: float = 0.0) -> tuple[NumpyArray]:
            return (np.full((num_nodes, num_nodes), density == 1.0),)

    assert drawn(Dense(), density=1.0).features.inputs["adj"].all()
    assert not drawn(Dense()).features.inputs["adj"].any()


# What is refused

BREAKING = [
    (NODE, Type.MASK_ONE, [1, 1, 0, 0], "expected a single 1 in every row of the mask_one p, given [1, 1, 0, 0]"),
    (NODE, Type.MASK_ONE, [0, 0, 0, 0], "expected a single 1 in every row of the mask_one p, given [0, 0, 0, 0]"),
    (NODE, Type.MASK_ONE, 4, "expected an index from 0 to 3 in the mask_one p, given 4"),
    (NODE, Type.MASK_ONE, [1, 0, 0], "expected p (node mask_one) in shape (), given (3,)"),
    (NODE, Type.POINTER, [0, 1, 2, 4], "expected an index from 0 to 3 in the pointer p, given 4"),
    (NODE, Type.POINTER, [0, -1, 2, 3], "expected an index from 0 to 3 in the pointer p, given -1"),
    (NODE, Type.POINTER, [0, 1, 0.5, 3], "expected an index from 0 to 3 in the pointer p, given 0.5"),
    (NODE, Type.POINTER, [0, np.nan, 0, 3], "expected an index from 0 to 3 in the pointer p, given nan"),
    (NODE, Type.POINTER, np.ones((4, 4)), "every row of the pointer p, given [1.0, 1.0, 1.0, 1.0]"),
    (EDGE, Type.POINTER, np.eye(4) * 9, "expected an index from 0 to 3 in the pointer p, given 9.0"),
    (GRAPH, Type.POINTER, 4, "expected an index from 0 to 3 in the pointer p, given 4"),
    (NODE, Type.SCALAR, [0, np.nan, 0, 1], "expected a finite number in the scalar p, given nan"),
    (GRAPH, Type.SCALAR, -np.inf, "expected a finite number in the scalar p, given -inf"),
    (NODE, Type.SCALAR, [0, 1, 2], "expected p (node scalar) in shape (4,), given (3,)"),
    (NODE, Type.SCALAR, 1.5, "expected p (node scalar) in shape (4,), given ()"),
    (GRAPH, Type.SCALAR, [0, 1], "expected p (graph scalar) in shape (), given (2,)"),
    (EDGE, Type.MASK, [0, 1, 0, 1], "expected p (edge mask) in shape (4, 4), given (4,)"),
    (EDGE, Type.MASK, np.eye(4) * 2, "expected 0, 1 or -1 in the mask p, given 2.0"),
    (NODE, Type.CATEGORICAL, [0, 1, 2, 3], "expected an index from -1 to 2 in the categorical p, given 3"),
    (NODE, Type.CATEGORICAL, np.ones((4, 3)), "every row of the categorical p, given [1.0, 1.0, 1.0]"),
    (NODE, Type.SCALAR, list("abcd"), "expected numbers in p, given ['a', 'b', 'c', 'd']"),
    (NODE, Type.SCALAR, [[1], [1, 2]], "expected numbers in p, given [[1], [1, 2]]"),
    (NODE, Type.SCALAR, None, "expected numbers in p, given None"),
    (EDGE, Type.SCALAR, np.full((4, 4), "a"), "expected numbers in p, given array([['a', 'a', 'a', 'a'], ['a', "),
    (GRAPH, Type.SCALAR, 1j, "expected numbers in p, given 1j"),
]


@STAGES
@pytest.mark.parametrize(("location", "type_", "value", "message"), BREAKING)
def test_a_value_that_breaks_its_type_is_refused_by_name_and_value(
    stage: Stage, location: Location, type_: Type, value: Any, message: str
) -> None:
    found = refusal(saying(probe_of(stage, location, type_), value))
    assert found.startswith("Told: ")
    assert message in found
    assert "\n" not in found


def test_a_hint_is_refused_when_it_is_recorded() -> None:
    reached = []

    class Late(Components):
        def run(self, adj: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
            record(trace, np.full(len(adj), -1))
            reached.append(trace)
            return (np.arange(len(adj)),)

    assert "the pointer label_h, given -1" in refusal(Late(), hints="first")
    assert reached == []


@njit
def say(value: Any, trace: Trace) -> tuple[NumpyArray]:
    """Record it, compiled."""
    record(trace, value)
    return (np.zeros(4),)


@njit
def say_twice(value: Any, trace: Trace) -> tuple[NumpyArray]:
    """Record two values at once, compiled."""
    record(trace, value, value)
    return (np.zeros(4),)


def saying_compiled(probe: Probe, value: Any, run: Any = say) -> Any:
    """An algorithm that is given `value` and records it as ``p`` in compiled code."""
    draw, inputs = lambda rng, num_nodes: (value,), lambda value: (np.zeros(4),)
    return doing(Told({"p": probe}), draw=draw, inputs=inputs, run=run)


@pytest.mark.parametrize(
    ("location", "type_", "value", "message"),
    [
        (NODE, Type.POINTER, np.array([0, 1, 2, 4]), "expected an index from 0 to 3 in the pointer p, given 4.0"),
        (NODE, Type.POINTER, np.array([0, 1, 2, 2**16]), "in the pointer p, given 65536.0"),
        (NODE, Type.POINTER, np.array([0, np.nan, 2, 3]), "in the pointer p, given nan"),
        (NODE, Type.POINTER, np.array([0, 0.5, 2, 3]), "in the pointer p, given 0.5"),
        (NODE, Type.SCALAR, np.array([0, np.inf, 2, 3]), "expected a finite number in the scalar p, given inf"),
        (NODE, Type.POINTER, np.arange(3), "expected p (node pointer) in shape (4,), given (3,)"),
        (NODE, Type.POINTER, np.arange(5), "expected p (node pointer) in shape (4,), given (5,)"),
        (NODE, Type.POINTER, np.eye(4), "expected p (node pointer) in shape (4,), given an array of 2 axes"),
        (NODE, Type.POINTER, 3, "expected p (node pointer) in shape (4,), given a number"),
        (NODE, Type.MASK_ONE, np.array([0, 1, 0, 0]), "expected p (node mask_one) in shape (), given an array of 1"),
        (NODE, Type.MASK_ONE, 4, "expected an index from 0 to 3 in the mask_one p, given 4.0"),
    ],
)
def test_compiled_code_is_refused_what_breaks_a_type_too(
    location: Location, type_: Type, value: Any, message: str
) -> None:
    found = refusal(saying_compiled(Probe(Stage.HINT, location, type_), value))
    assert found.startswith("Told: ")
    assert message in found
    assert "\n" not in found


@pytest.mark.parametrize("kind", ["python", "compiled"])
def test_an_extra_hint_is_refused_with_the_names_of_all(kind: str) -> None:
    probe = Probe(Stage.HINT, NODE, Type.POINTER)
    both = Told({"p": probe}, hints=[(range(4), range(4))]), saying_compiled(probe, np.arange(4), say_twice)
    assert refusal(both[kind == "compiled"]) == "Told: expected the hints p to be recorded, given 2 values"


def test_a_missing_hint_is_refused_with_the_names_of_all() -> None:
    probe = Probe(Stage.HINT, NODE, Type.POINTER)
    algorithm = Told({"p": probe, "q": probe}, hints=[(range(4),)])
    assert refusal(algorithm) == "Told: expected the hints p, q to be recorded, given 1 values"


def test_a_hint_where_there_are_none_is_refused() -> None:
    assert refusal(Told({}, hints=[(3,)])) == "Told: expected the hints (none) to be recorded, given 1 values"


def test_hints_that_are_never_recorded_are_refused() -> None:
    found = refusal(Told({"p": Probe(Stage.HINT, NODE, Type.POINTER)}))
    assert found == "Told: expected the hints p to be recorded at least once, given none"


@pytest.mark.parametrize("stage", [Stage.INPUT, Stage.OUTPUT])
def test_a_missing_or_an_extra_input_or_output_is_refused_with_the_names_of_all(stage: Stage) -> None:
    first = {Stage.INPUT: "x", Stage.OUTPUT: "y"}[stage]
    for values in ((), (1, 2)):
        at: Any = {"inputs" if stage is Stage.INPUT else "outputs": values}
        found = refusal(Told({"p": Probe(stage, GRAPH, Type.SCALAR)}, **at))
        assert found == f"Told: expected the {stage} probes {first}, p, given {1 + len(values)} values"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("draw", "expected a tuple of what is drawn, given ndarray"),
        ("inputs", "expected a tuple of the input probes pos, adj, given ndarray"),
        ("run", "expected a tuple of the output probes label, given ndarray"),
    ],
)
def test_what_is_no_tuple_is_refused(method: str, message: str) -> None:
    def bare(*args: Any) -> NumpyArray:
        if method == "run":
            record(args[-1], np.arange(4))
        return np.arange(4)

    assert refusal(doing(Components(), **{method: bare})) == f"Components: {message}"


@pytest.mark.parametrize("pointers", [[0], [1, 1], [2, 0, 2], [3, 2, 2, 1]])
def test_a_chain_in_any_order_is_a_permutation(pointers: list[int]) -> None:
    algorithm = doing(EveryKind(stages=()), run=lambda n, first, trace: (pointers,))
    assert drawn(algorithm, num_nodes=len(pointers)).outputs["order"][0].tolist() == pointers


@pytest.mark.parametrize(
    "pointers",
    [
        pytest.param([0, 1, 1, 2], id="two that are first"),
        pytest.param([1, 2, 3, 0], id="none that is first"),
        pytest.param([0, 0, 0, 1], id="two after one"),
        pytest.param([0, 2, 3, 1], id="a cycle beside the first"),
        pytest.param([0, 0, 3, 2], id="a cycle beside a chain"),
    ],
)
def test_what_is_no_chain_is_refused_as_a_permutation(pointers: list[int]) -> None:
    algorithm = doing(EveryKind(stages=()), run=lambda n, first, trace: (pointers,))
    found = refusal(algorithm)
    assert found == f"EveryKind: expected a chain whose first node points at itself in order, given {pointers}"


@pytest.mark.parametrize("pos", [[0.1, 0.2, 0.3, 0.4], [0, 0.5, 0.3, 0.4], [0, 1, 2, 3]])
def test_positions_that_do_not_ascend_from_0_to_1_are_refused(pos: list[float]) -> None:
    algorithm = doing(Components(), inputs=lambda adj: (pos, adj))
    given = [float(x) for x in pos]
    assert refusal(algorithm) == f"Components: expected the positions pos to ascend from 0 to 1, given {given}"


def test_positions_of_two_sequences_may_both_begin_at_0() -> None:
    algorithm = doing(Components(), inputs=lambda adj: ([0, 0.5, 0, 0.5], adj))
    pos = TrainStream([algorithm], [4], 2, seed=0)[0].feedback.features.inputs["pos"]
    assert (pos[:, 1] > pos[:, 0]).all()
    assert (pos[:, 3] > pos[:, 2]).all()


def test_trajectories_of_several_sizes_are_refused() -> None:
    class Growing(Components):
        def draw(self, rng: np.random.RandomState, num_nodes: int) -> tuple[NumpyArray]:
            self.extra = getattr(self, "extra", -1) + 1
            return super().draw(rng, num_nodes + self.extra)

    assert refusal(Growing()) == "Growing: expected pos (node scalar) in shape (4,), given (5,)"


def test_an_input_without_nodes_is_refused() -> None:
    algorithm = doing(Components(), inputs=lambda adj: (0.0, adj))
    assert refusal(algorithm) == "Components: expected a value for every node in pos, given 0.0"


X, Y = (Probe(stage, NODE, Type.MASK) for stage in (Stage.INPUT, Stage.OUTPUT))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, "expected a spec, a dict of probes by name, given None"),
        ({"x": X}, "expected an output probe, given none"),
        ({"y": Y}, "expected an input probe with a value for each node or edge, given none"),
        (
            {"x": Probe(Stage.INPUT, NODE, Type.MASK_ONE), "y": Y},
            "expected an input probe with a value for each node or edge, given none",
        ),
        (
            {"x": ("input", "node", "mask"), "y": Y},
            "expected x to be a Probe of a Stage, a Location and a Type",
        ),
        ({"x": X, "y": Probe("output", NODE, Type.MASK)}, "expected y to be a Probe of a Stage"),  # type: ignore[arg-type]
        ({"x y": X, "y": Y}, "expected another name for the probe x y: letters, digits and _, and none of PyTorch's"),
        ({"keys": X, "y": Y}, "expected another name for the probe keys"),
        ({3: X, "y": Y}, "expected another name for the probe 3"),
        ({"x": X, "score": Y}, "expected another name for the output score: it is that of all outputs together"),
        ({"x": X, "loss": Y}, "expected another name for the output loss"),
        ({"x": X, "y": Probe(Stage.OUTPUT, NODE, Type.CATEGORICAL)}, "2 to 127 classes of the categorical y, given 0"),
        ({"x": X, "y": Probe(Stage.OUTPUT, NODE, Type.CATEGORICAL, 128)}, "from 2 to 127 classes of the categorical y"),
        ({"x": X, "y": Probe(Stage.OUTPUT, NODE, Type.MASK, 2)}, "expected no classes of the mask y, given 2"),
        ({"x": X, "y": Probe(Stage.OUTPUT, NODE, Type.PERMUTATION_POINTER)}, "expected the type should_be_permutation"),
        (
            {"x": X, "h": Probe(Stage.HINT, NODE, Type.SHOULD_BE_PERMUTATION), "y": Y},
            "expected the should_be_permutation h to be an output of nodes, given hint of node",
        ),
        (
            {"x": X, "y": Probe(Stage.OUTPUT, NODE, Type.SHOULD_BE_PERMUTATION), "y_mask": Y},
            "expected another name for the probe y_mask: it is that of the first node of y",
        ),
        (
            {"x": X, "y": Probe(Stage.OUTPUT, GRAPH, Type.MASK_ONE)},
            "expected the mask_one y to be of nodes, given graph; the graph has pointers",
        ),
        (
            {"pos": X, "y": Y},
            "expected pos, the positions, to be an input node scalar, given input node mask",
        ),
    ],
)
def test_a_spec_that_no_model_can_be_made_for_is_refused(spec: Any, message: str) -> None:
    algorithm = Components()
    algorithm.spec = spec
    found = refusal(algorithm)
    assert found.startswith(f"Components: {message}") or message in found
    with pytest.raises(UserError) as error:
        CLRS30(algorithm)
    assert str(error.value) == found


def test_an_algorithm_without_a_spec_is_refused() -> None:
    class Empty(Algorithm):
        def draw(self, rng: np.random.RandomState, num_nodes: int) -> tuple[()]:
            return ()

        inputs = run = lambda self, *args: ()

    assert refusal(Empty()) == "Empty: expected a spec, a dict of probes by name, given None"


def test_an_algorithm_may_have_another_name_than_its_class() -> None:
    class Named(Components):
        name = "components"

    assert list(CLRS30(["bfs", Named()]).specs) == ["bfs", "components"]


def test_a_name_that_no_part_of_a_model_can_have_is_refused() -> None:
    algorithm = Components()
    algorithm.name = "my components"
    assert "expected another name for the algorithm my components" in refusal(algorithm)


def test_two_algorithms_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match=r"different algorithms, given \['Components', 'Components'\]"):
        CLRS30([Components(), Components(3.0)])


def test_a_size_below_its_smallest_is_refused() -> None:
    with pytest.raises(UserError, match="Components needs at least 1 nodes, given 0"):
        drawn(Components(), num_nodes=0)


def test_a_class_in_place_of_an_instance_is_refused() -> None:
    with pytest.raises(UserError, match=r"unknown algorithm <class 'own_algorithm.Components'>"):
        CLRS30(Components)  # type: ignore[arg-type]


# Splits and caches


def test_a_split_is_what_the_cache_has_of_it(tmp_path: Path) -> None:
    for is_test in (False, True):
        split = Split(Components(), 7, is_test)
        once, again, anew = (split.load(Cache(where)) for where in (tmp_path, tmp_path, tmp_path / "other"))
        assert_equal(once, again)
        assert_equal(once, anew)
        assert len(once.features.lengths) == (32 if is_test else 64)


def written(folder: Path, monkeypatch: pytest.MonkeyPatch, **sources: str) -> ModuleType:
    """The module ``first`` of these, written to a folder and imported."""
    return imported(folder, monkeypatch, sources)


def imported(folder: Path, monkeypatch: pytest.MonkeyPatch, sources: Mapping[str, str]) -> ModuleType:
    """The module ``first`` of files, which a folder is to have."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(folder)
    for path, source in sources.items():
        (folder / f"{path}.py").write_text(source)
    importlib.invalidate_caches()
    before = set(sys.modules)
    module = importlib.import_module("first")
    for name in set(sys.modules) - before:
        del sys.modules[name]
    return module


MINE = "from own_algorithm import Components\nfrom helper import BASE\n\nclass Mine(BASE):\n    pass\n"
HELPER = "import numpy\nimport own_algorithm\nBASE = own_algorithm.Components\n"


@pytest.mark.parametrize(
    ("changed", "is_same"),
    [
        ({}, True),
        ({"first": MINE.replace("pass", "min_num_nodes = 2")}, False),
        ({"helper": HELPER + "# another\n"}, False),
    ],
    ids=["nothing", "its module", "a module that this imports"],
)
def test_a_change_of_the_code_gives_new_data(
    changed: dict[str, str], is_same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {"first": MINE, "helper": HELPER}
    before = written(tmp_path, monkeypatch, **sources).Mine()
    cache = Cache(tmp_path / "cache")
    Split(before, 5, is_test=True).load(cache)
    after = written(tmp_path, monkeypatch, **{**sources, **changed}).Mine()
    assert Split(after, 5, is_test=True).is_in(cache) == is_same


USER = """
import package.module
from base import above
from other import Other

class Mine(above(Other)):
    def later(self):
        import helper
"""
ABOVE = "def above(base):\n    class Above(base):\n        pass\n    return Above\n"
OTHER = "from own_algorithm import Components\nimport mixin\nclass Other(Components, mixin.Mixin):\n    pass\n"


@pytest.mark.parametrize("changed", ["first", "base", "other", "mixin", "helper", "package/__init__", "package/module"])
def test_a_change_of_what_is_used_in_any_way_is_one_of_the_code(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package").mkdir()
    sources = {"first": USER, "base": ABOVE, "other": OTHER, "mixin": "class Mixin:\n    pass\n"}
    sources |= dict.fromkeys(["helper", "package/__init__", "package/module"], "")
    before = imported(tmp_path, monkeypatch, sources).Mine().fingerprint()
    assert imported(tmp_path, monkeypatch, sources).Mine().fingerprint() == before is not None
    sources[changed] += "# another\n"
    assert imported(tmp_path, monkeypatch, sources).Mine().fingerprint() not in (None, before)


def test_a_base_that_another_module_is_given_is_part_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {"first": "from base import above\nfrom other import Other\nMine = above(Other)\n", "base": ABOVE}
    sources |= {"other": OTHER, "mixin": "class Mixin:\n    pass\n"}
    before = imported(tmp_path, monkeypatch, sources).Mine().fingerprint()
    sources["other"] += "# another\n"
    assert imported(tmp_path, monkeypatch, sources).Mine().fingerprint() not in (None, before)


def of_a_number(number: float) -> Callable[[], Components]:
    """A class that is made anew for every number."""

    class Own(Components):
        def run(self, *args: Any) -> Any:
            return number, super().run(*args)

    return Own


def of_a_decorated_method(number: float) -> Callable[[], Components]:
    def decorated(method: Any) -> Any:
        return lambda *args: (number, method(*args))

    class Own(Components):
        run = decorated(Components.run)

    return Own


def of_a_compiled_function(number: float) -> Callable[[], Components]:
    class Own(Components):
        run: Any = staticmethod(njit(lambda *args: number))

    return Own


def of_a_default_argument(number: float) -> Callable[[], Components]:
    class Own(Components):
        def run(self, *args: Any, number: float = number) -> Any:
            return number

    return Own


def of_a_property(number: float) -> Callable[[], Components]:
    class Own(Components):
        number = property(lambda self: number)

    return Own


def of_an_attribute_of_the_class(number: float) -> Callable[[], Components]:
    return type("Own", (Components,), {"number": number})


def of_a_slot(number: float) -> Callable[[], Components]:
    class Own(Components):
        __slots__ = ("number",)

        def __init__(self, number: float) -> None:
            super().__init__()
            self.number = number

    return lambda: Own(number)


@pytest.mark.parametrize(
    "made",
    [
        *(of_a_number, of_a_decorated_method, of_a_compiled_function, of_a_default_argument, of_a_property),
        *(of_an_attribute_of_the_class, of_a_slot),
    ],
)
def test_classes_of_one_code_with_other_numbers_have_other_data(
    made: Callable[[float], Callable[[], Components]],
) -> None:
    one, same, other = (made(number)().fingerprint() for number in (1.0, 1.0, 2.0))
    assert one == same is not None
    assert other not in (None, one)


def test_installed_packages_are_no_part_of_what_may_change() -> None:
    sources = sorted(Path(str(module.__file__)).read_text() for module in (own_algorithm, own_algorithm.kinds))
    assert code_of(Components) == repr(sources)


def test_an_algorithm_of_an_installed_package_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "site-packages").mkdir()
    before = written(folder, monkeypatch, first=MINE, helper=HELPER).Mine().fingerprint()
    after = written(folder, monkeypatch, first=MINE + "# another\n", helper=HELPER).Mine().fingerprint()
    assert None not in (before, after)
    assert before != after


def test_a_file_that_changes_after_it_was_imported_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = written(tmp_path, monkeypatch, first=MINE, helper=HELPER).Mine()
    before = mine.fingerprint()
    (tmp_path / "first.py").write_text("")
    assert mine.fingerprint() == before


def test_an_algorithm_with_other_settings_has_other_data(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    Split(Components(1.5), 5, is_test=True).load(cache)
    assert Split(Components(1.5), 5, is_test=True).is_in(cache)
    assert not Split(Components(2.5), 5, is_test=True).is_in(cache)


def test_arrays_are_settings_down_to_their_last_value() -> None:
    one, other = Components(), Components()
    one.degree, other.degree = np.zeros(2000), np.zeros(2000)  # type: ignore[assignment]
    assert one.fingerprint() == other.fingerprint() is not None
    other.degree[1000] = 1  # type: ignore[index]
    assert one.fingerprint() != other.fingerprint()


def without_source() -> Any:
    """A class that no file has."""
    scope: dict[str, Any] = {"__name__": "interactive"}
    exec("from own_algorithm import Components\nclass Mine(Components):\n    pass", scope)
    return scope["Mine"]()


def with_a_function() -> Components:
    """An instance with an attribute of which nobody knows what it does."""
    return doing(Components(), extra=lambda: 1.5)  # type: ignore[no-any-return]


@pytest.mark.parametrize("made", [without_source, with_a_function])
def test_what_cannot_be_told_from_another_version_is_drawn_every_time(
    made: Callable[[], Algorithm], tmp_path: Path
) -> None:
    split, cache = Split(made(), 5, is_test=True), Cache(tmp_path)
    generate_splits([split], cache, num_processes=0)
    once, again = split.load(cache), split.load(cache)
    assert_equal(once, again)
    assert not split.is_in(cache)
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_one_of_clrs_30_does_not_make_it_one_of_them(tmp_path: Path) -> None:
    class minimum(Components):  # noqa: N801
        pass

    split = Split(minimum(), 5, is_test=True)
    assert len(split.load(Cache(tmp_path)).features.lengths) == 32
    assert recipe_spec(minimum()) == COMPONENTS


# Other processes


@pytest.mark.parametrize("algorithm", [Components(2.0), CompiledComponents(2.0), EveryKind()], ids=lambda x: x.name)
def test_splits_and_streams_can_be_sent_to_other_processes(algorithm: Algorithm) -> None:
    split, stream = pickle.loads(
        pickle.dumps((Split(algorithm, 5, is_test=True), TrainStream([algorithm], [5], 2, seed=0)))
    )
    assert split.algorithm.fingerprint() == algorithm.fingerprint()
    assert next(iter(stream)).algorithm == algorithm.name


@pytest.mark.slow
def test_a_spawned_worker_draws_what_this_process_draws() -> None:
    stream = TrainStream(["bfs", Components(2.0)], [5], 2, seed=0)
    loader = DataLoader(stream, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for theirs, ours in zip(islice(loader, 2), stream, strict=False):
        assert theirs.algorithm == ours.algorithm
        for name, data in ours.feedback.features.inputs.items():
            assert theirs.feedback.features.inputs[name].equal(data)


class Pickling(ThreadPoolExecutor):
    """Runs what another process would be sent, in a thread, which needs none of what a process begins with."""

    def __init__(self, max_workers: int, **_: Any) -> None:
        super().__init__(max_workers)

    def submit(self, *sent: Any, **settings: Any) -> Any:
        return super().submit(*pickle.loads(pickle.dumps(sent)), **settings)


def test_splits_are_generated_from_what_is_sent_to_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "ProcessPoolExecutor", Pickling)
    splits = [Split(Components(), size, is_test=True) for size in (4, 5)]
    generate_splits(splits, cache := Cache(tmp_path), num_processes=1)
    assert all(split.is_in(cache) for split in splits)


def test_an_algorithm_that_no_other_process_can_have_is_refused_by_name(tmp_path: Path) -> None:
    class Local(Components):
        pass

    split = Split(Local(), 5, is_test=True)
    with pytest.raises(UserError, match=r"Local cannot be sent to other processes .* or set num_workers to 0"):
        generate_splits([split], Cache(tmp_path), num_processes=1)


# What a model makes of it


@pytest.mark.slow
@pytest.mark.parametrize("num_nodes", [1, 2, 5])
@pytest.mark.parametrize("stages", [(), ("input",), ("hint",), ("output",), ("input", "hint", "output")])
@pytest.mark.parametrize("chunk_length", [None, 2])
def test_every_kind_of_probe_is_learnt_and_scored(
    num_nodes: int, stages: tuple[str, ...], chunk_length: int | None, tmp_path: Path
) -> None:
    algorithm = EveryKind(stages)
    spec = recipe_spec(algorithm)
    model = EncodeProcessDecode({"EveryKind": spec}, PGN(hidden_dim=4, triplet_dim=2))
    batch = TrainStream([algorithm], [num_nodes], 2, seed=0, chunk_length=chunk_length)[0]
    by_probe = losses(spec, model("EveryKind", batch.feedback.features), batch.feedback, batch.ended)
    assert by_probe.keys() == {name for name, probe in spec.items() if probe.stage is not Stage.INPUT}
    loss = torch.stack(list(by_probe.values())).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    split = Split(algorithm, num_nodes, is_test=True)
    test = SplitBatches([(split, split.load(Cache(tmp_path)))], 32)[0]
    predicted = model.eval()("EveryKind", test.feedback.features, with_hints=False).outputs
    by_output = scores(spec, counts(spec, predicted, test.feedback.outputs))
    outputs = {name for name, probe in algorithm.spec.items() if probe.stage is Stage.OUTPUT}
    assert by_output.keys() == outputs | {"score"}
    assert len(outputs) == 1 + ("output" in stages) * len(KINDS)


def test_the_recipe_leaves_a_spec_as_it_is_but_for_permutations() -> None:
    spec: dict[str, Probe] = dict(EveryKind().spec)
    order = spec.pop("order")
    assert recipe_spec(EveryKind()) == {
        **spec,
        "order": order._replace(type=Type.PERMUTATION_POINTER),
        "order_mask": order._replace(type=Type.MASK_ONE),
    }


def test_positions_are_random_in_training_and_even_in_a_test(tmp_path: Path) -> None:
    pos = TrainStream([Components()], [5], 2, seed=0)[0].feedback.features.inputs["pos"]
    assert len(set(pos.flatten().tolist())) == 10
    test = Split(Components(), 5, is_test=True).load(Cache(tmp_path))
    assert (test.features.inputs["pos"] == np.arange(5) / 5).all()
