"""dm-clrs as the oracle: what its model makes of a small batch, with its own random weights."""
# Axes: B graphs, N nodes, T time.

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import clrs
import jax
import numpy as np
import pytest
from cases import HIDDEN_DIM, NUM_HEADS, TRIPLET_DIM, Case, Record, fixed_noise, moments

from nar.batch import Features, Feedback, NumpyArray
from nar.datasets import SPECS, dense, sample
from nar.datasets.clrs30.recipe import apply_recipe, randomise_positions, recipe_spec, train_sampler_args
from nar.datasets.clrs30.samplers import CLRS_30
from nar.specs import Type

decoders: Any = importlib.import_module("clrs._src.decoders")
losses: Any = importlib.import_module("clrs._src.losses")
evaluation: Any = importlib.import_module("clrs._src.evaluation")

NUM_SAMPLES = 3
MAX_HINTS = 8


def record(case: Case, seed: int = 20) -> Record:
    """The record of a case (see ``parity.py``): weights, a batch, and what dm-clrs makes of it."""
    batch = draw(case.algorithm, seed)
    their_batch = their_feedback(case.algorithm, batch)
    spec = recipe_spec(case.algorithm)
    model = their_model(case, their_batch)
    params = their_weights(model, their_batch, seed)
    (inputs, hints, lengths), outputs = batch
    made: dict[str, Any] = {**keyed("params", by_entry(params)), "lengths": lengths}
    made |= keyed("inputs", inputs) | keyed("hints", hints) | keyed("outputs", outputs)
    with jax.enable_x64(True), fixed_their_noise():
        gradients, train, test = run(model, jax.tree_util.tree_map(np.float64, params), their_batch)
        by_probe = loss_by_probe(their_batch, *train)
        made |= evaluated(case.algorithm, their_batch, *test)
    jax.clear_caches()
    pairs = [(t, b) for t in range(len(train[1] or ())) for b in range(len(lengths)) if t + 1 < lengths[b]]
    hint_names = [name for name, probe in spec.items() if probe.stage == "hint"] if train[1] else []
    made |= keyed("train|loss", by_probe) | keyed("train|gradient", by_entry(gradients))
    for mode, (output_logits, hint_logits) in (("train", train), ("test", test)):
        by_name = {name: np.stack([hint_logits[t][name][b] for t, b in pairs]) for name in hint_names}
        made |= keyed(f"{mode}|outputs", output_logits) | keyed(f"{mode}|hints", by_name)
    return {key: compact(np.asarray(value)) for key, value in made.items()}


def draw(algorithm: str, seed: int) -> Feedback[NumpyArray]:
    """A few samples as training has them, in dm-clrs's dense form, but cut off so that no two are equally long if there
    are hints enough.
    """
    # Five nodes, or as many as it takes for a hint to be fed back.
    num_nodes = max({"lcs_length": 8, "naive_string_matcher": 10}.get(algorithm, 5), CLRS_30[algorithm].min_num_nodes)
    args = train_sampler_args(algorithm, num_nodes)
    raw = dense(SPECS[algorithm], sample(algorithm, num_nodes=num_nodes, num_samples=NUM_SAMPLES, seed=seed, **args))
    (inputs, hints, lengths), outputs = randomise_positions(apply_recipe(algorithm, raw), np.random.RandomState(0))
    outputs = with_one_hot_permutations(algorithm, outputs, inputs["pos"].shape[1])
    longest = min(MAX_HINTS, int(max(lengths)))
    lengths = np.minimum(lengths, np.maximum(longest - np.arange(NUM_SAMPLES), 1)).astype(np.int64)
    inputs, hints, outputs = ({n: compact(x) for n, x in probes.items()} for probes in (inputs, hints, outputs))
    hints = {name: hint[: max(lengths)] for name, hint in hints.items()}
    return Feedback(Features(inputs, hints, lengths), outputs)


def with_one_hot_permutations(
    algorithm: str, outputs: Mapping[str, NumpyArray], num_nodes: int
) -> dict[str, NumpyArray]:
    """Outputs in which what the recipe has made of permutations, they and their first nodes, is dense as well."""
    permutations = {name for name, probe in recipe_spec(algorithm).items() if probe.type is Type.PERMUTATION_POINTER}
    sparse = permutations | {f"{name}_mask" for name in permutations}
    return {name: np.eye(num_nodes)[data] if name in sparse else data for name, data in outputs.items()}


def compact(array: NumpyArray) -> NumpyArray:
    """The array in single precision if it holds floats."""
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def data_points(algorithm: str, probes: dict[str, NumpyArray]) -> tuple[Any, ...]:
    """Our dict of arrays as dm-clrs's tuple of data points."""
    spec = recipe_spec(algorithm)
    return tuple(
        clrs.DataPoint(name, str(spec[name].location), str(spec[name].type), np.asarray(data))
        for name, data in probes.items()
    )


def their_feedback(algorithm: str, feedback: Feedback[NumpyArray]) -> Any:
    """Our feedback in dm-clrs's form."""
    (inputs, hints, lengths), outputs = feedback
    features = clrs.Features(
        data_points(algorithm, dict(inputs)), data_points(algorithm, dict(hints)), np.asarray(lengths)
    )
    return clrs.Feedback(features, data_points(algorithm, dict(outputs)))


