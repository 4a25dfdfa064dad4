"""The comparison of our model with dm-clrs on one small batch, against what dm-clrs made of it.

A case's *record* is a flat dict of arrays: dm-clrs's weights (``params|module|entry``), the batch in dm-clrs's dense
form (``inputs|probe``, ``hints|probe``, ``outputs|probe``, ``lengths``) and what dm-clrs made of it in float64:
``train|loss|probe``, ``train|gradient|module|entry``, ``train|outputs|probe``, ``train|hints|probe``,
``test|outputs|probe``, ``test|hints|probe``, ``predicted|probe``, ``score|probe``, ``hint_score|probe`` and
``hint_score_by_time|probe``.
"""
# Axes: B graphs, N nodes, T time, P (graph, step) pairs.

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from cases import HIDDEN_DIM, NUM_HEADS, TRIPLET_DIM, Case, Record, fixed_noise, moments
from torch import Tensor

import nar.model.decoders
from nar.batch import Features, Feedback, NumpyArray, to_tensors
from nar.datasets.clrs30.dm_clrs import compact
from nar.datasets.clrs30.recipe import recipe_spec
from nar.model.encoders import dense
from nar.model.losses import losses
from nar.model.metrics import counts, definite, hint_scores, scores
from nar.model.unroll import EncodeProcessDecode, Predictions
from nar.processor import Processor
from nar.processors import GAT, MPNN, PGN, DeepSets, GATv2, MemNet, TripletGMPNN
from nar.specs import Spec, Type
from nar.training.haiku import from_haiku, haiku_names, to_haiku

TOLERANCES = {"float64": 1e-5, "float32": 2e-4}
SMALLEST_GRADIENT = {"float64": 1e-6, "float32": 1e-2}  # of what is measured by itself, relative to the largest
IMPOSSIBLE = -1e3  # logits below it only have to be so in both

# By dm-clrs's name.
PROCESSORS: dict[str, Callable[[int], Processor]] = {
    "deepsets": DeepSets,
    "gat": partial(GAT, num_heads=NUM_HEADS),
    "gat_full": partial(GAT, num_heads=NUM_HEADS, senders="all"),
    "gatv2": partial(GATv2, num_heads=NUM_HEADS),
    "gatv2_full": partial(GATv2, num_heads=NUM_HEADS, senders="all"),
    "memnet_full": partial(MemNet, senders="all"),
    "memnet_masked": MemNet,
    "mpnn": MPNN,
    "pgn": PGN,
    "pgn_mask": partial(PGN, mask_decoders=True),
    "triplet_mpnn": partial(MPNN, triplet_dim=TRIPLET_DIM),
    "triplet_pgn": partial(PGN, triplet_dim=TRIPLET_DIM),
    "triplet_pgn_mask": partial(PGN, mask_decoders=True, triplet_dim=TRIPLET_DIM),
    "gpgn": partial(PGN, gated=True),
    "gpgn_mask": partial(PGN, mask_decoders=True, gated=True),
    "gmpnn": partial(MPNN, gated=True),
    "triplet_gpgn": partial(PGN, triplet_dim=TRIPLET_DIM, gated=True),
    "triplet_gpgn_mask": partial(PGN, mask_decoders=True, triplet_dim=TRIPLET_DIM, gated=True),
    "triplet_gmpnn": partial(TripletGMPNN, triplet_dim=TRIPLET_DIM),
}


def part(record: Record, *prefix: str) -> Record:
    """What a record has under a prefix, without it."""
    start = "|".join([*prefix, ""])
    return {key.removeprefix(start): value for key, value in record.items() if key.startswith(start)}


def weights(record: Record) -> dict[str, Record]:
    """dm-clrs's weights as its tree."""
    tree: dict[str, Record] = {}
    for key, array in part(record, "params").items():
        module, entry = key.split("|")
        tree.setdefault(module, {})[entry] = array
    return tree


def feedback(record: Record, spec: Spec) -> Feedback[NumpyArray]:
    """The batch in our form."""
    features = Features(part(record, "inputs"), part(record, "hints"), record["lengths"])
    return compact(spec, Feedback(features, part(record, "outputs")))


@contextmanager
def our_noise_fixed() -> Iterator[None]:
    """Makes our model draw :func:`fixed_noise`."""

    def noise(like: Tensor) -> Tensor:
        return torch.from_numpy(fixed_noise(like.shape[-1])).to(like).expand_as(like)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(nar.model.decoders, "gumbel_noise", noise)
        yield


def our_model(case: Case) -> EncodeProcessDecode:
    """Our model of a case."""
    processor = PROCESSORS[case.kind](HIDDEN_DIM)
    return EncodeProcessDecode({case.algorithm: recipe_spec(case.algorithm)}, processor, **case.settings)


