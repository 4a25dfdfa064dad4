"""Chunks of trajectories."""
# Axes: B samples, M segments, T time, W windows, C slices of a window.

import importlib
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nar.batch import Features, Feedback, NumpyArray, join, to_tensors
from nar.datasets import to_dm_clrs
from nar.datasets.clrs30.recipe import apply_recipe, randomise_positions, recipe_spec, train_sampler_args
from nar.datasets.clrs30.samplers import sample
from nar.datasets.splits.chunks import chunks, cut, window_starts
from nar.model.losses import losses
from nar.model.unroll import EncodeProcessDecode
from nar.processors import TripletGMPNN
from nar.specs import Type
from nar.training.haiku import haiku_names

Segment = tuple[int, list[int], bool]  # a sample, the times of its time slices, whether it ends
H = 8  # width of models


def numbered(lengths: Sequence[int]) -> Feedback[NumpyArray]:
    """Samples whose data tell their number (from 1) and, as the decimal, the time."""
    sample = np.arange(1.0, len(lengths) + 1)
    hint = sample + np.arange(max(lengths))[:, None] / 100
    hint[np.arange(max(lengths))[:, None] >= np.array(lengths)] = 0
    features = Features({"x": np.stack([sample, -sample], axis=1)}, {"h": hint}, np.array(lengths, dtype=np.float64))
    return Feedback(features, {"y": 10 * sample})


def described(segments: Feedback[NumpyArray], ended: NumpyArray) -> list[Segment]:
    """What segments of numbered samples hold by their hints."""
    hints, lengths = segments.features.hints["h"], segments.features.lengths
    found = []
    for segment, length in enumerate(lengths):
        hint = hints[:length, segment]
        (sample,) = {int(value) for value in hint}
        found.append((sample, [round(100 * (value - sample)) for value in hint.tolist()], bool(ended[segment])))
    return found


def by_loops(lengths: Sequence[int], starts: Sequence[int], chunk_length: int) -> list[Segment]:
    """The segments that windows hold, samples numbered from 0; those of one time slice included."""
    stream = [(sample, time) for sample, length in enumerate(lengths) for time in range(length)]
    found: list[Segment] = []
    for start in starts:
        for i in range(chunk_length):
            sample, time = stream[(start + i) % len(stream)]
            if i == 0 or time == 0:
                found.append((sample, [], False))
            found[-1] = (sample, [*found[-1][1], time], time == lengths[sample] - 1)
    return found


def draw(algorithm: str, num_nodes: int, num_samples: int, seed: int = 20) -> Feedback[NumpyArray]:
    """Trajectories as training has them."""
    args = train_sampler_args(algorithm, num_nodes)
    raw = sample(algorithm, num_nodes=num_nodes, num_samples=num_samples, seed=seed, **args)
    return randomise_positions(apply_recipe(algorithm, raw), np.random.RandomState(0))


# Where windows are.


@pytest.mark.parametrize(("num_slices", "num_windows", "chunk_length"), [(21, 3, 7), (50, 4, 9), (512, 32, 16)])
def test_windows_do_not_overlap(num_slices: int, num_windows: int, chunk_length: int) -> None:
    for seed in range(200):
        starts = window_starts(num_slices, num_windows, np.random.RandomState(seed))
        slices = (starts[:, None] + np.arange(chunk_length)) % num_slices
        assert len(np.unique(slices)) == num_windows * chunk_length


@pytest.mark.parametrize(("num_slices", "num_windows"), [(23, 1), (23, 3), (24, 8)])
def test_every_window_begins_anywhere_with_equal_probability(num_slices: int, num_windows: int) -> None:
    rng = np.random.RandomState(0)
    starts = np.array([window_starts(num_slices, num_windows, rng) for _ in range(24_000)])
    for of_window in starts.T:
        number = np.bincount(of_window, minlength=num_slices)
        expected = len(starts) / num_slices
        chi_squared = ((number - expected) ** 2 / expected).sum()
        assert chi_squared < 60  # mean 23; above 60 with probability 3e-5


def test_every_time_slice_is_in_a_window_equally_often() -> None:
    lengths, number = [3, 8, 2, 5], 4000
    held = np.zeros((5, 9))
    rng = np.random.RandomState(0)
    for _ in range(number):
        for row, times, _ in by_loops(lengths, window_starts(18, 2, rng).tolist(), 5):
            held[row, times] += 1
    share = held[held > 0] / number
    assert share.tolist() == pytest.approx([2 * 5 / 18] * 18, abs=0.04)


def test_windows_on_samples_of_equal_length_are_in_step() -> None:
    length = 9
    for seed in range(20):
        starts = window_starts(6 * length, 3, np.random.RandomState(seed))
        assert len(set(starts % length)) == 1


