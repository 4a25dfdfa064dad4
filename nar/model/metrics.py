"""Scores of predicted outputs, pooled over a whole split, and of hints.

Source: ``clrs/_src/evaluation.py`` of dm-clrs 2.0.3.
"""

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nar.batch import Feedback, NumpyArray
from nar.model.decoders import predicted_value
from nar.model.unroll import Predictions
from nar.specs import MASKED, Spec, Type


def definite(spec: Spec, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Definite predictions from logits, a permutation and its first node being fused into pointers (a chain).

    Args:
        spec: The algorithm's probes.
        logits: By probe name, of all outputs or of all hints.
    """
    return fuse_permutations(spec, {name: predicted_value(spec[name], value) for name, value in logits.items()})


def fuse_permutations(spec: Spec, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`outputs` in which the first node of every permutation [..., N] points at itself, and is no output any more."""
    fused = {}
    for name, value in outputs.items():
        if spec[name].type is Type.PERMUTATION_POINTER:
            first = outputs[f"{name}_mask"][..., None].long()
            fused[name] = value.long().scatter(-1, first, first)
        elif not _is_mask_of_permutation(spec, name):
            fused[name] = value
    return fused


def _is_mask_of_permutation(spec: Spec, name: str) -> bool:
    owner = spec.get(name.removesuffix("_mask"))
    return name.endswith("_mask") and owner is not None and owner.type is Type.PERMUTATION_POINTER


def counts(spec: Spec, logits: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The three numbers that each probe's score is made of, int64 or float [3]; those of several batches may be added.

    True positives, false positives and false negatives of a mask; the number of right entries, of all, and 0 for
    pointers, categorical and mask_one; the sum of squared errors, the number of entries, and 0 for a scalar.

    Args:
        spec: The algorithm's probes.
        logits: By probe name, of all outputs or of all hints.
        truth: The data of the same probes.
    """
    return {name: count.sum(dim=0) for name, count in counts_by_graph(spec, logits, truth).items()}


def counts_by_graph(spec: Spec, logits: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`counts` adds up, of each graph on its own, [B, 3]."""
    predicted = definite(spec, logits)
    return {
        name: _counts(spec[name].type, predicted[name], true) for name, true in fuse_permutations(spec, truth).items()
    }


def _counts(type_: Type, predicted: Tensor, truth: Tensor) -> Tensor:
    def total(terms: Tensor) -> Tensor:
        return terms.reshape(len(truth), prod(truth.shape[1:])).sum(dim=1)

    match type_:
        case Type.MASK:
            scored = truth != MASKED
            positive, true = predicted > 0.5, truth > 0.5
            terms = [positive & true, positive & ~true, ~positive & true]
            return torch.stack([total(term & scored) for term in terms], dim=1)
        case Type.SCALAR:
            error = total((predicted - truth).double().square())
            numbers = total(torch.ones_like(truth, dtype=torch.double))
            return torch.stack([error, numbers, torch.zeros_like(error)], dim=1)
    scored = truth != MASKED
    right = total((predicted == truth) & scored)
    return torch.stack([right, total(scored), torch.zeros_like(right)], dim=1)


def scores(spec: Spec, counts: Mapping[str, Tensor]) -> dict[str, float]:
    """The score of each probe, and under ``"score"`` their mean, as dm-clrs reports it of outputs.

    F1 of masks, 1 if nothing was to be found and nothing was; accuracy of pointers, categorical and mask_one; mean
    squared error of scalars.

    Args:
        spec: The algorithm's probes.
        counts: From :func:`counts`, added over batches.
    """
    by_probe = {name: float(pooled_score(spec[name].type, count.cpu().numpy())) for name, count in counts.items()}
    return by_probe | {"score": sum(by_probe.values()) / len(by_probe)}


def pooled_score(kind: Type, counts: NumpyArray) -> NumpyArray:
    """The score that counts stand for, as dm-clrs has it, [...], in float64.

    F1 of masks; the share of right entries of pointers, categorical and mask_one; the mean squared error of scalars.

    Args:
        kind: The type of the probe.
        counts: Added over instances, [..., 3].
    """
    a, b, c = np.moveaxis(counts.astype(np.float64), -1, 0)
    if kind is Type.MASK:
        precision, recall = _share(a, a + b, 1.0), _share(a, a + c, 1.0)
        return _share(2 * precision * recall, precision + recall, 0.0)
    return _share(a, b, np.nan)


def _share(part: NumpyArray, whole: NumpyArray, of_nothing: float) -> NumpyArray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), of_nothing)


class HintScore(NamedTuple):
    """How well a hint is predicted: as outputs are scored, by time and on the average.

    Attributes:
        mean: Over time, weighted by the number of graphs that still run.
        by_time: At times 1, 2, ..., each pooled over the graphs that still run.
    """

    mean: float
    by_time: list[float]


def hint_scores(spec: Spec, predictions: Predictions, feedback: Feedback[Tensor]) -> dict[str, HintScore]:
    """The score of each predicted hint that the trajectories have more than one of.

    Args:
        spec: The algorithm's probes.
        predictions: What the model made of ``feedback.features``.
        feedback: The true hints.

    Source:
        ``evaluate_hints`` in ``clrs/_src/evaluation.py`` of dm-clrs 2.0.3.
    """
    by_time: dict[str, list[float]] = {name: [] for name in predictions.hints}
    num_graphs = predictions.time.bincount()[1:].tolist() if by_time else []
    for time in range(1, len(num_graphs) + 1):
        now = predictions.time == time
        logits = {name: hint[now] for name, hint in predictions.hints.items()}
        truth = {name: feedback.features.hints[name][time, predictions.graph[now]] for name in logits}
        by_probe = scores(spec, counts(spec, logits, truth))
        for name, values in by_time.items():
            values.append(by_probe[name])
    weights = [number / sum(num_graphs) for number in num_graphs]
    return {
        name: HintScore(sum(w * x for w, x in zip(weights, values, strict=True)), values)
        for name, values in by_time.items()
        if values
    }
