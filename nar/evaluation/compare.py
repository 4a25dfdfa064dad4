"""Two checkpoints compared instance by instance, with a test that says which differences are more than chance.

Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 16; Holm, 1979 (see
:mod:`nar.evaluation.statistics`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nar.batch import NumpyArray
from nar.errors import UserError
from nar.evaluation.instances import Marks
from nar.evaluation.run import FAMILY_OF_DM_CLRS, Evaluation
from nar.evaluation.statistics import (
    CONFIDENCE,
    Estimate,
    holm,
    is_exact,
    paired_p_value,
    resampling_weights,
)
from nar.model.metrics import pooled_score
from nar.specs import Spec

TEST = "paired bootstrap test of the difference of scores, two-sided, p-values by Holm's method"


class Difference(NamedTuple):
    """How a second model differs from a first on the same instances.

    Attributes:
        algorithm: By name.
        size: In nodes (string matchers have 5/4 as many).
        family: Of graphs.
        first: The first's score.
        second: The second's.
        difference: The second's less the first's, with its interval over instances.
        better: On how many instances the second alone is exact.
        worse: On how many the first alone is.
        num_samples: Of how many.
        p_value: Of no difference, after Holm's method over all rows.
    """

    algorithm: str
    size: int
    family: str
    first: float
    second: float
    difference: Estimate
    better: int
    worse: int
    num_samples: int
    p_value: float

    @property
    def is_significant(self) -> bool:
        """Whether a difference as large would be seen in less than 5 % of such comparisons if there were none."""
        return self.p_value < 1 - CONFIDENCE


def compare(evaluation: Evaluation, first: str, second: str) -> list[Difference]:
    """The differences of two checkpoints at every algorithm, size and family that both were evaluated at.

    Args:
        evaluation: Of both, on the same instances.
        first: The path of a checkpoint.
        second: That of the other.

    Raises:
        UserError: If they have nothing in common.
    """
    by_key = {
        path: {
            (unit.algorithm, unit.size, unit.family): marks
            for unit, marks in evaluation.marks.items()
            if unit.subject.checkpoint == path
        }
        for path in (first, second)
    }
    keys = [key for key in by_key[first] if key in by_key[second]]
    if not keys:
        raise UserError(f"expected checkpoints that know an algorithm in common, given {first} and {second}")
    rows = [_difference(evaluation.specs[key[0]], key, by_key[first][key], by_key[second][key]) for key in keys]
    adjusted = holm([row.p_value for row in rows])
    return [row._replace(p_value=value) for row, value in zip(rows, adjusted, strict=True)]


def _difference(spec: Spec, key: tuple[str, int, str], first: Marks, second: Marks) -> Difference:
    number = len(first.parted)
    weights = resampling_weights(number)
    own, others = (_score(spec, marks.outputs, np.ones((1, number))) for marks in (first, second))
    resampled = _score(spec, second.outputs, weights) - _score(spec, first.outputs, weights)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    difference = float(others[0] - own[0])
    exact, exact_second = is_exact(spec, first.outputs), is_exact(spec, second.outputs)
    return Difference(
        *key,
        first=float(own[0]),
        second=float(others[0]),
        difference=Estimate(difference, float(low), float(high)),
        better=int((exact_second & ~exact).sum()),
        worse=int((exact & ~exact_second).sum()),
        num_samples=number,
        p_value=paired_p_value(difference, resampled),
    )


def _score(spec: Spec, counts: Mapping[str, NumpyArray], weights: NumpyArray) -> NumpyArray:
    """The mean over outputs of each resample, [R]."""
    by_output = [pooled_score(spec[name].type, weights @ value) for name, value in counts.items()]
    return np.asarray(np.mean(by_output, axis=0))


def markdown(differences: Sequence[Difference], first: str, second: str) -> Iterator[str]:
    """A table in Markdown, significant differences in bold type."""
    yield f"A: {first}"
    yield f"B: {second}"
    yield ""
    yield "| algorithm | n | A | B | B - A | 95 % interval | exact in B alone / A alone | p |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in differences:
        low, high = 100 * row.difference.low, 100 * row.difference.high
        mark = "**" if row.is_significant else ""
        name = row.algorithm if row.family == FAMILY_OF_DM_CLRS else f"{row.algorithm} ({row.family})"
        yield (
            f"| {name} | {row.size} | {100 * row.first:.1f} | {100 * row.second:.1f} "
            f"| {mark}{100 * row.difference.score:+.1f}{mark} | [{low:+.1f}, {high:+.1f}] "
            f"| {row.better} / {row.worse} of {row.num_samples} | {row.p_value:.3g} |"
        )
    yield ""
    number = sum(row.is_significant for row in differences)
    yield f"{number} of {len(differences)} differences (in bold) are significant at the level of 5 %: {TEST}."
