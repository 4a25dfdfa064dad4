"""A model that knows the trajectories of the classical algorithm, to test what is made of predictions."""

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nar.batch import Features, num_steps_of, to_tensors
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30
from nar.inference import run
from nar.inference.instances import Instance, Options, are_several, read_instance
from nar.model.encoders import dense
from nar.specs import Probe, Type

Change = Callable[[dict[str, Any]], Any]


class At(NamedTuple):
    """Where in their trajectories some instances are: the trajectories, and after how many steps."""

    rows: list[Any]
    time: int

    def select(self, places: Tensor) -> "At":
        """Where some of them are."""
        return At([self.rows[place] for place in places.tolist()], self.time)


class Knowing:
    """In place of a reasoner and of its model.

    Args:
        algorithm: One of CLRS-30.
        instances: On which it knows the trajectories.
        with_hints: Whether it predicts hints.
        strict: Whether outputs are right after the classical number of steps alone, and nonsense after any other.
        change: What is done to the outputs of a trajectory, a dict of arrays, so that they become wrong or others.
    """

    def __init__(
        self,
        algorithm: str,
        instances: Sequence[Instance],
        *,
        with_hints: bool = False,
        strict: bool = False,
        change: Change = lambda outputs: None,
    ) -> None:
        self.specs, self.spec, self.strict = {algorithm: recipe_spec(algorithm)}, recipe_spec(algorithm), strict
        self.model, self.training, self.hint_loss = self, False, "all"
        self.processor = SimpleNamespace(hidden_dim=1)
        hints = [name for name, probe in self.spec.items() if probe.stage == "hint"] if with_hints else []
        self.heads = {algorithm: SimpleNamespace(hint_decoders=hints)}
        self.known: dict[bytes, Any] = {}
        for one in instances:
            raw = one.trajectory("all" if with_hints else "first")
            outputs = {name: data.copy() for name, data in raw.outputs.items()}
            change({name: data[0, ...] for name, data in outputs.items()})  # views, of single numbers too
            feedback = to_tensors(apply_recipe(algorithm, raw._replace(outputs=outputs)), self.spec)
            self.known[self._key(feedback.features, 0)] = feedback

    def parameters(self) -> Iterator[Tensor]:
        """One, for its device."""
        yield torch.zeros(())

    def steps(self, algorithm: str, features: Features[Tensor], num_steps: int, visit: None) -> Iterator[Any]:
        """As of a model: the true hints after each step, and those of the end after the end."""
        rows = [self.known[self._key(features, row)] for row in range(len(features.lengths))]
        for time in range(1, num_steps + 1):
            hints = {name: self._logits(name, rows, time) for name in self.heads[algorithm].hint_decoders}
            yield SimpleNamespace(states=At(rows, time), hints=hints)

    def outputs(self, algorithm: str, states: At) -> dict[str, Tensor]:
        """As of a model: the true outputs."""
        made = {}
        for name, probe in self.spec.items():
            if probe.stage == "output":
                rows = [logits_of(probe, row.outputs[name], self._size(row)) for row in states.rows]
                if self.strict:
                    right = [num_steps_of(int(row.features.lengths[0])) == states.time for row in states.rows]
                    rows = [row if is_right else -row for row, is_right in zip(rows, right, strict=True)]
                made[name] = torch.cat(rows)
        return made

    def _logits(self, name: str, rows: Sequence[Any], time: int) -> Tensor:
        def at(row: Any) -> Tensor:
            hints = row.features.hints[name]
            last = min(time, int(row.features.lengths[0]) - 1)
            return logits_of(self.spec[name], hints[last], self._size(row))

        return torch.cat([at(row) for row in rows])

    @staticmethod
    def _size(row: Any) -> int:
        return int(row.features.inputs["pos"].shape[1])

    @staticmethod
    def _key(features: Features[Tensor], row: int) -> bytes:
        return b"".join(data[row].numpy().tobytes() for data in features.inputs.values())


def logits_of(probe: Probe, data: Tensor, num_nodes: int) -> Tensor:
    """Logits of which the prediction is the data, with confidence."""
    values = dense(probe, data, num_nodes)
    return values if probe.type is Type.SCALAR else 30 * (2 * values - 1 if probe.type is Type.MASK else values)


def instances_of(algorithm: str, data: Any, **options: Any) -> list[Instance]:
    """The instance that is made of a user's data, in a list; or those that are made of a list of them."""
    chosen = Options(**options)
    assert not are_several(CLRS_30[algorithm], data, chosen)
    return [read_instance(CLRS_30[algorithm], data, chosen)]


def answer_of(algorithm: str, data: Any, change: Change = lambda outputs: None, **options: Any) -> Any:
    """The answer of a model that knows the true outputs, or what a function makes of them."""
    return run(
        Knowing(algorithm, instances_of(algorithm, data, **options), change=change), data, **options, steps="classical"
    )