def their_model(case: Case, feedback: Any) -> Any:
    """dm-clrs's model of a case, without weights."""
    settings = {
        "encode_hints": True,
        "decode_hints": True,
        "hint_repred_mode": "soft",
        "nb_msg_passing_steps": 1,
    }
    for name, value in case.settings.items():
        match name:
            case "hint_mode":
                settings |= {"encode_hints": False, "decode_hints": value == "decoded_only"}
            case "hint_feedback":
                settings["hint_repred_mode"] = value
            case "num_processor_steps":
                settings["nb_msg_passing_steps"] = value
            case _:
                settings[name] = value
    spec = {name: (str(p.stage), str(p.location), str(p.type)) for name, p in recipe_spec(case.algorithm).items()}
    factory = clrs.get_processor_factory(case.kind, use_ln=True, nb_triplet_fts=TRIPLET_DIM, nb_heads=NUM_HEADS)
    return clrs.models.BaselineModel(
        spec,
        feedback,
        processor_factory=factory,
        hidden_dim=HIDDEN_DIM,
        encoder_init="xavier_on_scalars",
        **settings,
    )


def their_weights(model: Any, feedback: Any, seed: int) -> Any:
    """What dm-clrs initialises the model with, a little moved: biases start at 0 and norms at 1, where a mix-up of two
    would not be seen.
    """
    params = compile_quickly(jax.jit(initialiser(model, feedback)), jax.random.PRNGKey(seed))
    rng = np.random.RandomState(seed)
    return jax.tree_util.tree_map(lambda x: np.asarray(x + 0.1 * rng.normal(size=x.shape), np.float32), params)


def initialiser(model: Any, feedback: Any) -> Any:
    """The function from a random key to initial weights."""
    fixed = {"algorithm_index": -1, "return_hints": False, "return_all_outputs": False}
    return lambda key: model.net_fn.init(key, [feedback.features], True, **fixed)


def initial_moments(case: Case, num_draws: int = 1000) -> Record:
    """The moments of every parameter at the start, over many draws."""
    feedback = their_feedback(case.algorithm, draw(case.algorithm, seed=0))
    initialise = jax.jit(jax.vmap(initialiser(their_model(case, feedback), feedback)))
    params = compile_quickly(initialise, jax.random.split(jax.random.PRNGKey(0), num_draws))
    return {key: moments(np.asarray(draws)) for key, draws in by_entry(params).items()}


def compile_quickly(function: Any, *args: Any) -> Any:
    """The value of a jitted function; without optimisation it compiles in half the time."""
    return function.lower(*args).compile({"xla_backend_optimization_level": "0"})(*args)


def run(model: Any, params: Any, feedback: Any) -> tuple[Any, tuple[Any, Any], tuple[Any, Any]]:
    """Gradients of the loss, and outputs and hints in training and in evaluation mode."""
    key = jax.random.PRNGKey(0)
    fixed = {"algorithm_index": 0, "return_hints": True, "return_all_outputs": False}

    def everything(params: Any) -> Any:
        gradients = jax.grad(model._loss)(params, key, feedback, 0)
        train = model.net_fn.apply(params, key, [feedback.features], repred=False, **fixed)
        test = model.net_fn.apply(params, key, [feedback.features], repred=True, **fixed)
        return gradients, train, test

    return jax.tree_util.tree_map(np.asarray, compile_quickly(jax.jit(everything), params))


def loss_by_probe(feedback: Any, outputs: Any, hints: Any) -> dict[str, NumpyArray]:
    """The losses that dm-clrs adds up."""
    num_nodes = next(x.data.shape[1] for x in feedback.features.inputs if x.location != "graph")
    by_probe = {x.name: losses.output_loss(x, outputs[x.name], num_nodes) for x in feedback.outputs}
    for hint in feedback.features.hints if hints else ():
        predicted = [step[hint.name] for step in hints]
        by_probe[hint.name] = losses.hint_loss(hint, predicted, feedback.features.lengths, num_nodes)
    return by_probe


def evaluated(algorithm: str, feedback: Any, outputs: Any, hints: Any) -> dict[str, Any]:
    """What dm-clrs predicts, and its scores of outputs and hints."""
    spec = {name: (str(p.stage), str(p.location), str(p.type)) for name, p in recipe_spec(algorithm).items()}

    def definite(logits: Any, steps: int) -> Any:
        logits = jax.tree_util.tree_map(jax.numpy.asarray, logits)
        result = decoders.postprocess(spec, logits, sinkhorn_temperature=0.1, sinkhorn_steps=steps, hard=True)
        return {name: clrs.DataPoint(name, x.location, x.type_, np.asarray(x.data)) for name, x in result.items()}

    predicted = definite(outputs, 50)
    made = keyed("score", evaluation.evaluate(feedback.outputs, predicted))
    fused = evaluation._reduce_permutations_dict(predicted)
    made |= keyed("predicted", {name: x.data for name, x in fused.items()})
    if hints:
        steps = [definite(step, 25) for step in hints]
        for name, score in evaluation.evaluate_hints(feedback.features.hints, feedback.features.lengths, steps).items():
            by_time = name.endswith("_along_time")
            key = f"hint_score_by_time|{name.removesuffix('_along_time')}" if by_time else f"hint_score|{name}"
            made[key] = score
    return made


def keyed(prefix: str, values: Any) -> dict[str, Any]:
    return {f"{prefix}|{name}": value for name, value in values.items()}


def by_entry(tree: Any) -> dict[str, Any]:
    """A tree of dm-haiku with keys ``module|entry``."""
    return {f"{module}|{entry}": array for module, entries in tree.items() for entry, array in entries.items()}


@contextmanager
def fixed_their_noise() -> Iterator[None]:
    """Makes dm-clrs draw :func:`fixed_noise` in its Sinkhorn operator."""
    original = decoders.log_sinkhorn

    def log_sinkhorn(x: Any, steps: int, temperature: float, zero_diagonal: bool, noise_rng_key: Any) -> Any:
        if noise_rng_key is not None:
            x = x + fixed_noise(x.shape[-1]).astype(x.dtype)
        return original(x, steps, temperature, zero_diagonal, None)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(decoders, "log_sinkhorn", log_sinkhorn)
        yield