# What segments are.


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ([0], [(1, [0, 1, 2], True), (2, [0, 1, 2], False)]),
        ([1], [(1, [1, 2], True), (2, [0, 1, 2, 3], False)]),
        ([4], [(2, [1, 2, 3, 4], True), (3, [0, 1], True)]),
        ([8, 3], [(3, [0, 1], True), (4, [0, 1, 2, 3], True), (2, [0, 1, 2, 3, 4], True)]),
        ([12], [(4, [2, 3], True), (1, [0, 1, 2], True)]),
    ],
)
def test_segments_are_the_pieces_of_samples_in_each_window(starts: list[int], expected: list[Segment]) -> None:
    assert described(*cut(numbered([3, 5, 2, 4]), np.array(starts), 6)) == expected


def test_a_segment_of_one_slice_is_left_out() -> None:
    # The window holds the last slice of sample 1, all of sample 2 and the first slice of sample 3.
    assert described(*cut(numbered([3, 2, 4]), np.array([2]), 4)) == [(2, [0, 1], True)]


def test_a_sample_of_one_slice_is_kept() -> None:
    found = described(*cut(numbered([3, 1, 1, 4]), np.array([1]), 5))
    assert found == [(1, [1, 2], True), (2, [0], True), (3, [0], True)]


def test_a_window_may_hold_a_piece_of_the_middle() -> None:
    assert described(*cut(numbered([9]), np.array([2, 6]), 4)) == [(1, [2, 3, 4, 5], False), (1, [6, 7, 8], True)]


def test_inputs_and_outputs_are_those_of_the_sample() -> None:
    segments, _ = cut(numbered([3, 5, 2, 4]), np.array([8, 3]), 6)
    assert segments.features.inputs["x"].tolist() == [[3, -3], [4, -4], [2, -2]]
    assert segments.outputs["y"].tolist() == [30, 40, 20]


def test_hints_are_zero_after_a_segments_end() -> None:
    hints = cut(numbered([3, 5, 2, 4]), np.array([1]), 6)[0].features.hints["h"]
    assert hints.tolist() == [[1.01, 2], [1.02, 2.01], [0, 2.02], [0, 2.03]]


@pytest.mark.parametrize("algorithm", ["heapsort", "mst_kruskal"])
def test_segments_of_real_trajectories_are_bit_for_bit_what_they_claim(algorithm: str) -> None:
    whole = draw(algorithm, 6, 8)
    lengths = whole.features.lengths.astype(int).tolist()
    starts = window_starts(sum(lengths), 5, np.random.RandomState(0)).tolist()
    found, ended = cut(whole, np.array(starts), 7)
    expected = [x for x in by_loops(lengths, starts, 7) if len(x[1]) > 1 or lengths[x[0]] == 1]
    assert ended.tolist() == [does_end for _, _, does_end in expected]
    assert found.features.lengths.tolist() == [len(times) for _, times, _ in expected]
    for row, (of_sample, times, _) in enumerate(expected):
        for name, hint in whole.features.hints.items():
            assert found.features.hints[name][: len(times), row].tobytes() == hint[times, of_sample].tobytes()
        for ours, source in ((found.features.inputs, whole.features.inputs), (found.outputs, whole.outputs)):
            assert ours.keys() == source.keys()
            assert all(ours[name][row].tobytes() == source[name][of_sample].tobytes() for name in source)


def test_chunks_are_cut_at_evenly_spaced_starts() -> None:
    whole = numbered([5, 9, 4, 7])
    found = described(*chunks(whole, 6, 4, np.random.RandomState(3)))
    starts = window_starts(25, 4, np.random.RandomState(3))
    assert found == described(*cut(whole, starts, 6))


def test_chunks_always_have_something_to_predict() -> None:
    # Half of all ways to put windows of two slices on samples of two would cut each in the middle.
    for seed in range(30):
        found = described(*chunks(numbered([2, 2, 2]), 2, 3, np.random.RandomState(seed)))
        assert found == [(sample, [0, 1], True) for sample in sorted([1, 2, 3], key=[s for s, *_ in found].index)]


def test_more_windows_than_there_are_slices_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected at least 2 · 5 time slices, given 9"):
        chunks(numbered([5, 4]), 5, 2, np.random.RandomState(0))


