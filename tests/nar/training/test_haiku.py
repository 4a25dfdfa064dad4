import ast
import importlib
import io
import os
import pickle
import pickletools
import random
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from custom_processor import MeanProcessor

from nar.batch import Batch, NumpyArray, to_tensors
from nar.datasets import sample, to_dm_clrs
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.errors import UserError
from nar.model.unroll import EncodeProcessDecode
from nar.processor import Processor
from nar.processors import GAT, MPNN, PGN, DeepSets, GATv2, MemNet, TripletGMPNN
from nar.training import pickles
from nar.training.checkpoint import load_reasoner
from nar.training.haiku import Params, from_haiku, haiku_names, read_pickle, to_haiku, write_pickle

HIDDEN_DIM = 8
ALGORITHMS = ["bfs", "insertion_sort"]

pytestmark = pytest.mark.filterwarnings("ignore:jax.nn.one_hot:DeprecationWarning")  # dm-clrs 2.0.3 beside jax 0.10

Run = Callable[..., None]


def our_model(processor: Processor, algorithms: list[str], **settings: Any) -> EncodeProcessDecode:
    return EncodeProcessDecode({name: recipe_spec(name) for name in algorithms}, processor, **settings)


def assert_equal(one: Params, other: Params) -> None:
    """The same arrays, bit for bit, by the same names."""
    assert {module: set(entries) for module, entries in one.items()} == {
        module: set(entries) for module, entries in other.items()
    }
    for module, entries in one.items():
        for entry, array in entries.items():
            assert array.dtype == other[module][entry].dtype, f"{module} {entry}"
            np.testing.assert_array_equal(array, other[module][entry], err_msg=f"{module} {entry}")


# dm-clrs: its models, and the file that one of them saved.


class Theirs(NamedTuple):
    """A model of dm-clrs, the features that it was made for by algorithm, and the same batches in our form."""

    model: Any
    features: list[Any]
    batches: list[Batch]


def their_model(
    clrs: Any, kind: str, algorithms: list[str], folder: Path, *, use_ln: bool = True, **settings: Any
) -> Theirs:
    """A model without weights."""
    specs, feedbacks, batches = [], [], []
    for algorithm in algorithms:
        spec = recipe_spec(algorithm)
        feedback = apply_recipe(algorithm, sample(algorithm, num_nodes=5, num_samples=2, seed=1))
        batches.append(Batch(algorithm, 5, 0, to_tensors(feedback, spec)))
        (given, between, lengths), after = to_dm_clrs(spec, feedback)
        inputs, hints, outputs = (
            tuple(
                clrs.DataPoint(name, str(spec[name].location), str(spec[name].type), np.asarray(x))
                for name, x in probes.items()
            )
            for probes in (given, between, after)
        )
        feedbacks.append(clrs.Feedback(clrs.Features(inputs, hints, lengths), outputs))
        specs.append({name: (str(p.stage), str(p.location), str(p.type)) for name, p in spec.items()})
    model = clrs.models.BaselineModel(
        specs,
        feedbacks,
        processor_factory=clrs.get_processor_factory(kind, use_ln=use_ln, nb_triplet_fts=8, nb_heads=1),
        hidden_dim=HIDDEN_DIM,
        encode_hints=True,
        encoder_init="xavier_on_scalars",
        checkpoint_path=str(folder),
        **settings,
    )
    return Theirs(model, [feedback.features for feedback in feedbacks], batches)


def initial_shapes(theirs: Theirs) -> dict[str, dict[str, tuple[int, ...]]]:
    """Of the parameters that dm-clrs would initialise the model with."""
    jax: Any = importlib.import_module("jax")
    settings = {"algorithm_index": -1, "return_hints": False, "return_all_outputs": False}
    params = jax.eval_shape(
        lambda key: theirs.model.net_fn.init(key, theirs.features, True, **settings), jax.random.PRNGKey(0)
    )
    return {module: {entry: x.shape for entry, x in entries.items()} for module, entries in params.items()}


