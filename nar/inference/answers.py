"""What a model answers on an instance, in the user's own names, and how it compares with the classical algorithm."""
# Axes: N nodes, T steps, C classes.

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self, overload

import numpy as np
from torch import Tensor

from nar.batch import Feedback, NumpyArray
from nar.datasets.engine.arguments import shown
from nar.errors import UserError
from nar.inference.instances import Instance
from nar.inference.steps import StoppedBy
from nar.inference.units import units_of
from nar.model.decoders import SINKHORN_STEPS_PREDICTION, log_sinkhorn
from nar.specs import MASKED, Probe, Spec, Stage, Type, at_stage
from nar.viewer import HasModel, Page, show


class Prediction(NamedTuple):
    """What a model makes of an instance, with nodes as numbers.

    Attributes:
        outputs: By probe name, in the form of the data.
        confidence: How probable the model says that each of these entries is; nothing of scalars.
        hints: By probe name, [T, ...].
        num_steps: For how many steps the model was run.
        stopped_by: Why for no more.
    """

    outputs: Mapping[str, NumpyArray]
    confidence: Mapping[str, NumpyArray]
    hints: Mapping[str, NumpyArray]
    num_steps: int
    stopped_by: StoppedBy


@dataclass(frozen=True)
class Check:
    """An answer beside that of the classical algorithm; true in an ``if`` or an ``assert`` if the answer is right.

    Attributes:
        right: Whether it is a right answer to the problem: where several are, such as trees of shortest paths that
            break ties differently, any of them.
        same: Whether it is the classical algorithm's in every entry.
        entries: Of each output, how many entries are the classical algorithm's, and how many there are.
        why: What is wrong with it, in words; empty if it is right.
        classical: The classical algorithm's answer, in the same form.
    """

    right: bool
    same: bool
    entries: Mapping[str, tuple[int, int]]
    why: str
    classical: "Answer"

    def __bool__(self) -> bool:
        return self.right

    def __str__(self) -> str:
        verdict = "right" if self.right else f"wrong: {self.why}"
        parts = [f"{name} {right} of {number}" for name, (right, number) in self.entries.items()]
        return f"{verdict} ({', '.join(parts)} as the classical algorithm has it)"


class Steps(Sequence[Mapping[str, Any]]):
    """The predicted hints after each step, in the user's names: ``steps[-1]["pi_h"]["a"]``."""

    def __init__(self, spec: Spec, hints: Mapping[str, NumpyArray], names: Sequence[Hashable]) -> None:
        self._spec, self._names = spec, names
        self.arrays = hints
        """The predicted hints after each step as arrays with nodes as numbers, by probe name, [T, ...]."""

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()), ()))

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected one of {len(self)} steps, given {index}")
        return {name: named(self._spec[name], values[index], self._names) for name, values in self.arrays.items()}


class Answer:
    """What a model answers on an instance. Algorithms whose answers have a form of their own have a subclass.

    Args:
        instance: The problem.
        spec: The probes of the algorithm as the model has them.
        prediction: What the model made of it.
        truth: The outputs of the classical algorithm, by name.

    Attributes:
        algorithm: The algorithm's name.
        names: Of the nodes.
        num_steps: For how many steps the model was run.
        stopped_by: Why for no more: see :data:`nar.inference.steps.StoppedBy`.
        scale: By what the user's weights, keys or coordinates were divided for the model; 1 if they were not.
        shift: What was subtracted from them before.
        notes: In what the instance is unlike those that models are trained on, a sentence each.
        reasoner: The model that answered; None of the classical algorithm's answer.
    """

    reasoner: HasModel | None = None

    def __init__(self, instance: Instance, spec: Spec, prediction: Prediction, truth: Mapping[str, NumpyArray]) -> None:
        self._instance, self._spec, self._truth = instance, spec, truth
        self.prediction = prediction
        """The outputs, how sure of them the model is, and the hints, as arrays with nodes as numbers."""
        self.algorithm, self.names = instance.algorithm.name, instance.names
        self.num_steps, self.stopped_by = prediction.num_steps, prediction.stopped_by
        self.scale, self.shift, self.notes = instance.scale, instance.shift, instance.notes

    def __repr__(self) -> str:
        number = f"{self.num_steps} step{'s' * (self.num_steps != 1)}"
        return f"<{type(self).__name__} of {self.algorithm} on {len(self.names)} nodes, {number} ({self.stopped_by})>"

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """The outputs by name: of nodes and of pairs of nodes in dicts by name, pointers as the name pointed at.

        Pairs that the algorithm says nothing of, such as those that are no edges, are left out.
        """
        return {name: self._asked(name, x, self._spec[name]) for name, x in self.prediction.outputs.items()}

    @cached_property
    def confidence(self) -> dict[str, Any]:
        """How probable the model says that each entry of the outputs is, from 0 to 1, in the shape of `outputs`."""
        probes = {name: self._spec[name]._replace(type=Type.SCALAR) for name in self.prediction.confidence}
        return {name: self._asked(name, x, probes[name]) for name, x in self.prediction.confidence.items()}

    def _asked(self, name: str, data: NumpyArray, probe: Probe) -> Any:
        """The entries of an output in names, without those that the algorithm says nothing of."""
        values, truth = named(probe, data, self.names), self._truth[name]
        if np.ndim(truth) < 2 or (truth != MASKED).all():
            return values
        asked = [(self.names[u], self.names[v]) for u, v in np.argwhere(truth != MASKED)]
        return {pair: values[pair] for pair in asked}

    @cached_property
    def steps(self) -> Steps:
        """The predicted hints along time; none if the model predicts none, or they did not fit into memory."""
        return Steps(self._spec, self.prediction.hints, self.names)

    @cached_property
    def classical(self) -> Self:
        """The classical algorithm's answer, in the same form; sure of everything, and without hints."""
        sure = {name: np.ones(np.shape(x)) for name, x in self._truth.items()}
        prediction = self.prediction._replace(outputs=self._truth, confidence=sure, hints={})
        return type(self)(self._instance, self._spec, prediction, self._truth)

    def show(self) -> Page:
        """A page on which to see the model's steps beside the classical algorithm's; a notebook shows it.

        Numbers are in the user's units; noise that is drawn in evaluation is left out.

        Raises:
            UserError: If this is the classical algorithm's answer, or the steps are too large for the memory.
        """
        if self.reasoner is None:
            raise UserError("expected a model's answer to show, given the classical algorithm's")
        units = units_of(self._instance)
        return show(
            self.reasoner, self.algorithm, self.trajectory, num_steps=self.num_steps, names=self.names, units=units
        )

    @cached_property
    def trajectory(self) -> Feedback[NumpyArray]:
        """The classical algorithm's run with all hints, as :func:`nar.viewer.show` takes it; nodes are numbers."""
        return self._instance.trajectory("all")

    def check(self) -> Check:
        """How the answer compares with that of the classical algorithm."""
        entries = {name: self._entries(name, truth) for name, truth in self._truth.items()}
        same = all(right == number for right, number in entries.values())
        why = "" if same else self.problem()
        return Check(not why, same, entries, why, self.classical)

    def problem(self) -> str:
        """Why this is no right answer, in words; nothing if it is one.

        Where nothing but the classical algorithm's answer is right, that is which output differs.
        """
        return next(
            (
                f"{name} differs in {number - right} of {number} entries"
                for name, (right, number) in ((n, self._entries(n, truth)) for n, truth in self._truth.items())
                if right < number
            ),
            "",
        )

    def _entries(self, name: str, truth: NumpyArray) -> tuple[int, int]:
        """How many entries of an output are right, and how many are to be predicted."""
        predicted = self.prediction.outputs[name]
        if self._spec[name].type is Type.SCALAR:
            return int(np.isclose(predicted, truth).sum()), int(np.size(truth))
        asked = np.asarray(truth) != MASKED
        return int(((predicted == truth) & asked).sum()), int(asked.sum())


