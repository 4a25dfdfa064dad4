# Axes: B graphs, N nodes, T time, H hidden, P (graph, step) pairs.
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nar.batch import Features, Feedback, NumpyArray, to_tensors
from nar.datasets import ALGORITHMS, sample
from nar.datasets.clrs30.recipe import apply_recipe, randomise_positions, recipe_spec, train_sampler_args
from nar.model.encoders import Encoder
from nar.model.losses import losses
from nar.model.reconstruction import Reconstruction
from nar.model.unroll import LSTM, EncodeProcessDecode, Predictions
from nar.noise import Noise
from nar.ops.channels import as_tensor
from nar.processor import Processor
from nar.processors import MPNN, TripletGMPNN
from nar.processors.triplets import Triplets
from nar.specs import Location, Spec, Stage, Type, at_stage

STRING_MATCHERS = ("naive_string_matcher", "kmp_matcher")

POINTERS = (Type.POINTER, Type.PERMUTATION_POINTER)


@contextmanager
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with in_float64():
        yield


def draw(algorithm: str, num_nodes: int = 5, num_samples: int = 6, seed: int = 20) -> Feedback[NumpyArray]:
    """Trajectories of an algorithm as training has them."""
    args = train_sampler_args(algorithm, num_nodes)
    raw = sample(algorithm, num_nodes=num_nodes, num_samples=num_samples, seed=seed, **args)
    return randomise_positions(apply_recipe(algorithm, raw), np.random.RandomState(0))


@pytest.fixture
def trajectories() -> Callable[..., Feedback[Tensor]]:
    """The same as tensors."""

    def trajectories(algorithm: str, *args: int, **kwargs: int) -> Feedback[Tensor]:
        return to_tensors(draw(algorithm, *args, **kwargs), recipe_spec(algorithm))

    return trajectories


def make_model(algorithm: str, processor: Processor | None = None, **settings: Any) -> EncodeProcessDecode:
    """A model in evaluation mode; always with the same weights, as far as its settings give it the same parameters."""
    torch.manual_seed(1)
    return EncodeProcessDecode({algorithm: recipe_spec(algorithm)}, processor or TripletGMPNN(8), **settings).eval()


def total_loss(model: EncodeProcessDecode, algorithm: str, feedback: Feedback[Tensor]) -> Tensor:
    by_probe = losses(recipe_spec(algorithm), model(algorithm, feedback.features), feedback)
    return torch.stack(list(by_probe.values())).sum()


def assert_same(one: Predictions, other: Predictions) -> None:
    """The same logits, in the same order."""
    torch.testing.assert_close(one._asdict(), other._asdict())


def differ(one: Predictions, other: Predictions) -> bool:
    """Whether any output differs by more than rounding."""
    return any(not torch.allclose(one.outputs[name], other.outputs[name], rtol=0, atol=1e-6) for name in one.outputs)


def with_other_hints(features: Features[Tensor], spec: Spec, times: slice) -> Features[Tensor]:
    """The same features with other hints at some times."""
    hints = {name: hint.clone() for name, hint in features.hints.items()}
    num_nodes = features.inputs["pos"].shape[1]
    for name, hint in hints.items():
        part = hint[times]
        if spec[name].type is Type.SCALAR:
            hint[times] = torch.rand(part.shape) + 0.5
        else:
            number = 2 if spec[name].type is Type.MASK else spec[name].num_classes or num_nodes
            hint[times] = (part + torch.randint(1, number, part.shape)) % number
    return features._replace(hints=hints)


def rows(features: Features[Tensor], some: Tensor) -> Features[Tensor]:
    """Some of the graphs, without the padding that only others needed."""
    longest = int(features.lengths[some].max())
    return Features(
        {name: data[some] for name, data in features.inputs.items()},
        {name: data[:longest, some] for name, data in features.hints.items()},
        features.lengths[some],
    )


def cut_off(features: Features[Tensor], num_hints: int) -> Features[Tensor]:
    """The same graphs as if every trajectory had ended after so many hints."""
    hints = {name: hint[:num_hints] for name, hint in features.hints.items()}
    return features._replace(hints=hints, lengths=torch.full_like(features.lengths, num_hints))


# What of a trajectory has an effect, and on what.


def assert_rows_equal(whole: Predictions, part: Predictions, some: Tensor) -> None:
    """What was predicted for some graphs of a batch is what was predicted for them in a batch of their own."""
    for name, logits in part.outputs.items():
        torch.testing.assert_close(logits, whole.outputs[name][some])
    places = {pair: p for p, pair in enumerate(zip(whole.time.tolist(), whole.graph.tolist(), strict=True))}
    own = [places[time, int(some[graph])] for time, graph in zip(part.time.tolist(), part.graph.tolist(), strict=True)]
    assert len(own) == int((torch.isin(whole.graph, some)).sum())
    for name, logits in part.hints.items():
        torch.testing.assert_close(logits, whole.hints[name][own])