@pytest.fixture(scope="module")
def saved(clrs: Any, tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    """A model of two algorithms with an LSTM, and with weights that it saved as ``best.pkl``."""
    folder = tmp_path_factory.mktemp("dm-clrs")
    theirs = their_model(clrs, "triplet_gmpnn", ALGORITHMS, folder, use_lstm=True)
    rng = np.random.RandomState(0)
    theirs.model.params = {
        module: {entry: rng.normal(size=shape, scale=0.3).astype(np.float32) for entry, shape in entries.items()}
        for module, entries in initial_shapes(theirs).items()
    }
    theirs.model.opt_state = theirs.model.opt.init(theirs.model.params)
    theirs.model.save_model("best.pkl")
    return theirs


@pytest.fixture
def converted(saved: Theirs, run: Run, tmp_path: Path) -> Path:
    """The checkpoint of the saved model."""
    run(
        *("convert", "--from-haiku", f"{saved.model.checkpoint_path}/best.pkl", "--out", "model.ckpt"),
        *("--data.algorithms", "[bfs,insertion_sort]", "--model.use_lstm", "true"),
        *("--model.processor.hidden_dim", str(HIDDEN_DIM)),
    )
    return tmp_path / "model.ckpt"


@pytest.mark.slow
def test_a_file_of_dm_clrs_is_read_as_it_holds_states_of_its_optimiser(saved: Theirs) -> None:
    path = Path(saved.model.checkpoint_path) / "best.pkl"
    assert b"optax" in path.read_bytes()
    assert b"ScaleByAdamState" in path.read_bytes()
    assert_equal(read_pickle(path), saved.model.params)


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1], ids=ALGORITHMS)
def test_predicts_as_the_converted_model_of_dm_clrs_does(index: int, saved: Theirs, converted: Path) -> None:
    jax: Any = importlib.import_module("jax")
    settings = {"algorithm_index": index, "return_hints": True, "return_all_outputs": False}
    apply = jax.jit(
        lambda params: saved.model.net_fn.apply(
            params, jax.random.PRNGKey(0), [saved.features[index]], repred=True, **settings
        )
    )
    quickly = {"xla_backend_optimization_level": "0"}
    outputs, hints = apply.lower(saved.model.params).compile(quickly)(saved.model.params)
    with torch.no_grad():
        predictions = load_reasoner(converted)(saved.batches[index])
    assert set(predictions.outputs) == set(outputs)
    for name, logits in predictions.outputs.items():
        np.testing.assert_allclose(logits, outputs[name], rtol=2e-4, atol=2e-4, err_msg=name)
    assert set(predictions.hints) == set(hints[0])
    pairs = list(zip(predictions.time.tolist(), predictions.graph.tolist(), strict=True))
    for name, logits in predictions.hints.items():
        theirs = np.stack([hints[time - 1][name][graph] for time, graph in pairs])
        np.testing.assert_allclose(logits, theirs, rtol=2e-4, atol=2e-4, err_msg=name)


def test_dm_clrs_restores_what_is_converted_back(saved: Theirs, converted: Path, run: Run, clrs: Any) -> None:
    run("convert", "--to-haiku", "back.pkl", "--ckpt_path", str(converted))
    other = their_model(clrs, "triplet_gmpnn", ALGORITHMS, converted.parent, use_lstm=True).model
    other.params = {
        module: {entry: np.zeros_like(x) for entry, x in by.items()} for module, by in saved.model.params.items()
    }
    other.restore_model("back.pkl")
    assert_equal(other.params, saved.model.params)


KINDS: dict[str, Callable[..., Processor]] = {
    "deepsets": lambda **kw: DeepSets(HIDDEN_DIM, **kw),
    "mpnn": lambda **kw: MPNN(HIDDEN_DIM, **kw),
    "pgn": lambda **kw: PGN(HIDDEN_DIM, **kw),
    "pgn_mask": lambda **kw: PGN(HIDDEN_DIM, mask_decoders=True, **kw),
    "gmpnn": lambda **kw: MPNN(HIDDEN_DIM, gated=True, **kw),
    "triplet_pgn": lambda **kw: PGN(HIDDEN_DIM, triplet_dim=8, **kw),
    "triplet_mpnn": lambda **kw: TripletGMPNN(HIDDEN_DIM, gated=False, **kw),
    "triplet_gmpnn": lambda **kw: TripletGMPNN(HIDDEN_DIM, **kw),
}


