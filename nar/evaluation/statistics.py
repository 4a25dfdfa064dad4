"""Scores of a set of instances, and how far they would be from others of as many instances.

Sources: ``clrs/_src/evaluation.py`` of dm-clrs 2.0.3 (scores); Efron & Tibshirani, "An Introduction to the Bootstrap",
1993 (percentile intervals, chapter 13; paired tests, chapter 16); Holm, "A Simple Sequentially Rejective Multiple Test
Procedure", 1979.
"""
# Axes: B instances, R resamples. Counts are [..., 3], as nar.model.metrics.counts has them.

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nar.batch import NumpyArray
from nar.model.metrics import pooled_score
from nar.specs import Spec, Type

_NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A score of some instances.

    Attributes:
        score: Of these.
        low: Where the interval begins that covers the score of all instances in 95 % of such samples.
        high: Where it ends.
    """

    score: float
    low: float
    high: float


def is_exact(spec: Spec, counts: Mapping[str, NumpyArray]) -> NumpyArray:
    """Whether an instance has nothing wrong in any probe but scalars, which are never met exactly, [B].

    Args:
        spec: The algorithm's probes.
        counts: Of each instance by probe, [B, 3].
    """
    right = []
    for name, (a, b, c) in ((name, np.moveaxis(value, -1, 0)) for name, value in counts.items()):
        if spec[name].type is Type.MASK:
            right.append((b == 0) & (c == 0))
        elif spec[name].type is not Type.SCALAR:
            right.append(a == b)
    return np.logical_and.reduce(right) if right else np.zeros(0, dtype=bool)


def resampling_weights(num_instances: int, seed: int = 0, num_resamples: int = _NUM_RESAMPLES) -> NumpyArray:
    """How often each resample of a bootstrap has each instance, [R, B]; the same for equal arguments."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_instances, np.full(num_instances, 1 / num_instances), size=num_resamples)


def estimates(spec: Spec, counts: Mapping[str, NumpyArray], weights: NumpyArray) -> dict[str, Estimate]:
    """The score of each probe and, as ``"score"``, their mean; with bootstrap intervals over instances.

    Args:
        spec: The algorithm's probes.
        counts: Of each instance by probe, [B, 3].
        weights: Of :func:`resampling_weights`.
    """
    scores = {name: pooled_score(spec[name].type, value.sum(axis=0)) for name, value in counts.items()}
    resampled = {name: pooled_score(spec[name].type, weights @ value) for name, value in counts.items()}
    scores["score"] = np.asarray(np.mean(list(scores.values())))
    resampled["score"] = np.mean(list(resampled.values()), axis=0)
    return {name: _estimate(float(score), resampled[name]) for name, score in scores.items()}


def share_of(instances: NumpyArray, weights: NumpyArray) -> Estimate:
    """The mean of a value over instances, with its bootstrap interval.

    Args:
        instances: A value of each, [B].
        weights: Of :func:`resampling_weights`.
    """
    values = instances.astype(np.float64)
    return _estimate(float(values.mean()), weights @ values / len(values))


def _estimate(score: float, resampled: NumpyArray) -> Estimate:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail]) if np.isfinite(resampled).any() else (np.nan, np.nan)
    return Estimate(score, float(low), float(high))


def paired_p_value(difference: float, resampled: NumpyArray) -> float:
    """How often a difference at least as large would be seen if there were none: a two-sided paired bootstrap test.

    Resampled differences are moved to have their mean at 0, where the hypothesis that is tested has it.

    Args:
        difference: That of the instances themselves.
        resampled: Of resamples, each instance beside its own, [R].
    """
    centred = np.abs(resampled - resampled.mean())
    return float((1 + np.count_nonzero(centred >= abs(difference) - 1e-12)) / (1 + len(resampled)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of tests that are made together, such that any of them is wrongly below a level as seldom as one."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
