"""Trajectories in batches, as arrays or as tensors.

Source: ``Features`` and ``Feedback`` of ``clrs/_src/samplers.py`` in dm-clrs 2.0.3, with dicts in place of tuples.
"""
# Axes: B graphs, T time, G graphs of some texts.

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from nar.specs import Location, Spec, Type

Array = TypeVar("Array")
Other = TypeVar("Other")
Number = TypeVar("Number", int, Tensor)
NumpyArray = np.ndarray[Any, np.dtype[Any]]

Key = tuple[str, int]
"""An algorithm's name and the size asked of its sampler: by what scores are kept."""


def num_steps_of(lengths: Number) -> Number:
    """The number of steps, max(1, T - 1), that a model takes for a trajectory of T hints; one, or of each, [B]."""
    return (lengths - 1).clamp(min=1) if isinstance(lengths, Tensor) else max(1, lengths - 1)


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

    def map(self, change: Callable[[Array], Other]) -> "Features[Other]":
        """The features with every array, the lengths too, replaced by what `change` makes of it."""
        return Features(_mapped(change, self.inputs), _mapped(change, self.hints), change(self.lengths))

    def to(self, device: torch.device) -> "Features[Array]":
        """The features, which are tensors, on a device."""
        move: Callable[[Any], Any] = lambda data: data.to(device)  # noqa: E731 (NumPy's arrays cannot)
        return self.map(move)

    def select(self: "Features[Any]", rows: Any) -> "Features[Any]":
        """The features of some samples, a slice of them or their indices, without padding that only others needed."""
        lengths = self.lengths[rows]
        longest = max(lengths.tolist(), default=1)
        hints = _mapped(lambda data: data[:longest, rows], self.hints)
        return Features(_mapped(lambda data: data[rows], self.inputs), hints, lengths)

    def first_hints(self: "Features[Any]") -> "Features[Any]":
        """The features without the hints after the first."""
        return self._replace(hints=_mapped(lambda data: data[:1], self.hints))


class Feedback(NamedTuple, Generic[Array]):
    """A batch of trajectories: the features and the outputs by probe name, [B, ...]."""

    features: Features[Array]
    outputs: Mapping[str, Array]

    def map(self, change: Callable[[Array], Other]) -> "Feedback[Other]":
        """The trajectories with every array, the lengths too, replaced by what `change` makes of it."""
        return Feedback(self.features.map(change), _mapped(change, self.outputs))

    def map_probes(self, change: Callable[[str, Array], Array]) -> "Feedback[Array]":
        """The trajectories with the data of every probe replaced by what `change` makes of its name and them."""
        inputs, hints, outputs = (
            {name: change(name, data) for name, data in probes.items()}
            for probes in (self.features.inputs, self.features.hints, self.outputs)
        )
        return Feedback(self.features._replace(inputs=inputs, hints=hints), outputs)

    def select(self: "Feedback[Any]", rows: Any) -> "Feedback[Any]":
        """Some of the trajectories (see :meth:`Features.select`)."""
        return Feedback(self.features.select(rows), _mapped(lambda data: data[rows], self.outputs))

    def arrays(self) -> Iterator[Array]:
        """Every array: those of inputs, hints and outputs, and the lengths."""
        for probes in (self.features.inputs, self.features.hints, self.outputs):
            yield from probes.values()
        yield self.features.lengths


def _mapped(change: Callable[[Array], Other], probes: Mapping[str, Array]) -> dict[str, Other]:
    return {name: change(data) for name, data in probes.items()}


def join(parts: Sequence[Feedback[Any]]) -> Feedback[Any]:
    """The trajectories of several batches of one algorithm and size, in arrays or in tensors, as one batch."""
    features = [part.features for part in parts]
    array = torch if isinstance(features[0].lengths, Tensor) else np
    longest = max(len(hint) for one in features for hint in [*one.hints.values(), ()])

    def padded(hint: Any) -> Any:
        rest = longest - len(hint)
        return array.concatenate([hint, array.zeros((rest, *hint.shape[1:]), dtype=hint.dtype)]) if rest else hint

    def joined(stages: Sequence[Mapping[str, Any]], axis: int = 0) -> dict[str, Any]:
        return {name: array.concatenate([stage[name] for stage in stages], axis) for name in stages[0]}

    hints = joined([_mapped(padded, one.hints) for one in features], axis=1)
    lengths = array.concatenate([one.lengths for one in features])
    inputs, outputs = joined([one.inputs for one in features]), joined([part.outputs for part in parts])
    return Feedback(Features(inputs, hints, lengths), outputs)


class Batch(NamedTuple):
    """A batch of one algorithm's trajectories as it reaches the model.

    Attributes:
        algorithm: The algorithm's name.
        num_nodes: The size that was asked of the sampler.
        seed: Determines the noise that a training step draws.
        feedback: The trajectories.
        ended: Whether each trajectory is there up to its end, where its outputs are, [B]; None if all are.
    """

    algorithm: str
    num_nodes: int
    seed: int
    feedback: Feedback[Tensor]
    ended: Tensor | None = None

    @property
    def key(self) -> Key:
        """The algorithm and the size."""
        return self.algorithm, self.num_nodes

    def map(self, change: Callable[[Any], Any]) -> "Batch":
        """The batch with every tensor replaced by what `change` makes of it."""
        ended = None if self.ended is None else change(self.ended)
        return self._replace(feedback=self.feedback.map(change), ended=ended)

    def select(self, rows: slice | Tensor) -> "Batch":
        """Some of the batch's trajectories, with hints up to the end of their longest."""
        ended = None if self.ended is None else self.ended[rows]
        return self._replace(feedback=self.feedback.select(rows), ended=ended)