def assert_equal_trees(ours: EncodeProcessDecode, theirs: Theirs) -> None:
    """The same shapes by the same names as dm-clrs initialises."""
    shapes = {module: {name: x.shape for name, x in entries.items()} for module, entries in to_haiku(ours).items()}
    assert shapes == initial_shapes(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_names_are_those_that_dm_clrs_gives(kind: str, clrs: Any, tmp_path: Path) -> None:
    assert_equal_trees(our_model(KINDS[kind](), ["bfs"]), their_model(clrs, kind, ["bfs"], tmp_path))


@pytest.mark.parametrize(
    ("use_ln", "use_lstm"), [(False, False), (False, True)], ids=["no layer norm", "LSTM and no layer norm"]
)
def test_names_follow_the_settings_of_the_model(use_ln: bool, use_lstm: bool, clrs: Any, tmp_path: Path) -> None:
    ours = our_model(MPNN(HIDDEN_DIM, layer_norm=use_ln), ["bfs"], use_lstm=use_lstm)
    assert_equal_trees(ours, their_model(clrs, "mpnn", ["bfs"], tmp_path, use_ln=use_ln, use_lstm=use_lstm))


@pytest.mark.slow
def test_names_of_every_kind_of_probe_are_those_that_dm_clrs_gives(clrs: Any, tmp_path: Path) -> None:
    # Between them: scalars, masks, categories and pointers of nodes, edges and graphs, and permutations.
    several = ["segments_intersect", "optimal_bst", "lcs_length", "graham_scan", "quickselect", "heapsort"]
    assert_equal_trees(our_model(MPNN(HIDDEN_DIM), several), their_model(clrs, "mpnn", several, tmp_path))


# Our names and theirs, without dm-clrs.


@pytest.fixture
def model() -> EncodeProcessDecode:
    return our_model(TripletGMPNN(4), ["bfs", "dfs"], use_lstm=True)


def test_weights_come_back_from_a_file_bit_for_bit(model: EncodeProcessDecode, tmp_path: Path) -> None:
    with open(tmp_path / "weights.pkl", "wb") as file:
        write_pickle(file, to_haiku(model))
    state = from_haiku(read_pickle(tmp_path / "weights.pkl"), model)
    assert state.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(state[name], value), name


def test_no_two_weights_have_the_same_name(model: EncodeProcessDecode) -> None:
    names = haiku_names(model)
    assert len(set(names.values())) == len(names)


def test_written_arrays_do_not_change_with_the_model(model: EncodeProcessDecode) -> None:
    params = to_haiku(model)
    before = {module: {entry: x.copy() for entry, x in entries.items()} for module, entries in params.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert_equal(params, before)


def test_an_algorithms_number_is_its_place(model: EncodeProcessDecode) -> None:
    other = our_model(TripletGMPNN(4), ["dfs", "bfs"], use_lstm=True)
    one, two = haiku_names(model), haiku_names(other)
    assert one["heads.dfs.output_decoders.pi.source.weight"][0].endswith("algo_1_pi_dec_linear")
    assert two["heads.dfs.output_decoders.pi.source.weight"][0].endswith("algo_0_pi_dec_linear")


HEADS = "net/~_construct_encoders_decoders"
PROCESSOR = "net/mpnn_aggr_clrs_processor"


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (
            our_model(TripletGMPNN(4, gated=False), ["bfs", "dfs"], use_lstm=True),
            f"of its 140 arrays they lack 6, such as '{PROCESSOR}/linear_14 b'",
        ),
        (
            our_model(TripletGMPNN(4), ["bfs", "dfs"]),
            "of its 140 arrays they lack 2, such as 'net/processor_lstm/linear b'",
        ),
        (
            our_model(TripletGMPNN(5), ["bfs", "dfs"], use_lstm=True),
            f"{PROCESSOR}/linear w has the shape [10, 5], expected [8, 4]",
        ),
        (
            our_model(TripletGMPNN(4), ["dfs", "bfs"], use_lstm=True),
            f"such as '{HEADS}/algo_0_reach_h_dec_linear b' and have in excess",
        ),
        (
            our_model(TripletGMPNN(4), ["bfs"], use_lstm=True),
            f"such as '{HEADS}/algo_1_A_enc_linear b'",
        ),
        (
            our_model(TripletGMPNN(4), ["bfs", "dfs", "minimum"], use_lstm=True),
            f"have in excess 16, such as '{HEADS}/algo_2_i_dec_linear b'",
        ),
    ],
    ids=["not gated", "no LSTM", "another width", "another order", "an algorithm less", "an algorithm more"],
)
def test_weights_of_another_model_are_refused_by_an_entry(
    theirs: EncodeProcessDecode, expected: str, model: EncodeProcessDecode
) -> None:
    with pytest.raises(UserError) as error:
        from_haiku(to_haiku(theirs), model)
    assert expected in str(error.value)
    assert str(error.value).startswith("the weights do not fit the configured model: ")


