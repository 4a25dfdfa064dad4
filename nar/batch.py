"""Trajectories in batches, as arrays or as tensors.

Source: ``Features`` and ``Feedback`` of ``clrs/_src/samplers.py`` in dm-clrs 2.0.3, with dicts in place of tuples.
"""
# Axes: B graphs, T time, G graphs of some texts.

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from nar.specs import Location, Spec, Type

Array = TypeVar("Array")
NumpyArray = np.ndarray[Any, np.dtype[Any]]


class Features(NamedTuple, Generic[Array]):
    """What a model may see of a batch of trajectories.

    Attributes:
        inputs: By probe name, [B, ...].
        hints: By probe name, [T, B, ...], padded with zeros after a sample's own end.
        lengths: Each sample's own number of hints, [B].
    """

    inputs: Mapping[str, Array]
    hints: Mapping[str, Array]
    lengths: Array


class Feedback(NamedTuple, Generic[Array]):
    """A batch of trajectories: the features and the outputs by probe name, [B, ...]."""

    features: Features[Array]
    outputs: Mapping[str, Array]


class Batch(NamedTuple):
    """A batch of one algorithm's trajectories as it reaches the model.

    Attributes:
        algorithm: The algorithm's name.
        num_nodes: The size that was asked of the sampler.
        seed: Of the noise that a training step draws.
        feedback: The trajectories.
        ended: Whether each trajectory is there up to its end, where its outputs are, [B]; None if all are.
    """

    algorithm: str
    num_nodes: int
    seed: int
    feedback: Feedback[Tensor]
    ended: Tensor | None = None

    def some(self, rows: Tensor) -> "Batch":
        """Those trajectories, with hints up to the end of their longest."""
        (inputs, hints, lengths), outputs = self.feedback
        longest = int(lengths[rows].max())
        features = Features(
            {name: data[rows] for name, data in inputs.items()},
            {name: data[:longest, rows] for name, data in hints.items()},
            lengths[rows],
        )
        feedback = Feedback(features, {name: data[rows] for name, data in outputs.items()})
        return self._replace(feedback=feedback, ended=None if self.ended is None else self.ended[rows])


class Graphs(NamedTuple):
    """Those graphs of a batch of texts that are of one algorithm and one size, in tensors.

    Attributes:
        algorithm: The algorithm's name.
        rows: Which texts of the batch these are the graphs of, in order.
        features: Of the graphs, in the same order; of hints, the first is enough.
    """

    algorithm: str
    rows: tuple[int, ...]
    features: Features[Tensor]


NOT_SCORED = -100
"""The label of a token that no loss is of, as transformers has it."""


class TextBatch(NamedTuple):
    """Texts as they reach a language model, each with its graph.

    Attributes:
        seed: Of what a training step draws.
        keys: Each text's algorithm and size.
        input_ids: Prompt, answer and end, padded on the right, [B, L].
        attention_mask: 1 at tokens, 0 at padding, [B, L].
        labels: The tokens that the loss is of; :data:`NOT_SCORED` elsewhere, [B, L].
        graphs: Of the texts.
        prompts: The texts' own, where they are to be answered; else nothing.
        answers: The same of true answers.
    """

    seed: int
    keys: tuple[tuple[str, int], ...]
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    graphs: list[Graphs]
    prompts: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


def grouped(graphs: Sequence[tuple[str, Features[Tensor]]]) -> list[Graphs]:
    """The graphs of a batch of texts by algorithm and size, with their first hints.

    Args:
        graphs: For each text the algorithm's name and the features of its graph, a batch of one.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for row, (algorithm, features) in enumerate(graphs):
        groups[algorithm, *((name, data.shape) for name, data in features.inputs.items())].append(row)
    return [Graphs(key[0], tuple(rows), _joined([graphs[row][1] for row in rows])) for key, rows in groups.items()]


def _joined(features: Sequence[Features[Tensor]]) -> Features[Tensor]:
    """One batch of several, with their first hints."""
    inputs = {name: torch.cat([one.inputs[name] for one in features]) for name in features[0].inputs}
    hints = {name: torch.cat([one.hints[name][:1] for one in features], dim=1) for name in features[0].hints}
    return Features(inputs, hints, torch.cat([one.lengths for one in features]))


def size_of(spec: Spec, inputs: Mapping[str, Any]) -> int:
    """N, from the first input that has a node axis."""
    return next(
        int(data.shape[1])
        for name, data in inputs.items()
        if spec[name].location is not Location.GRAPH and spec[name].type is not Type.MASK_ONE
    )


def to_tensors(feedback: Feedback[NumpyArray], spec: Spec) -> Feedback[Tensor]:
    """The same trajectories as tensors: scalars in torch's default dtype, lengths as int64, all else as compact as it
    is: the device widens it (see :func:`nar.model.encoders.dense`).
    """

    def convert(probes: Mapping[str, NumpyArray]) -> dict[str, Tensor]:
        return {
            name: torch.as_tensor(data, dtype=torch.get_default_dtype() if spec[name].type is Type.SCALAR else None)
            for name, data in probes.items()
        }

    (inputs, hints, lengths), outputs = feedback
    features = Features(convert(inputs), convert(hints), torch.as_tensor(lengths).to(torch.int64))
    return Feedback(features, convert(outputs))