def our_results(case: Case, record: Record, precision: str) -> Record:
    """The keys of a record that are results, as our model with the record's weights has them in one precision."""
    torch.set_default_dtype(getattr(torch, precision))
    try:
        model = our_model(case)
        model.load_state_dict(from_haiku(weights(record), model))
        spec = recipe_spec(case.algorithm)
        batch = to_tensors(feedback(record, spec), spec)
        with our_noise_fixed():
            train = model.train()(case.algorithm, batch.features)
            by_probe = losses(spec, train, batch)
            torch.stack(list(by_probe.values())).sum().backward()
        with torch.no_grad():
            test = model.eval()(case.algorithm, batch.features)
    finally:
        torch.set_default_dtype(torch.float32)
    results: dict[str, Tensor] = {
        **_keyed("train|loss", by_probe),
        **_keyed("train|gradient", _gradients(model)),
        **_keyed("train|outputs", train.outputs),
        **_keyed("train|hints", _by_time(train)),
        **_keyed("test|outputs", test.outputs),
        **_keyed("test|hints", _by_time(test)),
    }
    results |= _keyed("predicted", in_dm_clrs(spec, definite(spec, test.outputs), record["inputs|pos"].shape[1]))
    by_output = scores(spec, counts(spec, test.outputs, batch.outputs))
    results |= _keyed("score", {name: torch.tensor(value) for name, value in by_output.items()})
    for name, score in hint_scores(spec, test, batch).items():
        results[f"hint_score|{name}"] = torch.tensor(score.mean)
        results[f"hint_score_by_time|{name}"] = torch.tensor(score.by_time)
    return {key: value.detach().numpy() for key, value in results.items()}


def in_dm_clrs(spec: Spec, predicted: Mapping[str, Tensor], num_nodes: int) -> dict[str, Tensor]:
    """Definite predictions in the form of dm-clrs: choices one-hot, but for pointers."""
    one_hot = (Type.MASK_ONE, Type.CATEGORICAL)
    return {
        name: dense(spec[name], value, num_nodes) if spec[name].type in one_hot else value
        for name, value in predicted.items()
    }


def _keyed(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}|{name}": value for name, value in values.items()}


def _gradients(model: EncodeProcessDecode) -> dict[str, Tensor]:
    """By dm-haiku's module and entry, in its layout; zero where there is none."""
    names = haiku_names(model)
    gradients = {}
    for name, parameter in model.named_parameters():
        module, entry = names[name]
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        gradients[f"{module}|{entry}"] = gradient.T if entry == "w" else gradient
    return gradients


def _by_time(predictions: Predictions) -> dict[str, Tensor]:
    """Hint logits [P, ...], in the order of time and then of graphs."""
    order = sorted(range(len(predictions.time)), key=lambda p: (predictions.time[p], predictions.graph[p]))
    return {name: logits[order] for name, logits in predictions.hints.items()}


def assert_equal(expected: Record, ours: Record, precision: str) -> None:
    """Fail, naming what differs and by how much, unless our results, computed in `precision`, are those of dm-clrs.

    The error of an array is its largest difference relative to its largest entry. Gradients that vanish but for
    rounding are measured by the largest gradient: see `SMALLEST_GRADIENT`. Impossible logits, of -1e6, only have to be
    so in both, and count for neither. What is predicted has to be the same.
    """
    results = {key: array for key, array in expected.items() if is_result(key)}
    assert set(ours) == set(results), sorted(set(ours) ^ set(results))
    largest = max(np.abs(x).max() for key, x in results.items() if key.startswith("train|gradient"))
    errors = {}
    for key, wanted in results.items():
        given = ours[key]
        assert given.shape == wanted.shape, (key, given.shape, wanted.shape)
        if "|outputs|" in key or "|hints|" in key:
            possible = wanted > IMPOSSIBLE
            assert ((given > IMPOSSIBLE) == possible).all(), key
            given, wanted = given[possible], wanted[possible]
        scale = np.abs(wanted).max(initial=0)
        if "|gradient|" in key:
            scale = max(scale, SMALLEST_GRADIENT[precision] * largest)
        error = np.abs(given - wanted).max(initial=0) / (scale or 1)
        if not error <= (0 if key.startswith("predicted") else TOLERANCES[precision]):
            errors[key] = error
    assert not errors, errors


def is_result(key: str) -> bool:
    """Whether a key of a record is a result, and not a weight or data."""
    return key.split("|")[0] in ("train", "test", "predicted", "score", "hint_score", "hint_score_by_time")


def our_moments(case: Case, num_draws: int) -> Record:
    """The moments of every parameter at the start, over many draws (see `moments`)."""
    models = [our_model(case) for _ in range(num_draws)]
    draws: dict[str, list[NumpyArray]] = {}
    for model in models:
        for module, entries in to_haiku(model).items():
            for entry, array in entries.items():
                draws.setdefault(f"{module}|{entry}", []).append(array)
    return {key: moments(np.stack(arrays)) for key, arrays in draws.items()}


def assert_initialised_alike(expected: Record, ours: Record) -> None:
    """Fail, naming the parameters, unless moments agree to within five standard errors and the ranges to 3 %."""
    assert set(ours) == set(expected), sorted(set(ours) ^ set(expected))
    wrong = {}
    for key, (n, mean, variance, fourth, highest) in expected.items():
        our_n, our_mean, our_variance, _, our_highest = ours[key]
        portion = 1 / n + 1 / our_n
        errors = {
            "mean": abs(our_mean - mean) - 5 * (variance * portion) ** 0.5,
            "variance": abs(our_variance - variance) - 5 * ((fourth - variance**2) * portion) ** 0.5,
            "largest": abs(our_highest - highest) - 0.03 * highest,
        }
        if any(error > 1e-6 for error in errors.values()):
            wrong[key] = expected[key], ours[key]
    assert not wrong, wrong
