"""A model on its way through instances of one size, of which each stops at its own step."""
# Axes: B instances, T steps.

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nar.batch import Features, NumpyArray
from nar.datasets.engine.memory import num_free_bytes
from nar.inference.answers import Prediction, confidence_of
from nar.inference.steps import Plan, StoppedBy, Values, stands_still
from nar.inference.tracing import Tracer
from nar.model.decoders import States
from nar.model.metrics import definite
from nar.model.unroll import EncodeProcessDecode, Step
from nar.specs import Spec, Stage, at_stage


class Run:
    """A model on its way through a batch of instances, of which each stops at its own step.

    Args:
        model: The model.
        algorithm: The algorithm's name.
        spec: Its probes.
        features: The inputs and first hints of the instances.
        plans: How long to run the model on each.
        tracer: What is to see the states, if anything.
        reads_hints: Whether predicted hints mean what their probes say, as they do not where they have no loss.
    """

    def __init__(
        self,
        model: EncodeProcessDecode,
        algorithm: str,
        spec: Spec,
        features: Features[Tensor],
        plans: Sequence[Plan],
        tracer: Tracer | None = None,
        *,
        reads_hints: bool = True,
    ) -> None:
        self.tracer = tracer
        self.model, self.algorithm, self.spec, self.features, self.plans = model, algorithm, spec, features, plans
        num_hints = len(model.heads[algorithm].hint_decoders)  # type: ignore[arg-type]
        self.has_hints = reads_hints and num_hints > 0
        self.hints: list[list[Values]] = [[] for _ in plans]
        """What was predicted for each instance, step by step."""
        self.last: list[Values | None] = [None] * len(plans)
        """What was last predicted for each instance: hints, or the outputs of a model that predicts none."""
        self.room = num_free_bytes() // 2
        """How many bytes of hints can still be kept; below 0, none are."""
        if self.has_hints:
            first = arrays({name: features.hints[name][0] for name in at_stage(spec, Stage.HINT)})
            self.last = [one_of(first, row) for row in range(len(plans))]

    def predictions(self) -> list[Prediction]:
        """What the model predicts for each instance."""
        done: dict[int, Prediction] = {}
        before: States | None = None
        most = max(plan.num_steps for plan in self.plans)
        visit = None if self.tracer is None else self.tracer.visit
        for number, step in enumerate(self.model.steps(self.algorithm, self.features, most, visit), start=1):
            seen = self.seen(step)
            stopped: dict[int, StoppedBy] = {}
            for row in range(len(self.plans)):
                if row in done:
                    continue
                now = one_of(seen, row)
                self.keep(row, now)
                if reason := self.reason_to_stop(row, number, now):
                    stopped[row] = reason
                self.last[row] = now
            still = [row for row, reason in stopped.items() if reason == "still" and before is not None]
            if still:
                done |= self.decoded(still, before, number - 1, stopped)
            if others := [row for row in stopped if row not in done]:
                done |= self.decoded(others, step.states, number, stopped)
            if len(done) == len(self.plans):
                break
            before = step.states
        return [done[row] for row in range(len(self.plans))]

    def keep(self, row: int, now: Values) -> None:
        """Keep what was predicted of an instance, but nothing of any once hints have become too many."""
        self.room -= sum(value.nbytes for value in now.values())
        if self.has_hints and self.room >= 0:
            self.hints[row].append(now)
        else:
            self.hints = [[] for _ in self.plans]

    def seen(self, step: Step) -> Values:
        """What tells when to stop after a step: the predicted hints, or outputs of a model that predicts none."""
        if self.has_hints:
            return arrays(definite(self.spec, step.hints))
        if all(plan.known_by != "limit" for plan in self.plans):
            return {}
        return arrays(definite(self.spec, self.model.outputs(self.algorithm, step.states)))

    def reason_to_stop(self, row: int, number: int, now: Values) -> StoppedBy | None:
        """Why the model is run on an instance for no more steps than these; None if it is run for more."""
        plan, before = self.plans[row], self.last[row]
        if plan.known_by != "limit":
            return plan.known_by if number == plan.num_steps else None
        if plan.has_ended is not None and self.has_hints:
            if plan.has_ended(now, plan.inputs):
                return "end"
        elif before is not None and stands_still(before, now, plan.wavering):
            return "still"
        return "limit" if number == plan.num_steps else None

    def decoded(
        self, rows: Sequence[int], states: States | None, num_steps: int, stopped: Mapping[int, StoppedBy]
    ) -> dict[int, Prediction]:
        """The predictions for instances that have taken so many steps, which led to these states."""
        assert states is not None
        logits = self.model.outputs(
            self.algorithm, states.select(torch.tensor(rows, device=self.features.lengths.device))
        )
        outputs, confidence = arrays(definite(self.spec, logits)), arrays(confidence_of(self.spec, logits))
        made = {}
        for place, row in enumerate(rows):
            taken = self.hints[row][:num_steps]
            hints = {name: np.stack([hint[name] for hint in taken]) for name in (taken[0] if taken else ())}
            if self.tracer is not None:
                self.tracer.end(row, {name: x[place] for name, x in logits.items()})
            made[row] = Prediction(one_of(outputs, place), one_of(confidence, place), hints, num_steps, stopped[row])
        return made


def arrays(values: Mapping[str, Tensor]) -> dict[str, NumpyArray]:
    """Tensors as arrays, indices in 16 bits."""
    compact = {torch.int64: torch.int16, torch.bfloat16: torch.float32, torch.float16: torch.float32}
    return {name: x.to(compact.get(x.dtype, x.dtype)).cpu().numpy() for name, x in values.items()}


def one_of(values: Mapping[str, NumpyArray], row: int) -> dict[str, NumpyArray]:
    """The values of one instance of a batch."""
    return {name: x[row] for name, x in values.items()}