class JointGraphs:
    """The graphs of one algorithm and one size of several batches, whose states a reasoner may compute at once.

    Args:
        features: Of the graphs of all batches, in their order.

    Attributes:
        kept: Who has computed states of them, and these; None if nobody has.
    """

    def __init__(self, features: Features[Tensor]) -> None:
        self.features = features
        self.kept: tuple[Any, Any] | None = None


class Graphs(NamedTuple):
    """The graphs of one algorithm and one size among those of a batch of texts, in tensors.

    Attributes:
        algorithm: The algorithm's name.
        rows: Which texts of the batch these are the graphs of, in order.
        features: The features of the graphs, in the same order; of hints, the first is enough.
    """

    algorithm: str
    rows: tuple[int, ...]
    features: Features[Tensor]


class PartOfJointGraphs(NamedTuple):
    """As :class:`Graphs`, of graphs that are among those of several batches.

    Attributes:
        algorithm: As there.
        rows: As there.
        features: As there.
        joint: The graphs of all these batches.
        start: Where among them the first of this part is.
    """

    algorithm: str
    rows: tuple[int, ...]
    features: Features[Tensor]
    joint: JointGraphs
    start: int


AnyGraphs = Graphs | PartOfJointGraphs


NOT_SCORED = -100
"""The label of a token that is not in the loss, as transformers has it."""


class TextBatch(NamedTuple):
    """Texts as they reach a language model, each with its graph.

    Attributes:
        seed: Determines what a training step draws.
        keys: Each text's algorithm and size.
        input_ids: Prompt, answer and end, padded on the right, [B, L].
        attention_mask: 1 at tokens, 0 at padding, [B, L].
        labels: The tokens that the loss is of; :data:`NOT_SCORED` elsewhere, [B, L].
        graphs: The graphs of the texts.
        prompts: The prompt of each text, where they are to be answered; else nothing.
        answers: The true answers, likewise.
        num_tokens: The number of each text's own tokens.
    """

    seed: int
    keys: tuple[Key, ...]
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    graphs: Sequence[AnyGraphs]
    prompts: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    num_tokens: tuple[int, ...] = ()


def with_joint_graphs(batches: Sequence[TextBatch]) -> list[TextBatch]:
    """Batches of texts whose graphs know those of the same algorithm and size in the others."""
    groups = [list(batch.graphs) for batch in batches]
    places: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    for number, of_batch in enumerate(groups):
        for place, group in enumerate(of_batch):
            places[_kind_of(group.algorithm, group.features)].append((number, place))
    for of_kind in places.values():
        joint = JointGraphs(join([Feedback(groups[number][place].features, {}) for number, place in of_kind]).features)
        start = 0
        for number, place in of_kind:
            groups[number][place] = PartOfJointGraphs(*groups[number][place][:3], joint, start)
            start += len(groups[number][place].rows)
    return [batch._replace(graphs=of_batch) for batch, of_batch in zip(batches, groups, strict=True)]


def _kind_of(algorithm: str, features: Features[Tensor]) -> Any:
    """What graphs have in common that can be in one batch: the algorithm and the shapes of its inputs."""
    return algorithm, *((name, data.shape[1:]) for name, data in features.inputs.items())


def grouped(graphs: Sequence[tuple[str, Features[Tensor]]]) -> list[Graphs]:
    """The graphs of a batch of texts by algorithm and size, with their first hints.

    Args:
        graphs: For each text the algorithm's name and the features of its graph, a batch of one.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for row, (algorithm, features) in enumerate(graphs):
        groups[_kind_of(algorithm, features)].append(row)
    joined = []
    for key, rows in groups.items():
        parts = [Feedback(graphs[row][1].first_hints(), {}) for row in rows]
        joined.append(Graphs(key[0], tuple(rows), join(parts).features))
    return joined


def size_of(spec: Spec, inputs: Mapping[str, Any]) -> int:
    """The number of nodes, from the first input that has a node axis."""
    return next(
        int(data.shape[1])
        for name, data in inputs.items()
        if spec[name].location is not Location.GRAPH and spec[name].type is not Type.MASK_ONE
    )


def to_tensors(feedback: Feedback[NumpyArray], spec: Spec) -> Feedback[Tensor]:
    """Trajectories as tensors: scalars in torch's default dtype, lengths as int64, all else as compact as it is: the
    device widens it (see :func:`nar.model.encoders.dense`).
    """

    def widened(name: str, data: Tensor) -> Tensor:
        return data.to(torch.get_default_dtype()) if spec[name].type is Type.SCALAR else data

    (inputs, hints, lengths), outputs = feedback.map(torch.as_tensor).map_probes(widened)
    return Feedback(Features(inputs, hints, lengths.to(torch.int64)), outputs)