def test_a_processor_that_dm_clrs_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match=r"^dm-clrs has no processor MeanProcessor; it has PGN, "):
        haiku_names(our_model(MeanProcessor(), ["bfs"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"triplet_messages": "tanhexpand"}, "dm-clrs has no triplet_messages 'tanhexpand'"),
        ({"forget_gate": True}, "dm-clrs has no forget_gate"),
    ],
)
def test_settings_that_dm_clrs_does_not_have_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        haiku_names(EncodeProcessDecode({}, TripletGMPNN(8, **settings)))


def test_a_processor_with_more_than_dm_clrs_gives_it_is_refused() -> None:
    class Extended(PGN):
        def __init__(self) -> None:
            super().__init__(4)
            self.extra = torch.nn.Bilinear(4, 4, 4)

    with pytest.raises(UserError, match=r"^dm-clrs's Extended has no parameter processor\.extra\.weight$"):
        haiku_names(our_model(Extended(), ["bfs"]))


# What files may hold.

ARRAYS = {
    "net": {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([-1.5, np.inf, 1e-40], np.float32),
        "columns_first": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "double": np.array([1 / 3]),
        "half": np.array([0.1], np.float16),
        "scalar": np.array(2.0, np.float32),
        "big_endian": np.arange(3).astype(">f4"),
    }
}


def content(params: object = ARRAYS, opt_state: object = None) -> Any:
    return {"params": params, "opt_state": opt_state}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Params]:
    """Read a file of these bytes."""

    def read(data: bytes) -> Params:
        (tmp_path / "weights.pkl").write_bytes(data)
        return read_pickle(tmp_path / "weights.pkl")

    return read


Read = Callable[[bytes], Params]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_are_read_as_numpy_reads_them(protocol: int, read: Read) -> None:
    found = read(pickle.dumps(content(), protocol))["net"]
    for name, array in ARRAYS["net"].items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_file_written_beside_numpy_1_is_read(protocol: int, read: Read) -> None:
    data = pickle.dumps(content(), protocol).replace(b"numpy._core.", b"numpy.core.")
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in data
    np.testing.assert_array_equal(read(data)["net"]["w"], ARRAYS["net"]["w"])


def test_states_of_the_optimiser_are_read_past_without_importing_it(read: Read) -> None:
    state = b"coptax._src.nowhere\nSomethingState\n(I1\n(dtR"
    data = pickle.dumps(content(), 2).replace(b"opt_stateq", b"opt_stateq").removesuffix(b"Nu.") + state + b"u."
    assert_equal(read(data), read(pickle.dumps(content())))