RAGGED = pytest.mark.parametrize(
    ("algorithm", "settings"),
    [("bfs", {}), ("heapsort", {}), ("quickselect", {}), ("bfs", {"use_lstm": True})],
    ids=["bfs", "heapsort", "quickselect", "bfs with LSTM"],
)


@RAGGED
def test_a_graph_alone_gets_the_predictions_it_gets_in_a_batch(trajectories, algorithm, settings):
    features = trajectories(algorithm, num_samples=4).features
    assert len(set(features.lengths.tolist())) > 1
    model = make_model(algorithm, **settings)
    whole = model(algorithm, features)
    for graph in range(len(features.lengths)):
        some = torch.tensor([graph])
        assert_rows_equal(whole, model(algorithm, rows(features, some)), some)


@RAGGED
def test_the_order_of_a_batch_has_no_effect(trajectories, algorithm, settings):
    features = trajectories(algorithm, num_samples=4).features
    model = make_model(algorithm, **settings)
    order = torch.tensor([2, 0, 3, 1])
    assert_rows_equal(model(algorithm, features), model(algorithm, rows(features, order)), order)


@pytest.mark.parametrize("hint_teacher_forcing", [0.0, 1.0])
def test_padding_after_a_samples_end_has_no_effect_on_the_loss(trajectories, hint_teacher_forcing):
    feedback = trajectories("dijkstra")
    features = with_other_hints(feedback.features, recipe_spec("dijkstra"), slice(None))
    for graph, length in enumerate(feedback.features.lengths.int().tolist()):
        for name, hint in features.hints.items():
            hint[:length, graph] = feedback.features.hints[name][:length, graph]
    model = make_model("dijkstra", hint_teacher_forcing=hint_teacher_forcing).train()
    padded = feedback._replace(features=features)
    torch.testing.assert_close(total_loss(model, "dijkstra", padded), total_loss(model, "dijkstra", feedback))


