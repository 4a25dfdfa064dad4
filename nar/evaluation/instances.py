"""What a model got right of each instance of a split: the counts of which every score is made."""
# Axes: B instances, T time.

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nar.batch import Batch, Feedback, NumpyArray, size_of
from nar.datasets import Algorithm
from nar.datasets.clrs30.families import on_family
from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.engine.arguments import random_state
from nar.datasets.splits.cache import Cache
from nar.datasets.splits.splits import TEST_SEED, Split, SplitBatches, draw
from nar.inference.drawn import is_valid
from nar.model.evaluating import is_out_of_memory
from nar.model.metrics import counts_by_graph, definite, fuse_permutations
from nar.model.unroll import EncodeProcessDecode, Predictions
from nar.specs import MASKED, Spec, Type

NEVER = -1
"""Stands for the time at which predicted hints part from the true ones, where they never do."""
STATES_IN_A_BATCH = 2**22
"""Entries of edge states, over the hidden dimension, that a batch may have: 256 MiB at 16 numbers each."""


class Question(NamedTuple):
    """A set of instances of one algorithm.

    Attributes:
        algorithm: Its name, or one of a user's own.
        num_nodes: As asked of the sampler: string matchers have 5/4 of a test's size.
        family: Of its graphs; None for those of dm-clrs.
        family_args: The family's parameters.
        num_samples: How many; None for the official number.
        with_hints: Whether whole trajectories are drawn, so that hints are scored.
    """

    algorithm: str | Algorithm
    num_nodes: int
    family: str | None = None
    family_args: Mapping[str, int | float] = {}
    num_samples: int | None = None
    with_hints: bool = False

    def draw(self, cache: Cache) -> tuple[Split, Feedback[NumpyArray]]:
        """The instances, those of the official test split first; from the cache if it may have them."""
        split = Split(self.algorithm, self.num_nodes, True, "nar", self.family, self.family_args)
        if self.num_samples is None and not self.with_hints:
            return split, split.load(cache)
        args: dict[str, Any] = {} if self.family is None else {"graphs": self.family, **self.family_args}
        number = split.num_samples if self.num_samples is None else self.num_samples
        args |= {"num_nodes": self.num_nodes, "num_samples": number, "seed": TEST_SEED}
        return split, draw(split.algorithm, "nar", hints="all" if self.with_hints else "first", **args)

    def drawn(self) -> list[tuple[Any, ...]]:
        """What the sampler draws of each instance; nothing of an algorithm of a user's own."""
        split = Split(self.algorithm, self.num_nodes, True)
        if not isinstance(split.algorithm, KnownAlgorithm):
            return []
        sampler = split.algorithm if self.family is None else on_family(split.algorithm, self.family)
        number = split.num_samples if self.num_samples is None else self.num_samples
        rng = random_state(TEST_SEED)
        return [sampler.draw(rng, self.num_nodes, **self.family_args) for _ in range(number)]


class Marks(NamedTuple):
    """The counts of what a model got right of every instance.

    Attributes:
        outputs: Counts by output, [B, 3].
        hints: Counts by hint, [T, B, 3], from time 1 on; nothing unless whole trajectories were drawn.
        parted: The first time at which a predicted hint is not the true one, :data:`NEVER` if there is none, [B].
        chance: What each output would score if it were guessed knowing nothing but how often there is something.
        valid: Whether the outputs are a right answer, be it the classical algorithm's or another, [B]; [0] if that is
            not known.
    """

    outputs: dict[str, NumpyArray]
    hints: dict[str, NumpyArray]
    parted: NumpyArray
    chance: dict[str, float]
    valid: NumpyArray

    @classmethod
    def of_outputs(cls, outputs: dict[str, NumpyArray]) -> "Marks":
        """The marks of which nothing is known but the counts of outputs."""
        number = len(next(iter(outputs.values())))
        return cls(outputs, {}, np.full(number, NEVER), {}, np.zeros(0, dtype=bool))

    def arrays(self) -> dict[str, NumpyArray]:
        """All counts and chances as arrays, each under one name, for a file."""
        return {
            **{f"output/{name}": value for name, value in self.outputs.items()},
            **{f"hint/{name}": value for name, value in self.hints.items()},
            **{f"chance/{name}": np.asarray(value) for name, value in self.chance.items()},
            "parted": self.parted,
            "valid": self.valid,
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NumpyArray]) -> "Marks":
        """The marks whose :meth:`arrays` were written into a file."""

        def group(kind: str) -> dict[str, NumpyArray]:
            return {name.removeprefix(kind): value for name, value in arrays.items() if name.startswith(kind)}

        chance = {name: float(value) for name, value in group("chance/").items()}
        return cls(group("output/"), group("hint/"), arrays["parted"], chance, arrays["valid"])