def call(module: str, name: str, argument: str = "harm") -> bytes:
    """A pickle that calls a function by its name with a text."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "mkdir"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("importlib", "import_module"),
        ("numpy", "load"),
        ("numpy", "array"),
        ("numpy.testing", "runstring"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.f2py", "compile"),
        ("numpy.f2py.cfuncs", "dtype"),
        ("numpy._core.multiarray", "fromfile"),
        ("numpy._core.multiarray", "scalar"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("collections", "OrderedDict"),
        ("optax", "apply_updates"),
        ("jax._src.array", "from_dlpack"),
        ("copyreg", "_reconstructor"),
        ("_codecs", "decode"),
        ("this", "s"),
    ],
)
def test_anything_but_arrays_is_refused_by_its_name(
    module: str, name: str, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        read(call(module, name))
    path = tmp_path / "weights.pkl"
    assert str(error.value) == (
        f"{path} holds '{module}.{name}'; expected arrays of numbers and plain containers alone"
    )
    assert [found.name for found in tmp_path.iterdir()] == ["weights.pkl"]
    assert "this" not in sys.modules


def test_a_name_cannot_write_to_the_terminal(read: Read) -> None:
    with pytest.raises(UserError, match=r"holds 'os\\x1b\[2J\.system'"):
        read(call("os\x1b[2J", "system"))


def test_arrays_of_jax_are_read_as_those_of_numpy(read: Read, clrs: Any) -> None:
    jnp: Any = importlib.import_module("jax.numpy")
    params = {"net": {name: jnp.asarray(ARRAYS["net"][name]) for name in ("w", "b", "half", "scalar")}}
    found = read(pickle.dumps(content(params, params)))
    assert_equal(found, {"net": {name: np.asarray(array) for name, array in params["net"].items()}})


def reconstruct_device_array(*args: Any) -> None:
    """A function of JAX before 0.4, of which pickles have only the name."""


class DeviceArray:
    """An array as JAX before 0.4 has it."""

    def __init__(self, array: NumpyArray) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Any, ...]:
        of_type = {"weak_type": False, "named_shape": {}}
        return reconstruct_device_array, (*self.array.__reduce__(), of_type)  # type: ignore[misc]


@pytest.mark.parametrize("protocol", [2, 3])
def test_arrays_of_jax_before_0_4_are_read_as_those_of_numpy(protocol: int, read: Read) -> None:
    params = {"net": {name: DeviceArray(array) for name, array in ARRAYS["net"].items()}}
    written = pickle.dumps(content(params, [params]), protocol)
    old = written.replace(f"c{__name__}\n".encode(), b"cjax._src.device_array\n")
    assert old != written
    assert_equal(read(old), read(pickle.dumps(content())))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_the_mapping_of_earlier_haiku_is_read_as_a_dict(protocol: int, read: Read, clrs: Any) -> None:
    structures: Any = importlib.import_module("haiku").data_structures
    mapping = structures.to_immutable_dict(ARRAYS)
    assert type(mapping) is not dict
    assert_equal(read(pickle.dumps(content(mapping, mapping), protocol)), read(pickle.dumps(content())))


@pytest.mark.parametrize("processor", [TripletGMPNN(4), GAT(4), GATv2(4), MemNet(4)], ids=lambda x: type(x).__name__)
def test_names_of_dm_clrs_before_2_are_those_of_the_same_weights(processor: Processor) -> None:
    model = our_model(processor, ["bfs"])
    params = to_haiku(model)
    old = {module.replace("_clrs_processor", ""): entries for module, entries in params.items()}
    assert old.keys() != params.keys()
    state = from_haiku(old, model)
    assert all(torch.equal(state[name], value) for name, value in from_haiku(params, model).items())


def test_weights_by_the_old_and_the_new_name_are_refused(model: EncodeProcessDecode) -> None:
    params = to_haiku(model)
    old = {module.replace("_clrs_processor", ""): entries for module, entries in params.items()}
    with pytest.raises(UserError, match="have in excess"):
        from_haiku(params | old, model)


class DisguisedDType:
    """An array's type of objects, of which a file says that it holds none."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