def test_hints_are_predicted_at_every_time_after_the_first_and_before_the_end(trajectories):
    features = trajectories("dijkstra").features
    predictions = make_model("dijkstra")("dijkstra", features)
    pairs = list(zip(predictions.time.tolist(), predictions.graph.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    lengths = features.lengths.int().tolist()
    assert set(pairs) == {(time, graph) for graph, length in enumerate(lengths) for time in range(1, length)}


@pytest.mark.parametrize("hint_feedback", ["soft", "hard", "hard_on_eval"])
@pytest.mark.parametrize("hint_teacher_forcing", [0.0, 1.0])
def test_evaluation_looks_at_no_hint_but_the_first(trajectories, hint_teacher_forcing, hint_feedback):
    features = trajectories("dijkstra").features
    model = make_model("dijkstra", hint_teacher_forcing=hint_teacher_forcing, hint_feedback=hint_feedback)
    other = with_other_hints(features, recipe_spec("dijkstra"), slice(1, None))
    assert_same(model("dijkstra", other), model("dijkstra", features))


def test_evaluation_looks_at_the_first_hint(trajectories):
    features = trajectories("dijkstra").features
    model = make_model("dijkstra")
    other = with_other_hints(features, recipe_spec("dijkstra"), slice(0, 1))
    assert differ(model("dijkstra", other), model("dijkstra", features))


def test_evaluation_needs_no_hint_but_the_first(trajectories):
    features = trajectories("dijkstra").features
    model = make_model("dijkstra")
    first = features._replace(hints={name: hint[:1] for name, hint in features.hints.items()})
    assert_same(model("dijkstra", first), model("dijkstra", features))


def test_teacher_forcing_feeds_the_true_hints_in_training(trajectories):
    features = trajectories("dijkstra").features
    model = make_model("dijkstra", hint_teacher_forcing=1.0).train()
    other = with_other_hints(features, recipe_spec("dijkstra"), slice(1, None))
    assert differ(model("dijkstra", other), model("dijkstra", features))


def test_without_teacher_forcing_training_does_not_feed_the_true_hints(trajectories):
    features = trajectories("dijkstra").features
    model = make_model("dijkstra", hint_teacher_forcing=0.0).train()
    other = with_other_hints(features, recipe_spec("dijkstra"), slice(1, None))
    assert_same(model("dijkstra", other), model("dijkstra", features))


def test_teacher_forcing_never_feeds_the_hint_that_is_to_be_predicted(trajectories):
    features = cut_off(trajectories("dijkstra").features, 3)
    model = make_model("dijkstra", hint_teacher_forcing=1.0).train()
    other = with_other_hints(features, recipe_spec("dijkstra"), slice(2, None))
    assert_same(model("dijkstra", other), model("dijkstra", features))


def test_teacher_forcing_is_drawn_for_every_graph(trajectories):
    same = torch.zeros(40, dtype=torch.int64)
    features = cut_off(rows(trajectories("dijkstra").features, same), 3)  # with 3 hints, one is forced or not

    def predict(hint_teacher_forcing: float) -> Tensor:
        model = make_model("dijkstra", hint_teacher_forcing=hint_teacher_forcing).train()
        return model("dijkstra", features).outputs["pi"].flatten(start_dim=1)

    forced, unforced, mixed = predict(1.0), predict(0.0), predict(0.3)
    is_forced = torch.isclose(mixed, forced).all(dim=1)
    assert torch.equal(~is_forced, torch.isclose(mixed, unforced).all(dim=1))
    assert 0.05 < is_forced.double().mean() < 0.6


def test_hints_may_lie_in_memory_sample_by_sample(trajectories):
    feedback = trajectories("dijkstra")
    in_order = {name: hint.contiguous() for name, hint in feedback.features.hints.items()}
    assert not any(hint.is_contiguous() for hint in feedback.features.hints.values())
    other = feedback._replace(features=feedback.features._replace(hints=in_order))
    model = make_model("dijkstra", hint_teacher_forcing=1.0).train()
    assert_same(model("dijkstra", other.features), model("dijkstra", feedback.features))
    torch.testing.assert_close(total_loss(model, "dijkstra", other), total_loss(model, "dijkstra", feedback))


# How hints are used.


def test_decoded_only_has_no_encoders_of_hints():
    model = make_model("dijkstra", hint_mode="decoded_only")
    encoded = set(model.heads["dijkstra"].hint_encoder.linears) | set(model.heads["dijkstra"].input_encoder.linears)
    assert encoded == set(at_stage(recipe_spec("dijkstra"), Stage.INPUT))


@pytest.mark.parametrize("hint_mode", ["decoded_only", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_hints_that_are_not_encoded_have_no_effect(trajectories, hint_mode, training):
    features = trajectories("dijkstra").features
    model = make_model("dijkstra", hint_mode=hint_mode, hint_teacher_forcing=1.0).train(training)
    other = with_other_hints(features, recipe_spec("dijkstra"), slice(None))
    assert_same(model("dijkstra", other), model("dijkstra", features))


@pytest.mark.parametrize("hint_mode", ["encoded_decoded", "decoded_only"])
def test_decoded_hints_are_predicted(trajectories, hint_mode):
    predictions = make_model("dijkstra", hint_mode=hint_mode)("dijkstra", trajectories("dijkstra").features)
    assert set(predictions.hints) == set(at_stage(recipe_spec("dijkstra"), Stage.HINT))


@pytest.mark.parametrize("training", [True, False])
def test_predictions_asked_for_without_hints_have_the_same_outputs(trajectories, training):
    features = trajectories("dijkstra").features
    model = make_model("dijkstra").train(training)
    with_hints, without = model("dijkstra", features), model("dijkstra", features, with_hints=False)
    torch.testing.assert_close(without.outputs, with_hints.outputs)


def test_predictions_asked_for_without_hints_have_none(trajectories):
    predictions = make_model("dijkstra")("dijkstra", trajectories("dijkstra").features, with_hints=False)
    assert predictions.hints == {}
    assert len(predictions.time) == len(predictions.graph) == 0


def test_without_hints_none_is_predicted(trajectories):
    predictions = make_model("dijkstra", hint_mode="none")("dijkstra", trajectories("dijkstra").features)
    assert predictions.hints == {}


def test_without_hints_there_are_decoders_of_outputs_alone():
    heads = make_model("dijkstra", hint_mode="none").heads["dijkstra"]
    assert set(heads.hint_decoders) | set(heads.output_decoders) == {"pi"}


class SeesAdj(torch.nn.Module):
    """A decoder of a user's in place of another, that keeps the `adj` it is given."""

    def __init__(self, decoder: torch.nn.Module) -> None:
        super().__init__()
        self.decoder, self.seen = decoder, []

    def forward(self, states: Any) -> Tensor:
        self.seen.append(states.adj)
        return self.decoder(states)


class SeesAdjToo(MPNN):
    """A layer of a user's that looks at `adj`, which its base does not."""

    def received(self, z: Any, edge_fts: Any, graph_fts: Tensor, adj: Tensor) -> Tensor:
        self.seen = [*getattr(self, "seen", []), adj]
        return super().received(z, edge_fts, graph_fts, adj)


@pytest.mark.parametrize("who", ["hook", "decoder", "subclass"])
def test_whoever_looks_at_adj_is_given_that_of_the_hints(trajectories, who):
    model = make_model("bfs", SeesAdjToo(8) if who == "subclass" else MPNN(8))
    decoders, seen = model.heads["bfs"].hint_decoders, []
    if who == "decoder":
        decoders["pi_h"] = SeesAdj(decoders["pi_h"])
    elif who == "hook":
        model.processor.register_forward_pre_hook(lambda module, given: seen.append(given[3]))
    features = trajectories("bfs").features
    features.hints["pi_h"][:] = 3  # all point at one node, which few inputs connect with all
    model("bfs", features)
    seen += getattr(model.processor, "seen", []) + getattr(decoders["pi_h"], "seen", [])
    assert seen[0][:, :, 3].all()


def test_a_processor_that_looks_at_no_adj_takes_none_of_hints(trajectories, monkeypatch):
    model = make_model("bfs", MPNN(8))
    encoded = []
    encode = Encoder.forward
    monkeypatch.setattr(
        Encoder, "forward", lambda *args, **options: encoded.append(encode(*args, **options)) or encoded[-1]
    )
    model("bfs", trajectories("bfs").features)
    assert {id(encoding.adj) for encoding in encoded[:2]} == {id(encoded[0].adj)}


def test_edge_states_that_no_decoder_reads_are_never_computed(trajectories, monkeypatch):
    monkeypatch.setattr(Triplets, "messages", lambda *_: pytest.fail("computed"))
    predicted = make_model("jarvis_march", TripletGMPNN(8))("jarvis_march", trajectories("jarvis_march").features)
    assert predicted.outputs["in_hull"].isfinite().all()


def test_without_hints_there_are_no_encoders_of_hints():
    assert len(make_model("dijkstra", hint_mode="none").heads["dijkstra"].hint_encoder.linears) == 0


def gradients_from_outputs(
    trajectories: Callable[..., Feedback[Tensor]], hint_feedback: str
) -> dict[str, Tensor | None]:
    """Gradients of the hint decoders if outputs alone are scored."""
    feedback = trajectories("dijkstra")
    model = make_model("dijkstra", hint_feedback=hint_feedback).train()
    predictions = model("dijkstra", feedback.features)
    outputs_alone = predictions._replace(hints={})
    losses(recipe_spec("dijkstra"), outputs_alone, feedback)["pi"].backward()
    return {
        name: decoder.get_parameter("output.weight" if name == "pi_h" else "node.weight").grad
        for name, decoder in model.heads["dijkstra"].hint_decoders.items()
    }


@pytest.mark.parametrize("hint_feedback", ["soft", "hard_on_eval"])
@pytest.mark.parametrize("hint", ["pi_h", "d", "mark", "in_queue", "u"])
def test_soft_feedback_lets_gradients_through_hints(trajectories, hint_feedback, hint):
    gradient = gradients_from_outputs(trajectories, hint_feedback)[hint]
    assert gradient is not None
    assert gradient.abs().max() > 1e-9


def test_hard_feedback_lets_no_gradient_through_hints(trajectories):
    gradients = gradients_from_outputs(trajectories, "hard")
    assert set(gradients.values()) == {None}


def predict_with_feedback(
    trajectories: Callable[..., Feedback[Tensor]], hint_feedback: str, training: bool
) -> Predictions:
    model = make_model("dijkstra", hint_feedback=hint_feedback).train(training)
    predictions: Predictions = model("dijkstra", trajectories("dijkstra").features)
    return predictions


@pytest.mark.parametrize("training", [True, False])
def test_hard_feedback_differs_from_soft(trajectories, training):
    soft = predict_with_feedback(trajectories, "soft", training)
    assert differ(soft, predict_with_feedback(trajectories, "hard", training))


def test_feedback_that_is_hard_on_eval_is_hard_in_evaluation(trajectories):
    hard = predict_with_feedback(trajectories, "hard", training=False)
    assert_same(predict_with_feedback(trajectories, "hard_on_eval", training=False), hard)


def test_feedback_that_is_hard_on_eval_is_soft_in_training(trajectories):
    soft = predict_with_feedback(trajectories, "soft", training=True)
    assert_same(predict_with_feedback(trajectories, "hard_on_eval", training=True), soft)


# How the processor is used.


class Counter(Processor):
    """Adds 1 to the states and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_dim = 8
        self.factor = torch.nn.Parameter(torch.ones(()))
        self.given: list[tuple[Tensor, ...]] = []

    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, None]:
        self.given.append((node_fts, edge_fts, graph_fts, adj, hidden))
        return self.factor * hidden + 1, None


def states_of_each_step(
    features: Features[Tensor], *, training: bool = False, **settings: Any
) -> tuple[Counter, list[Tensor]]:
    """A counting processor after a run of dijkstra, and the node states that decoders were given at each step."""
    counter = Counter()
    model = make_model("dijkstra", counter, **settings).train(training)
    seen: list[Tensor] = []
    model.heads["dijkstra"].hint_decoders["u"].register_forward_hook(
        lambda _, args, __: seen.append(as_tensor(args[0].node))
    )
    model("dijkstra", features)
    return counter, seen


@pytest.mark.parametrize(("num_hints", "num_steps"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_there_is_a_step_for_every_hint_but_the_first_and_at_least_one(trajectories, num_hints, num_steps):
    counter, _ = states_of_each_step(cut_off(trajectories("dijkstra").features, num_hints))
    assert len(counter.given) == num_steps


def test_a_graph_is_processed_until_its_own_end(trajectories):
    features = trajectories("dijkstra").features
    counter, _ = states_of_each_step(features)
    expected = [int((features.lengths - 1 > step).sum()) for step in range(int(features.lengths.max()) - 1)]
    assert [len(hidden) for *_, hidden in counter.given] == expected
    assert len(set(expected)) > 1


def test_states_start_at_zero(trajectories):
    counter, _ = states_of_each_step(trajectories("dijkstra").features)
    assert (counter.given[0][-1] == 0).all()


def test_every_step_starts_from_the_states_of_the_last(trajectories):
    counter, _ = states_of_each_step(trajectories("dijkstra").features)
    assert [hidden.unique().tolist() for *_, hidden in counter.given] == [[step] for step in range(len(counter.given))]


def test_two_processor_steps_are_two_applications_for_every_hint(trajectories):
    counter, _ = states_of_each_step(cut_off(trajectories("dijkstra").features, 4), num_processor_steps=2)
    assert [hidden.unique().tolist() for *_, hidden in counter.given] == [[0], [1], [2], [3], [4], [5]]


@pytest.mark.parametrize(("name", "number"), [("dijkstra", 2), ("bfs", 1)])
def test_an_algorithm_may_have_a_number_of_processor_steps_of_its_own(trajectories, name, number):
    features = cut_off(trajectories("dijkstra").features, 4)
    counter, _ = states_of_each_step(features, num_processor_steps={name: 2})
    assert [hidden.unique().tolist() for *_, hidden in counter.given] == [[step] for step in range(3 * number)]


def test_a_number_of_processor_steps_of_an_algorithm_is_an_error_that_names_the_setting():
    with pytest.raises(ValueError, match="expected num_processor_steps ≥ 1, given 0"):
        make_model("bfs", num_processor_steps={"bfs": 0})


def test_two_processor_steps_are_given_the_same_features(trajectories):
    counter, _ = states_of_each_step(cut_off(trajectories("dijkstra").features, 4), num_processor_steps=2)
    for first, second in zip(counter.given[::2], counter.given[1::2], strict=True):
        assert all(torch.equal(one, other) for one, other in zip(first[:-1], second[:-1], strict=True))


@pytest.mark.parametrize("num_processor_steps", [1, 2])
def test_decoders_read_node_features_then_the_last_then_the_new_states(trajectories, num_processor_steps):
    counter, seen = states_of_each_step(
        cut_off(trajectories("dijkstra").features, 4), num_processor_steps=num_processor_steps
    )
    assert len(seen) == 3
    for step, node in enumerate(seen):
        node_fts, last, new = node.chunk(3, dim=-1)
        assert torch.equal(node_fts, counter.given[step * num_processor_steps][0])
        assert last.unique().tolist() == [step * num_processor_steps]
        assert new.unique().tolist() == [(step + 1) * num_processor_steps]


class Keeper(Counter):
    """Adds different numbers to the entries of a state."""

    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, None]:
        states, _ = super().forward(node_fts, edge_fts, graph_fts, adj, hidden)
        return states + torch.arange(8), None


def run_of(processor: Counter, features: Features[Tensor], *, training: bool = False, **settings: Any) -> list[Tensor]:
    """The last and the new states that decoders of a run of dijkstra were given at each step, [2, B, N, 8] each."""
    model = make_model("dijkstra", processor, **settings).train(training)
    seen: list[Tensor] = []
    model.heads["dijkstra"].hint_decoders["u"].register_forward_hook(
        lambda _, args, __: seen.append(torch.stack(as_tensor(args[0].node).chunk(3, dim=-1)[1:]))
    )
    model("dijkstra", features)
    return seen


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("num_processor_steps", [1, 2])
@pytest.mark.parametrize("latent_decay_to", ["zero", "mean"])
def test_states_decay_before_the_processor_and_decoders_read_what_they_were(
    trajectories, latent_decay_to, num_processor_steps, training
):
    processor = Keeper()
    settings = {"latent_decay": 0.9, "latent_decay_to": latent_decay_to, "num_processor_steps": num_processor_steps}
    seen = run_of(processor, cut_off(trajectories("dijkstra").features, 4), training=training, **settings)
    assert len(seen) == 3
    state = torch.zeros(8)
    for step, (last, new) in enumerate(seen):
        torch.testing.assert_close(last, state.expand_as(last))
        centre = state.mean() if latent_decay_to == "mean" else 0
        given = centre + 0.9 * (state - centre)
        received = processor.given[step * num_processor_steps][-1]
        torch.testing.assert_close(received, given.expand_as(received))
        state = given + num_processor_steps * (1 + torch.arange(8))
        torch.testing.assert_close(new, state.expand_as(new))


@pytest.mark.parametrize("latent_decay_to", ["zero", "mean"])
def test_a_decay_of_one_changes_nothing(trajectories, latent_decay_to):
    features = trajectories("dijkstra").features
    expected = make_model("dijkstra")("dijkstra", features)
    found = make_model("dijkstra", latent_decay=1.0, latent_decay_to=latent_decay_to)("dijkstra", features)
    for name, logits in expected.outputs.items():
        assert found.outputs[name].equal(logits)


class Marked(Noise):
    """Adds 100, and 1000 to graphs at their last step."""

    def changed(self, hidden: Tensor, is_last: Tensor) -> Tensor:
        return hidden + 100 + 1000 * is_last[:, None, None]


@pytest.mark.parametrize("num_processor_steps", [1, 2])
def test_noise_comes_once_after_the_processor_and_goes_into_the_next_step(trajectories, num_processor_steps):
    processor = Counter()
    settings = {"latent_noise": Marked(), "num_processor_steps": num_processor_steps}
    seen = run_of(processor, cut_off(trajectories("dijkstra").features, 4), **settings)
    steps = num_processor_steps
    assert [new.unique().tolist() for _, new in seen] == [[100 + steps], [200 + 2 * steps], [1300 + 3 * steps]]
    assert [last.unique().tolist() for last, _ in seen] == [[0], [100 + steps], [200 + 2 * steps]]
    assert processor.given[steps][-1].unique().tolist() == [100 + steps]


def test_noise_is_told_of_each_graphs_own_last_step(trajectories):
    features = trajectories("dijkstra").features
    seen = run_of(Counter(), features, latent_noise=Marked())
    lengths = features.lengths.sort(descending=True).values
    assert len(set(lengths.tolist())) > 1
    for step, (_, new) in enumerate(seen):
        is_last = lengths[lengths - 1 > step] - 2 == step
        assert new.amax(dim=(1, 2)).gt(1000).equal(is_last)


def test_dropout_in_training_drops_states_and_scales_up_the_rest(trajectories):
    features = rows(trajectories("dijkstra").features, torch.zeros(50, dtype=torch.int64))
    _, seen = states_of_each_step(cut_off(features, 2), training=True, dropout=0.2)
    new = seen[0].chunk(3, dim=-1)[2]
    torch.testing.assert_close(new.unique(), torch.tensor([0, 1.25]))
    assert (new == 0).double().mean().item() == pytest.approx(0.2, abs=0.04)


def test_dropout_has_no_effect_in_evaluation(trajectories):
    _, seen = states_of_each_step(cut_off(trajectories("dijkstra").features, 4), dropout=0.2)
    assert [node.chunk(3, dim=-1)[2].unique().tolist() for node in seen] == [[1], [2], [3]]


def test_lstm_equals_its_equation():
    lstm = LSTM(3)
    torch.nn.init.normal_(lstm.gates.bias)
    x, hidden, cell = torch.randn(3, 2, 4, 3)
    z = lstm.gates(torch.cat([x, hidden], dim=-1))
    enter, candidate, keep, leave = z[..., 0:3], z[..., 3:6], z[..., 6:9], z[..., 9:12]
    new_cell = torch.sigmoid(keep + 1) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    new_hidden = torch.sigmoid(leave) * torch.tanh(new_cell)
    torch.testing.assert_close(lstm(x, hidden, cell), (new_hidden, new_cell))


def test_every_step_starts_from_the_lstm_states_of_the_last(trajectories):
    model = make_model("dijkstra", use_lstm=True)
    steps: list[tuple[Any, Any]] = []
    model.lstm.register_forward_hook(lambda _, args, result: steps.append((args[1:], result)))
    model("dijkstra", cut_off(trajectories("dijkstra").features, 4))
    given, returned = zip(*steps, strict=True)
    assert all(x.abs().max() > 0 for states in returned for x in states)
    torch.testing.assert_close(list(given), [tuple(torch.zeros(2, 6, 5, 8)), *returned[:-1]])


# The model as a whole.


def slopes(loss: Callable[[], Tensor], parameters: list[torch.nn.Parameter], step: float = 1e-6) -> tuple[float, float]:
    """The slope of a loss along a random direction: by the gradients there are, and by finite differences."""
    directions = [torch.randn_like(parameter) for parameter in parameters]

    def loss_at(offset: float) -> float:
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += offset * direction
            value = loss().item()
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter -= offset * direction
        return value

    by_gradient = sum((p.grad * direction).sum().item() for p, direction in zip(parameters, directions, strict=True))
    return by_gradient, (loss_at(step) - loss_at(-step)) / (2 * step)


def test_gradient_of_the_whole_loss_equals_finite_differences(trajectories):
    feedback = trajectories("dijkstra", num_nodes=4, num_samples=2)
    feedback = feedback._replace(features=cut_off(feedback.features, 3))
    model = make_model("dijkstra", TripletGMPNN(4), use_lstm=True).train()
    with torch.no_grad():
        for parameter in model.parameters():  # away from the kinks at 0, where biases start
            parameter += 0.1 * torch.randn_like(parameter)

    def loss() -> Tensor:
        return total_loss(model, "dijkstra", feedback)

    loss().backward()
    layers = {name: list(module.parameters(recurse=False)) for name, module in model.named_modules()}
    both = {name: slopes(loss, parameters) for name, parameters in layers.items() if parameters}
    wrong = {name: pair for name, pair in both.items() if pair[0] != pytest.approx(pair[1], rel=1e-5, abs=1e-7)}
    assert wrong == {}


def decoders_read_edges(spec: Spec) -> bool:
    return any(
        p.stage is not Stage.INPUT and (p.location is Location.EDGE or p.type in POINTERS) for p in spec.values()
    )


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_trains_all_parameters_with_finite_gradients(trajectories, algorithm):
    feedback = trajectories(algorithm, num_nodes=20 if algorithm in STRING_MATCHERS else 4, num_samples=2)
    model = make_model(algorithm, TripletGMPNN(4)).train()
    total_loss(model, algorithm, feedback).backward()
    untrained = set() if decoders_read_edges(recipe_spec(algorithm)) else {"processor.triplets"}
    without_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert {name.rsplit(".", 2)[0] for name in without_gradient} == untrained
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_has_a_finite_loss_for_every_predicted_probe(trajectories, algorithm):
    feedback = trajectories(algorithm, num_nodes=20 if algorithm in STRING_MATCHERS else 4, num_samples=2)
    spec = recipe_spec(algorithm)
    by_probe = losses(spec, make_model(algorithm, TripletGMPNN(4)).train()(algorithm, feedback.features), feedback)
    assert set(by_probe) == {name for name, probe in spec.items() if probe.stage is not Stage.INPUT}
    assert all(loss.isfinite() for loss in by_probe.values())


def test_a_trajectory_of_one_hint_has_outputs(trajectories):
    features = cut_off(trajectories("bfs").features, 1)
    assert make_model("bfs")("bfs", features).outputs["pi"].shape == (6, 5, 5)


def test_a_trajectory_of_one_hint_has_no_hint_to_predict(trajectories):
    predictions = make_model("bfs")("bfs", cut_off(trajectories("bfs").features, 1))
    assert len(predictions.time) == len(predictions.graph) == 0
    assert {len(logits) for logits in predictions.hints.values()} == {0}


def test_a_trajectory_of_one_hint_has_a_hint_loss_of_zero(trajectories):
    feedback = trajectories("bfs")
    feedback = feedback._replace(features=cut_off(feedback.features, 1))
    by_probe = losses(recipe_spec("bfs"), make_model("bfs")("bfs", feedback.features), feedback)
    assert by_probe["pi"] > 0
    assert by_probe["pi_h"] == by_probe["reach_h"] == 0


def test_a_trajectory_of_one_hint_trains_with_finite_gradients(trajectories):
    feedback = trajectories("bfs")
    feedback = feedback._replace(features=cut_off(feedback.features, 1))
    model = make_model("bfs").train()
    total_loss(model, "bfs", feedback).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def renamed(spec: Spec, data: Mapping[str, Tensor], order: Tensor, *, num_leading: int) -> dict[str, Tensor]:
    """The data of graphs whose node a is what was node ``order[a]``."""
    inverse = order.argsort()
    result = {}
    for name, value in data.items():
        num_axes = {Location.NODE: 1, Location.EDGE: 2, Location.GRAPH: 0}[spec[name].location]
        for dim in range(0 if spec[name].type is Type.MASK_ONE else num_axes):
            value = value.index_select(num_leading + dim, order)
        result[name] = inverse[value.long()] if spec[name].type in (Type.MASK_ONE, Type.POINTER) else value
    return result


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        *(("bfs", {}), ("floyd_warshall", {}), ("floyd_warshall", {"edge_pointers": "triplets"}), ("heapsort", {})),
        ("floyd_warshall", {"reconstruction": Reconstruction()}),
    ],
)
def test_predictions_are_renamed_with_the_nodes(trajectories, algorithm, settings):
    spec = recipe_spec(algorithm)
    features = trajectories(algorithm).features
    order = torch.tensor([3, 0, 4, 1, 2])
    inputs = renamed(spec, features.inputs, order, num_leading=1)
    hints = renamed(spec, features.hints, order, num_leading=2)
    model = make_model(algorithm, **settings)
    before, after = model(algorithm, features), model(algorithm, Features(inputs, hints, features.lengths))
    for logits, expected in ((after.outputs, before.outputs), (after.hints, before.hints)):
        expected = renamed(
            {name: spec[name]._replace(type=Type.MASK) for name in expected}, expected, order, num_leading=1
        )
        for name in expected:
            if spec[name].type in POINTERS:
                expected[name] = expected[name].index_select(-1, order)
            torch.testing.assert_close(logits[name], expected[name])


def test_biases_start_at_zero_but_for_the_gate():
    started = {
        name: parameter.unique().tolist()
        for name, parameter in make_model("bfs", use_lstm=True).named_parameters()
        if name.endswith("bias")
    }
    assert {name: values for name, values in started.items() if values != [0]} == {"processor.gate.output.bias": [-3]}


class Penalised(Processor):
    """A processor whose penalty is another at every step, and is kept with the number of graphs."""

    hidden_dim = 8
    penalty_names = ("drawn",)

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[int, Tensor]] = []

    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, None]:
        return hidden + node_fts, None

    def penalties(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> dict[str, Tensor]:
        self.parts.append((len(hidden), (hidden.mean() + len(self.parts)) ** 2))
        return {"drawn": self.parts[-1][1]}


@pytest.mark.parametrize("num_processor_steps", [1, 2, {"bfs": 2}])
def test_a_penalty_is_the_mean_over_all_steps_of_all_graphs(trajectories, num_processor_steps):
    processor = Penalised()
    model = make_model("bfs", processor, num_processor_steps=num_processor_steps)
    features = trajectories("bfs").features
    found = model("bfs", features, with_penalties=True).penalties
    numbers = [number for number, _ in processor.parts]
    assert len(set(numbers)) > 1
    applications = 1 if num_processor_steps == 1 else 2
    assert sum(numbers) == applications * (features.lengths - 1).clamp(min=1).sum()
    expected = sum(number * value for number, value in processor.parts) / sum(numbers)
    torch.testing.assert_close(found, {"drawn": expected})


def test_penalties_are_computed_only_if_asked_for(trajectories):
    processor = Penalised()
    assert make_model("bfs", processor)("bfs", trajectories("bfs").features).penalties == {}
    assert processor.parts == []


def test_a_processor_has_no_penalties_unless_it_says_so(trajectories):
    model = make_model("bfs")
    assert model.processor.penalty_names == ()
    assert model("bfs", trajectories("bfs").features, with_penalties=True).penalties == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"hint_teacher_forcing": 1.5},
        {"edge_pointers": "nodes"},
        {"dropout": -0.1},
        {"num_processor_steps": 0},
        {"num_frequencies": -1},
        {"latent_decay": 1.1},
        {"latent_decay_to": "one"},
    ],
)
def test_a_setting_out_of_range_is_an_error_that_names_it(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name}.*given {value!r}"):
        make_model("bfs", **settings)


NUM_PARAMETERS = {  # of dm-clrs 2.0.3 with Triplet-GMPNN at width 128
    "articulation_points": 531913,
    "activity_selector": 262204,
    "bellman_ford": 524604,
    "bfs": 523963,
    "binary_search": 262204,
    "bridges": 532556,
    "bubble_sort": 524477,
    "dag_shortest_paths": 793287,
    "dfs": 661190,
    "dijkstra": 525886,
    "find_maximum_subarray_kadane": 264514,
    "floyd_warshall": 625089,
    "graham_scan": 398409,
    "heapsort": 659654,
    "insertion_sort": 524477,
    "jarvis_march": 264898,
    "kmp_matcher": 398021,
    "lcs_length": 270419,
    "matrix_chain_order": 624448,
    "minimum": 261307,
    "mst_kruskal": 399691,
    "mst_prim": 525886,
    "naive_string_matcher": 262588,
    "optimal_bst": 625987,
    "quickselect": 396355,
    "quicksort": 525759,
    "segments_intersect": 263359,
    "strongly_connected_components": 663243,
    "task_scheduling": 262333,
    "topological_sort": 660164,
}


def count_parameters(*algorithms: str) -> int:
    with torch.device("meta"):
        model = EncodeProcessDecode({name: recipe_spec(name) for name in algorithms}, TripletGMPNN(128))
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_there_are_as_many_parameters_as_in_dm_clrs(algorithm):
    assert count_parameters(algorithm) == NUM_PARAMETERS[algorithm]


def test_one_model_of_all_algorithms_has_as_many_parameters_as_in_dm_clrs():
    assert count_parameters(*ALGORITHMS) == 6511597


@pytest.mark.parametrize("num_samples", [1, 4])
def test_steps_end_in_the_states_that_outputs_are_decoded_of(
    trajectories: Callable[..., Feedback[Tensor]], num_samples: int
) -> None:
    model, features = make_model("bfs"), trajectories("bfs", 6, num_samples).features
    outputs = model("bfs", features).outputs["pi"]
    decoder = model.heads["bfs"].output_decoders["pi"]
    last = {}
    for step in model.steps("bfs", features):
        logits = decoder(step.states)
        last |= {int(graph): logits[index] for index, graph in enumerate(step.graphs)}
        torch.testing.assert_close(as_tensor(step.states.node)[..., -8:], step.node_states)
    torch.testing.assert_close(torch.stack([last[graph] for graph in range(num_samples)]), outputs)