def mark(
    model: EncodeProcessDecode,
    spec: Spec,
    split: Split,
    feedback: Feedback[NumpyArray],
    device: torch.device,
    drawn: Sequence[tuple[Any, ...]] = (),
) -> Marks:
    """What the model gets right of some instances; the same whatever the batches are that it is given.

    Where a batch does not fit into memory, smaller ones are tried.

    Args:
        model: In evaluation mode, on `device`.
        spec: The algorithm's probes.
        split: Whose instances they are.
        feedback: The instances; with more than one hint, hints are scored too.
        device: To compute on.
        drawn: What the sampler drew of each instance, by which answers are checked; nothing if they are not.
    """
    batch_size = max(1, min(64, STATES_IN_A_BATCH // split.num_nodes**2))
    while True:
        batches = SplitBatches([(split, feedback)], batch_size)
        try:
            return _joined(spec, list(_marked(model, spec, batches, device)), split, feedback, drawn)
        except (MemoryError, RuntimeError) as error:
            if batch_size == 1 or not is_out_of_memory(error):
                raise
            batch_size //= 2


class _Part(NamedTuple):
    """The counts of outputs and of hints of a batch, when hints part, and the definite outputs."""

    outputs: dict[str, NumpyArray]
    hints: dict[str, NumpyArray]
    parted: NumpyArray
    answers: dict[str, NumpyArray]


def _marked(model: EncodeProcessDecode, spec: Spec, batches: SplitBatches, device: torch.device) -> Iterator[_Part]:
    """What is counted, batch by batch."""
    with torch.inference_mode():
        for index in range(len(batches)):
            batch: Batch = batches[index]
            feedback = batch.feedback.map(lambda x: x.to(device))
            has_hints = bool(feedback.features.hints) and len(next(iter(feedback.features.hints.values()))) > 1
            predictions: Predictions = model(batch.algorithm, feedback.features, with_hints=has_hints)
            outputs = counts_by_graph(spec, predictions.outputs, feedback.outputs)
            hints, parted = _marked_hints(spec, predictions, feedback) if has_hints else ({}, None)
            answers = definite(spec, predictions.outputs)
            yield _Part(
                {name: value.cpu().numpy() for name, value in outputs.items()},
                hints,
                np.full(len(feedback.features.lengths), NEVER) if parted is None else parted,
                {name: value.cpu().numpy() for name, value in answers.items()},
            )


def _marked_hints(
    spec: Spec, predictions: Predictions, feedback: Feedback[Tensor]
) -> tuple[dict[str, NumpyArray], NumpyArray]:
    """Counts by hint, [T, B, 3], and the first time at which one of them is wrong, [B]."""
    time, graph = predictions.time, predictions.graph
    truth = {name: feedback.features.hints[name][time, graph] for name in predictions.hints}
    by_pair = counts_by_graph(spec, predictions.hints, truth)
    num_times, num_graphs = int(feedback.features.lengths.max()), len(feedback.features.lengths)
    hints, wrong = {}, np.zeros((num_times, num_graphs), dtype=bool)
    at, of = time.cpu().numpy() - 1, graph.cpu().numpy()
    for name, value in by_pair.items():
        counts = value.cpu().numpy()
        hints[name] = np.zeros((max(1, num_times - 1), num_graphs, 3), dtype=counts.dtype)
        hints[name][at, of] = counts
        if spec[name].type is Type.MASK:
            wrong[at, of] |= counts[:, 1:].any(axis=-1)
        elif spec[name].type is not Type.SCALAR:
            wrong[at, of] |= counts[:, 0] < counts[:, 1]
    return hints, np.where(wrong.any(axis=0), wrong.argmax(axis=0) + 1, NEVER)


def _joined(
    spec: Spec, parts: list[_Part], split: Split, feedback: Feedback[NumpyArray], drawn: Sequence[tuple[Any, ...]]
) -> Marks:
    """The marks of all batches in the order of the instances."""
    outputs = {name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs}
    num_times = max((len(value) for part in parts for value in part.hints.values()), default=0)

    def padded(value: NumpyArray) -> NumpyArray:
        return np.pad(value, ((0, num_times - len(value)), (0, 0), (0, 0)))

    hints = {name: np.concatenate([padded(part.hints[name]) for part in parts], axis=1) for name in parts[0].hints}
    parted = np.concatenate([part.parted for part in parts])
    answers = {name: np.concatenate([part.answers[name] for part in parts]) for name in parts[0].answers}
    by_chance = chance(spec, feedback.outputs, size_of(spec, feedback.features.inputs))
    return Marks(outputs, hints, parted, by_chance, _valid(spec, split, feedback, answers, drawn))


def _valid(
    spec: Spec,
    split: Split,
    feedback: Feedback[NumpyArray],
    answers: Mapping[str, NumpyArray],
    drawn: Sequence[tuple[Any, ...]],
) -> NumpyArray:
    """Whether each answer is a right one, [B]; [0] if nothing that was drawn is given."""
    truth = fuse_permutations(spec, {name: torch.as_tensor(value) for name, value in feedback.outputs.items()})
    return np.array(
        [
            is_valid(
                split.algorithm,
                spec,
                values,
                {name: answer[row] for name, answer in answers.items()},
                {name: value[row].numpy() for name, value in truth.items()},
            )
            for row, values in enumerate(drawn)
            if isinstance(split.algorithm, KnownAlgorithm)
        ],
        dtype=bool,
    )


def chance(spec: Spec, outputs: Mapping[str, NumpyArray], num_nodes: int) -> dict[str, float]:
    """What each output scores in expectation if it is guessed without a look at the input; scalars have no such score.

    One of N nodes or of C classes is guessed; of a mask, that it holds everywhere.

    Args:
        spec: The algorithm's probes.
        outputs: True ones, [B, ...].
        num_nodes: N.
    """
    levels = {}
    tensors = {name: torch.as_tensor(value) for name, value in outputs.items()}
    for name, value in fuse_permutations(spec, tensors).items():
        match spec[name].type:
            case Type.MASK:
                scored = value[value != MASKED]
                share = float((scored > 0.5).double().mean()) if scored.numel() else 0.0
                levels[name] = 2 * share / (1 + share)
            case Type.CATEGORICAL:
                levels[name] = 1 / spec[name].num_classes
            case Type.POINTER | Type.PERMUTATION_POINTER | Type.MASK_ONE:
                levels[name] = 1 / num_nodes
    return levels
