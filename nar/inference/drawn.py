"""What samplers draw, as instances of a user's, on which answers can be checked."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nar.batch import NumpyArray
from nar.datasets.clrs30.known import KnownAlgorithm
from nar.inference.answers import Prediction
from nar.inference.instances import Options, read_instance
from nar.inference.reasoning import ANSWERS
from nar.specs import Spec


def own_form(algorithm: str, drawn: tuple[Any, ...]) -> tuple[Any, dict[str, Any]]:
    """What a sampler drew, as a user would give it to :func:`nar.inference.run`: the data, and the options by name."""
    match algorithm, drawn:
        case "binary_search", (target, keys):
            return keys, {"target": target}
        case "lcs_length" | "optimal_bst" | "kmp_matcher" | "naive_string_matcher", (first, second):
            return (first.tolist(), second.tolist()), {}
        case _, (weights, int(source)):
            return weights, {"source": source}
        case _, (first, second):
            return np.stack([first, second], axis=1), {}
    return drawn[0], {}


def is_valid(
    algorithm: KnownAlgorithm,
    spec: Spec,
    drawn: tuple[Any, ...],
    outputs: Mapping[str, NumpyArray],
    truth: Mapping[str, NumpyArray],
) -> bool:
    """Whether outputs are a right answer on what a sampler drew, be it the classical algorithm's or another.

    Args:
        algorithm: One of CLRS-30.
        spec: Its probes as the model has them.
        drawn: What its sampler drew.
        outputs: Predicted ones by name, with nodes as numbers.
        truth: Those of the classical algorithm.
    """
    data, options = own_form(algorithm.name, drawn)
    instance = read_instance(algorithm, data, Options(**options))
    prediction = Prediction(outputs, confidence={}, hints={}, num_steps=0, stopped_by="classical")
    return ANSWERS[algorithm.name](instance, spec, prediction, truth).check().right