class DisguisedArray:
    """An array of addresses that NumPy would follow."""

    def __reduce__(self) -> tuple[Any, ...]:
        made: Any = np.zeros(0).__reduce__()
        return made[0], (np.ndarray, (0,), b"b"), (1, (1,), DisguisedDType(), False, b"\x41" * 8)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.array([None]), "O8"),
        (DisguisedArray(), "O8"),
        (np.array(["text"]), "U4"),
        (np.zeros(1, "f4,f4"), "V8"),
        (np.zeros(1, complex), "c16"),
        (np.zeros(1, "M8[s]"), "M8"),
    ],
    ids=["objects", "disguised objects", "texts", "records", "complex numbers", "dates"],
)
@pytest.mark.parametrize("place", ["params", "opt_state"])
def test_arrays_of_anything_but_numbers_are_refused(value: object, found: str, place: str, read: Read) -> None:
    with pytest.raises(UserError, match=f"holds an array of dtype '{found}'"):
        read(pickle.dumps(content(**{place: {"net": {"w": value}}})))


@pytest.mark.parametrize(
    ("array", "found"), [(np.zeros(2, np.int32), "int32"), (np.zeros(2, bool), "bool"), (np.zeros(2, "u1"), "uint8")]
)
def test_weights_that_are_no_floats_are_refused(array: NumpyArray, found: str, read: Read) -> None:
    with pytest.raises(UserError, match=f"holds an array of {found} at 'net' 'w'; expected an array of floats"):
        read(pickle.dumps(content({"net": {"w": array}})))


def test_counts_of_steps_may_be_integers(read: Read) -> None:
    state = {"count": np.array(3, np.int32)}
    assert_equal(read(pickle.dumps(content(opt_state=state))), read(pickle.dumps(content())))


@pytest.mark.parametrize(
    "params",
    [{"net": ARRAYS["net"]["w"]}, {"net": [1.0]}, {1: ARRAYS["net"]}, {"net": {"w": 1.0}}, {"net": {0: np.zeros(2)}}],
    ids=["no entries", "a list", "a number for a module", "a number", "a number for an entry"],
)
def test_parameters_of_another_shape_are_refused(params: Mapping[Any, Any], read: Read) -> None:
    with pytest.raises(UserError, match=r"holds .* at .*; expected a"):
        read(pickle.dumps(content(params)))


@pytest.mark.parametrize("other", [{}, [1, 2], {"opt_state": None}, {"params": {}}, {"params": None}, None])
def test_a_pickle_without_parameters_is_refused(other: object, read: Read) -> None:
    with pytest.raises(UserError, match="holds no parameters: expected a file saved by dm-clrs, a dict with 'params'"):
        read(pickle.dumps(other))


def test_no_part_of_a_file_is_taken_for_the_whole(read: Read) -> None:
    data = pickle.dumps(content({"net": {"w": np.zeros(3, np.float32)}}))
    for length in range(len(data)):
        with pytest.raises(UserError, match="is damaged or no pickle at all"):
            read(data[:length])


def test_more_or_less_data_than_the_shape_says_is_refused(read: Read) -> None:
    made: Any = np.zeros(3, np.float32).__reduce__()
    make, args, (version, _, *rest) = made

    class Short:
        def __reduce__(self) -> tuple[Any, ...]:
            return make, args, (version, (10**12,), *rest)

    with pytest.raises(UserError, match="is damaged"):
        read(pickle.dumps(content({"net": {"w": Short()}})))


@pytest.mark.parametrize("data", [b"", b"seed_everything: 42\n", bytes(range(256)), b"\x80\x04"])
def test_a_file_that_is_no_pickle_is_refused(data: bytes, read: Read) -> None:
    with pytest.raises(UserError, match="is damaged or no pickle at all: expected a file saved by dm-clrs"):
        read(data)