def test_joined_batches_have_the_samples_of_all_with_hints_padded_with_zeros() -> None:
    one, other = numbered([3, 1]), numbered([2, 4])
    joined = join([one, other])
    assert joined.features.lengths.tolist() == [3, 1, 2, 4]
    assert joined.features.inputs["x"].tolist() == [[1, -1], [2, -2], [1, -1], [2, -2]]
    assert joined.outputs["y"].tolist() == [10, 20, 10, 20]
    assert joined.features.hints["h"].tolist() == [
        [1, 2, 1, 2],
        [1.01, 0, 1.01, 2.01],
        [1.02, 0, 0, 2.02],
        [0, 0, 0, 2.03],
    ]


# What is learnt from them.


@pytest.fixture
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_model(algorithm: str) -> EncodeProcessDecode:
    """A model without noise, its biases and norms away from 0 and 1, where a mix-up of two would not be seen."""
    torch.manual_seed(1)
    model = EncodeProcessDecode({algorithm: recipe_spec(algorithm)}, TripletGMPNN(H)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def losses_of(model: EncodeProcessDecode, algorithm: str, feedback: Feedback[NumpyArray], *ended: NumpyArray) -> Any:
    """The loss of every probe."""
    spec, tensors = recipe_spec(algorithm), to_tensors(feedback, recipe_spec(algorithm))
    return losses(spec, model(algorithm, tensors.features), tensors, *map(torch.as_tensor, ended))


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("algorithm", ["bfs", "heapsort"])
def test_a_window_of_whole_samples_has_the_losses_of_full_samples(algorithm: str) -> None:
    whole = draw(algorithm, 4, 6)
    model = make_model(algorithm)
    segments, ended = cut(whole, np.array([0]), int(whole.features.lengths.sum()))
    assert ended.all()
    found, expected = losses_of(model, algorithm, segments, ended), losses_of(model, algorithm, whole)
    assert found == expected


def without_samples_of_one_slice(feedback: Feedback[NumpyArray]) -> Feedback[NumpyArray]:
    """Those samples whose outputs dm-clrs, too, scores with a prediction made from themselves."""
    (inputs, hints, lengths), outputs = feedback
    rows = lengths > 1
    features = Features(
        {n: x[rows] for n, x in inputs.items()}, {n: x[:, rows] for n, x in hints.items()}, lengths[rows]
    )
    return Feedback(features, {name: data[rows] for name, data in outputs.items()})


def as_data_points(reference: Any, algorithm: str, probes: Mapping[str, NumpyArray]) -> tuple[Any, ...]:
    spec = recipe_spec(algorithm)
    return tuple(
        reference.DataPoint(
            name,
            str(spec[name].location),
            str(spec[name].type),
            reference.array(data.astype(int) if spec[name].type is Type.POINTER else data),
        )
        for name, data in probes.items()
    )


def in_time_stacks(
    reference: Any, algorithm: str, feedback: Feedback[NumpyArray], starts: list[int], chunk_length: int
) -> tuple[Any, Any]:
    """Windows as dm-clrs has them: the state after their first slices, and the feedback of the others, [T, W, ...].

    The state says of every first slice that it is a sample's first, so that the true hints and a zero hidden state are
    used there, as we do.
    """
    spec = recipe_spec(algorithm)
    (inputs, hints, lengths), outputs = to_dm_clrs(spec, feedback)
    stream = [(sample, time) for sample, length in enumerate(lengths.astype(int)) for time in range(length)]
    slices = [[stream[(start + i) % len(stream)] for start in starts] for i in range(chunk_length)]
    samples, times = np.moveaxis(np.array(slices), 2, 0)
    stacked_inputs = as_data_points(reference, algorithm, {name: data[samples] for name, data in inputs.items()})
    stacked_hints = as_data_points(reference, algorithm, {name: hint[times, samples] for name, hint in hints.items()})
    stacked_outputs = as_data_points(reference, algorithm, {name: data[samples] for name, data in outputs.items()})
    is_first, is_last = (reference.array((x).astype(int)) for x in (times == 0, times == lengths[samples] - 1))

    num_nodes = inputs["pos"].shape[1]
    logits = {  # not used, but they have to have the right shape
        name: np.zeros([*hint.shape[1:], num_nodes] if spec[name].type is Type.POINTER else hint.shape[1:])
        for name, hint in ((name, hint[times, samples]) for name, hint in hints.items())
    }

    def part(tree: Any, of_time: int | slice) -> Any:
        return reference.jax.tree_util.tree_map(lambda x: x[of_time], tree)

    state = reference.nets.MessagePassingStateChunked(
        inputs=part(stacked_inputs, 0),
        hints=part(stacked_hints, 0),
        is_first=reference.array(np.ones(len(starts), dtype=int)),
        hint_preds={name: reference.array(data) for name, data in logits.items()},
        hiddens=reference.array(np.zeros((len(starts), num_nodes, H))),
        lstm_state=None,
    )
    features = reference.FeaturesChunked(stacked_inputs, stacked_hints, is_first, is_last)
    return state, part(reference.Feedback(features, stacked_outputs), slice(1, None))


@pytest.fixture
def reference(clrs: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What of dm-clrs is needed, in float64 and without noise."""
    modules = ("jax", "clrs._src.decoders", "clrs._src.encoders", "clrs._src.nets", "clrs._src.samplers")
    jax, decoders, encoders, nets, samplers = map(importlib.import_module, modules)
    log_sinkhorn, preprocess = decoders.log_sinkhorn, encoders.preprocess

    def without_noise(*args: Any, noise_rng_key: Any, **kwargs: Any) -> Any:
        return log_sinkhorn(*args, noise_rng_key=None, **kwargs)

    def in_full_precision(point: Any, num_nodes: int) -> Any:
        encoded = preprocess(point, num_nodes)  # which rounds all but pointers to float32
        if point.type_ != "pointer":
            encoded.data = point.data.astype(float)
        return encoded

    monkeypatch.setattr(decoders, "log_sinkhorn", without_noise)
    monkeypatch.setattr(encoders, "preprocess", in_full_precision)
    with jax.enable_x64(True):
        yield SimpleNamespace(
            jax=jax,
            array=jax.numpy.asarray,
            nets=nets,
            DataPoint=clrs.DataPoint,
            Feedback=clrs.Feedback,
            FeaturesChunked=samplers.FeaturesChunked,
            Model=clrs.models.BaselineModelChunked,
            processor_factory=clrs.get_processor_factory("triplet_gmpnn", use_ln=True, nb_triplet_fts=8, nb_heads=1),
        )


def loss_and_gradients_of_dm_clrs(
    reference: Any, algorithm: str, model: EncodeProcessDecode, state: Any, feedback: Any
) -> tuple[float, dict[str, Tensor]]:
    """The loss of dm-clrs's chunked model with the weights of `model`, and its gradient by our parameter names."""
    theirs = reference.Model(
        {name: (str(p.stage), str(p.location), str(p.type)) for name, p in recipe_spec(algorithm).items()},
        feedback,
        processor_factory=reference.processor_factory,
        hidden_dim=H,
        encode_hints=True,
        decode_hints=True,
        encoder_init="xavier_on_scalars",
    )
    names = haiku_names(model)
    params: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        module, entry = names[name]
        params.setdefault(module, {})[entry] = reference.array(parameter.detach().numpy().T)

    def loss(params: Any) -> Any:
        return theirs._loss(params, reference.jax.random.PRNGKey(0), feedback, state, 0)[0]

    lowered = reference.jax.jit(reference.jax.value_and_grad(loss)).lower(params)
    value, gradients = lowered.compile({"xla_backend_optimization_level": "0"})(params)  # in half the time
    by_name = {name: torch.tensor(np.asarray(gradients[module][entry]).T) for name, (module, entry) in names.items()}
    return float(value), by_name


@pytest.mark.slow
@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize(
    ("algorithm", "num_samples", "starts", "chunk_length"),
    [("bfs", 12, [0, 7, 15, 26], 6), ("heapsort", 3, [4, 18, 30, 42], 16)],
)
def test_loss_and_gradients_equal_those_of_dm_clrs(
    reference: Any, algorithm: str, num_samples: int, starts: list[int], chunk_length: int
) -> None:
    whole = without_samples_of_one_slice(draw(algorithm, 5, num_samples))
    lengths = whole.features.lengths.astype(int).tolist()
    pieces = by_loops(lengths, starts, chunk_length)
    kinds = {(min(len(times), 2), times[0] == 0, ends) for _, times, ends in pieces}
    assert kinds >= {(1, True, False), (1, False, True), (2, False, True), (2, True, False)}
    model = make_model(algorithm)
    state, feedback = in_time_stacks(reference, algorithm, whole, starts, chunk_length)
    loss, gradients = loss_and_gradients_of_dm_clrs(reference, algorithm, model, state, feedback)

    segments, ended = cut(whole, np.array(starts), chunk_length)
    found = torch.stack(list(losses_of(model, algorithm, segments, ended).values())).sum()
    found.backward()
    assert found.item() == pytest.approx(loss, rel=1e-9)
    assert gradients.keys() == dict(model.named_parameters()).keys()
    wrong = {}
    for name, parameter in model.named_parameters():
        difference, size = (parameter.grad - gradients[name]).norm().item(), gradients[name].norm().item()
        if difference > 1e-9 * size + 1e-12:
            wrong[name] = (difference, size)
    assert wrong == {}