def named(probe: Probe, data: NumpyArray, names: Sequence[Hashable]) -> Any:
    """The data of a probe with names for numbers of nodes: of nodes, or of pairs of nodes, by name in a dict."""

    def value(entry: Any) -> Any:
        match probe.type:
            case Type.SCALAR:
                return float(entry)
            case Type.MASK:
                return bool(entry > 0)
            case Type.CATEGORICAL:
                return int(entry)
        return names[int(entry)]

    if np.ndim(data) == 0:
        return value(data)
    if np.ndim(data) == 1:
        return {name: value(entry) for name, entry in zip(names, data, strict=True)}
    return {(u, v): value(x) for u, row in zip(names, data, strict=True) for v, x in zip(names, row, strict=True)}


def confidence_of(spec: Spec, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """How probable each entry is that :func:`nar.model.metrics.definite` predicts; nothing of scalars."""
    of_entries: dict[str, Tensor] = {}
    for name, probe in at_stage(spec, Stage.OUTPUT).items():
        match probe.type:
            case Type.SCALAR:
                continue
            case Type.MASK:
                of_entries[name] = logits[name].abs().sigmoid()
            case Type.PERMUTATION_POINTER:
                of_entries[name] = log_sinkhorn(logits[name], SINKHORN_STEPS_PREDICTION).exp().amax(dim=-1)
            case _:
                of_entries[name] = logits[name].softmax(dim=-1).amax(dim=-1)
    for name, probe in spec.items():
        if probe.type is Type.PERMUTATION_POINTER:  # the first node points at itself, by another output
            first = logits[f"{name}_mask"].argmax(dim=-1, keepdim=True)
            of_first = of_entries.pop(f"{name}_mask")[..., None].to(of_entries[name].dtype)
            of_entries[name] = of_entries[name].scatter(-1, first, of_first)
    return of_entries


def walk(pointers: NumpyArray | Sequence[int], start: int) -> list[int]:
    """The nodes from `start` along pointers, up to one that points at itself or was there before, both included."""
    nodes, seen = [start], {start}
    while True:
        following = int(pointers[nodes[-1]])
        if following == nodes[-1]:
            return nodes
        nodes.append(following)
        if following in seen:
            return nodes
        seen.add(following)


def in_a_circle(nodes: Sequence[int]) -> bool:
    """Whether a walk ended where it had been before."""
    return len(set(nodes)) < len(nodes)


def close(a: float, b: float) -> bool:
    """Whether two sums of a user's numbers are the same but for rounding."""
    return bool(np.isclose(a, b, rtol=1e-9, atol=1e-12))


def shown_walk(names: Sequence[Hashable], nodes: Sequence[int]) -> str:
    """Names in the order of a walk, shortened in the middle."""
    words = [shown(names[node]) for node in nodes]
    if len(words) > 8:
        words[4:-3] = ["..."]
    return " → ".join(words)