@pytest.mark.parametrize(("name", "reason"), [("missing.pkl", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^cannot read {tmp_path / name}: {reason}$"):
        read_pickle(tmp_path / name)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pkl")
    with pytest.raises(UserError, match=f"^cannot read {tmp_path / 'pipe.pkl'}: Not a regular file$"):
        read_pickle(tmp_path / "pipe.pkl")


def sized(code: bytes, length: int, data: bytes) -> bytes:
    """An instruction with data that say how long they are."""
    return code + length.to_bytes(8 if code in b"\x8d\x8e\x95\x96" else 4, "little") + data


TEXT = sized(b"X", 10**5, b"a" * 10**5) + b"q\0"  # kept as 0
ARRAY = b"cnumpy._core.multiarray\n_reconstruct\n)R"
FLOATS = b"cnumpy\ndtype\n(X\x02\0\0\0f4tR"
BYTES = sized(b"B", 10**5, bytes(10**5))
STATE_OF_ARRAY = b"(K\x01M\xa8\x61\x85" + FLOATS + b"\x89" + BYTES + b"tq\0"
ENTRIES = b"}(" + b"".join(b"M" + number.to_bytes(2, "little") + b"N" for number in range(2**16)) + b"uq\1"
MODULES = b"}(" + b"".join(b"M" + number.to_bytes(2, "little") + b"h\1" for number in range(2**16)) + b"u"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "a place of a memo of 4 GiB": (b"\x80\x02Nr\xff\xff\xff\x0f.", "holds no parameters"),
    "a place of a memo in text": (b"Np999999999999\n.", "holds no parameters"),
    "a frame of 2^62 bytes": (sized(b"\x95", 2**62, b"N."), "holds no parameters"),
    **{
        f"{code!r} of more than there is": (sized(code, length, b"N."), "is damaged")
        for code, length in [(b"X", 2**32 - 1), (b"B", 2**32 - 1), (b"\x8b", 2**31 - 1)]
        + [(code, 2**62) for code in (b"\x8d", b"\x8e", b"\x96")]
    },
    "deep tuples as a key": (b"}" + b")" + b"\x85" * 10**5 + b"Ns.", "holds a tuple as a key"),
    "doubled tuples as a key": (b"})" + b"2\x86" * 100 + b"Ns.", "holds a tuple as a key"),
    "a long number as a key": (b"}" + sized(b"\x8b", 10**5, b"\1" * 10**5) + b"Ns.", "holds a int as a key"),
    "deep lists": (b"]" * 10**5 + b"a" * (10**5 - 1) + b".", "holds no parameters"),
    "a list in itself": (b"]q\0h\0ah\0.", "holds no parameters"),
    "the same data for many arrays": (
        b"](" + ARRAY + STATE_OF_ARRAY + b"b" + (ARRAY + b"h\0b") * 5000 + b"e.",
        "holds arrays that are larger than the file",
    ),
    "the same text as many bytes": (
        TEXT + b"0](" + b"c_codecs\nencode\n(h\0X\6\0\0\0latin1tR" * 5000 + b"e.",
        "holds arrays that are larger than the file",
    ),
    "the same fields of many states": (
        b"(" + b"N" * 10**5 + b"tq\0](" + b"coptax\nAState\nh\0\x81" * 10**4 + b"e.",
        "holds no parameters",
    ),
    "long names": (TEXT + b"](" + b"h\0h\0\x93" * 10**4 + b"e.", "holds 'a{100}.a{100}'"),
    "the same entries of many modules": (
        b"}X\6\0\0\0params" + ENTRIES + b"0" + MODULES + b"s.",
        "names the same arrays again and again",
    ),
    "marks": (b"(" * 10**5 + b"N.", "holds no parameters"),
    "a state of a function": (b"coptax\nAState\nN}(X\7\0\0\0__new__Nu\x86b.", "is damaged"),
    "a state of a class": (b"cnumpy\ndtype\n}(X\4\0\0\0nameNub.", "is damaged"),
    "nothing on the stack": (b"\x85.", "is damaged"),
    "nothing since a mark": (b"N(0u.", "is damaged"),
    "an extension of the pickle module": (b"\x82\1.", "holds the instruction EXT1"),
    "an instance of the oldest kind": (b"(ios\nsystem\n.", "holds the instruction INST"),
    "a reference to what is elsewhere": (b"Phere\n.", "holds the instruction PERSID"),
}
IN_LITTLE_MEMORY = """
import pickle, random, resource, sys, time
from pathlib import Path
from nar.errors import UserError
from nar.training.haiku import read_pickle

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28,) * 2)
modules = set(sys.modules)
for path in sorted(Path(sys.argv[1]).iterdir(), key=lambda path: int(path.name)):
    begin = time.process_time()
    try:
        result = sorted(read_pickle(path))
    except UserError as error:
        result = str(error).removeprefix(f"{path} ")
    print(ascii((result, time.process_time() - begin)))
print(ascii((sorted(set(sys.modules) - modules), 0)))
"""


def test_more_instructions_than_a_model_has_are_refused(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(content())
    number = sum(1 for _ in pickletools.genops(data))
    for most, is_read in ((number, True), (number - 1, False)):
        monkeypatch.setattr(pickles, "MOST_INSTRUCTIONS", most)
        with nullcontext() if is_read else pytest.raises(UserError, match=f"holds more than {most} instructions"):
            read(data)


def results_of(files: list[bytes], folder: Path) -> list[Any]:
    """What comes of reading each file, in a process that has little memory; the last: modules that were imported."""
    folder.mkdir()
    for number, data in enumerate(files):
        (folder / str(number)).write_bytes(data)
    command = [sys.executable, "-c", IN_LITTLE_MEMORY, str(folder)]
    printed = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=True, timeout=300)
    results, seconds = zip(*map(ast.literal_eval, printed.stdout.splitlines()), strict=True)
    assert max(seconds) < 10
    return list(results)


def mutations(number: int) -> list[bytes]:
    """A file after so many accidents: bits, bytes and parts that are others, gone, doubled, or of another file."""
    rng = random.Random(0)
    arrays = {"net": {name: ARRAYS["net"][name] for name in ("w", "b", "big_endian")}}
    sound = [pickle.dumps(content(arrays, [arrays, 1.5]), protocol) for protocol in (2, 4, 5)]
    changed = []
    for _ in range(number):
        data = bytearray(rng.choice(sound))
        for _ in range(rng.randint(1, 4)):
            at, length = rng.randrange(len(data)), rng.randint(1, 20)
            part = rng.choice([b"", bytes([rng.randrange(256)]), rng.randbytes(8), data[-length:], data[at:] * 2])
            data[at : at + rng.choice([0, 1, length])] = part
        changed.append(bytes(data))
    return changed


@pytest.mark.slow
def test_hostile_and_damaged_files_take_neither_memory_nor_time_and_change_nothing(tmp_path: Path) -> None:
    sound = pickle.dumps(content())
    damaged = mutations(400)
    *results, imported = results_of(
        [*(data for data, _ in HOSTILE.values()), *damaged, sound], folder=tmp_path / "files"
    )
    assert imported == []
    assert results.pop() == ["net"]
    for (name, (_, expected)), result in zip(HOSTILE.items(), results, strict=False):
        assert re.match(expected, result), name
    of_damaged = results[len(HOSTILE) :]
    assert len(of_damaged) == len(damaged)
    assert not any("memory" in result for result in results)
    assert sum(isinstance(result, str) for result in of_damaged) > 300
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_what_is_written_holds_numpy_arrays_and_no_state_of_the_optimiser() -> None:
    params = {"net": {"w": ARRAYS["net"]["w"], "b": ARRAYS["net"]["b"]}}
    file = io.BytesIO()
    write_pickle(file, params)
    written = pickle.loads(file.getvalue())
    assert written["opt_state"] is None
    assert {type(array) for array in written["params"]["net"].values()} == {np.ndarray}
    assert_equal(written["params"], params)
