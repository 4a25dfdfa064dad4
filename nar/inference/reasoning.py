"""A model of an algorithm on instances of a user's own."""
# Axes: B instances of one size, N nodes, T steps.

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nar.batch import Features, Feedback, NumpyArray, join, to_tensors
from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.engine.algorithm import Algorithm
from nar.datasets.engine.arguments import MAX_NODES, check_known
from nar.datasets.engine.memory import num_free_bytes
from nar.errors import UserError, one_line
from nar.inference.answers import Answer, Prediction, confidence_of
from nar.inference.array_answers import ARRAY_ANSWERS
from nar.inference.graph_answers import GRAPH_ANSWERS
from nar.inference.graphs import WEIGHT
from nar.inference.instances import Instance, Options, are_several, read_instance
from nar.inference.steps import Plan, StoppedBy, Values, plan, stands_still
from nar.model.decoders import States
from nar.model.metrics import definite
from nar.model.unroll import EncodeProcessDecode, Step
from nar.specs import Location, Spec, Stage, Type, at_stage
from nar.viewer import HasModel

ANSWERS: Mapping[str, type[Answer]] = {**GRAPH_ANSWERS, **ARRAY_ANSWERS}
"""The form of the answer of each algorithm of CLRS-30."""

MOST_AT_ONCE = 32
"""How many instances of one size the model is given together at most."""

STATES_OF_PAIRS = 6
"""How many arrays [N, N, H] a model holds at once, roughly."""


def run(
    reasoner: HasModel,
    *given: Any,
    source: Any = None,
    target: Any = None,
    needle: Any = None,
    weight: str | None = WEIGHT,
    names: Any = None,
    steps: Any = "auto",
    limit: int | None = None,
) -> Any:
    """What a model answers on one instance, or on each of a list of instances of any sizes.

    ``run(reasoner, data)``, or ``run(reasoner, algorithm, data)`` where the model has learnt several. The data are

    - of graph algorithms, a graph of networkx, ``Data`` of PyTorch Geometric, a sparse or dense matrix (0: no edge);
    - of sorting, searching and maximum subarrays, keys: a list or an array, or a dict of keys by name;
    - of `activity_selector` and `task_scheduling`, pairs (start, finish) and (deadline, value): a list or a dict;
    - of `matrix_chain_order`, dimensions; of `optimal_bst`, the frequencies of keys and of what lies between them;
    - of `lcs_length` and the string matchers, a pair of strings of at most 4 different letters;
    - of convex hulls, points (x, y), a list or a dict; of `segments_intersect`, two pairs of points;
    - of an algorithm of a user's own, a tuple of what its ``draw`` returns.

    Args:
        reasoner: The model.
        *given: The algorithm, by name or (a user's own) itself, if the model has several; and the data.
        source: The name of the node that a graph algorithm starts from; of several instances, a list has one for each.
        target: What binary search looks for, likewise.
        needle: What a string matcher looks for, if the data are haystacks alone, likewise.
        weight: The attribute of edges that is their weight; None if all edges weigh 1.
        names: Of the nodes, keys or points, where the data have none; of several instances, a list of lists.
        steps: How many steps to run the model for: ``"auto"`` (see :mod:`nar.inference.steps`), ``"classical"`` for as
            many as the classical algorithm takes on the instance, as in tests, or a number.
        limit: The most steps where ``"auto"`` does not know the number before; None for one by algorithm and size.

    Returns:
        An answer in the algorithm's own form (see :class:`nar.inference.answers.Answer` and its subclasses), or a list
        of them.

    Raises:
        UserError: If the algorithm or the data are not what the model and the algorithm take, or are too large for the
            memory.
    """
    algorithm, data = algorithm_and_data(reasoner, given)
    spec, model = reasoner.specs[algorithm.name], reasoner.model
    device = next(model.parameters()).device

    def check_size(num_nodes: int) -> None:
        check_memory(algorithm.name, spec, model.processor.hidden_dim, num_nodes, device)

    options = Options(source, target, needle, weight, names, check_size)
    if not are_several(algorithm, data, options):
        return answers(reasoner, [read_instance(algorithm, data, options)], steps, limit)[0]
    instances = []
    for number, (one, option) in enumerate(zip(data, options_of_each(options, len(data)), strict=True)):
        try:
            instances.append(read_instance(algorithm, one, option))
        except UserError as error:
            raise UserError(f"instance {number}: {error}") from error
    return answers(reasoner, instances, steps, limit)


def algorithm_and_data(reasoner: HasModel, given: Sequence[Any]) -> tuple[Algorithm, Any]:
    """The algorithm and the data that a user gave; the model's only algorithm if none is named."""
    known = list(reasoner.specs)
    if len(given) not in (1, 2):
        raise UserError(f"expected an algorithm and data, or data alone, given {len(given)} arguments")
    if len(given) == 1 and len(known) > 1:
        raise UserError(f"the model knows {len(known)} algorithms: say which of {', '.join(known)}, before the data")
    algorithm = given[0] if len(given) == 2 else known[0]
    if isinstance(algorithm, Algorithm):
        check_known("algorithm of the model", algorithm.name, known)
        return algorithm, given[-1]
    check_known("algorithm of the model", algorithm, known)
    if algorithm not in CLRS_30:
        raise UserError(f"{algorithm} is none of CLRS-30: give the algorithm itself in place of its name")
    return CLRS_30[algorithm], given[-1]


def options_of_each(options: Options, number: int) -> Iterator[Options]:
    """The options of each of so many instances: lists have one for each, anything else is that of all."""

    def each(name: str, value: Any) -> list[Any]:
        if not isinstance(value, list) or (name == "names" and not (value and isinstance(value[0], list))):
            return [value] * number
        if len(value) != number:
            raise UserError(f"expected one {name} for each of {number} instances, given {len(value)}")
        return value

    columns = {name: each(name, getattr(options, name)) for name in ("source", "target", "needle", "names")}
    for row in zip(*columns.values(), strict=True):
        yield replace(options, **dict(zip(columns, row, strict=True)))


def check_memory(algorithm: str, spec: Spec, hidden_dim: int, num_nodes: int, device: torch.device) -> None:
    """Raise a :class:`UserError` if a graph of so many nodes would not fit into memory, by a rough estimate."""
    if num_nodes > MAX_NODES:
        raise UserError(f"{algorithm} takes at most {MAX_NODES} nodes, given {num_nodes}")
    needed, free = num_bytes(spec, hidden_dim, num_nodes), num_free_bytes_on(device)
    if needed > free:
        raise UserError(
            f"{algorithm} on {num_nodes} nodes would take about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB "
            "are free: give a smaller instance"
        )


def num_free_bytes_on(device: torch.device) -> int:
    """The free memory of a device in bytes."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else num_free_bytes()


def num_bytes(spec: Spec, hidden_dim: int, num_nodes: int) -> int:
    """The memory in bytes that a model takes for one graph of so many nodes, roughly."""
    points_from_edges = any((probe.location, probe.type) == (Location.EDGE, Type.POINTER) for probe in spec.values())
    return 4 * num_nodes**2 * (STATES_OF_PAIRS * hidden_dim + 3 * num_nodes * points_from_edges)


def answers(reasoner: HasModel, instances: Sequence[Instance], steps: Any, limit: Any) -> list[Answer]:
    """What a model answers on each of several instances; those of one size are computed together."""
    several = isinstance(steps, list)
    if several and len(steps) != len(instances):
        raise UserError(f"expected one number of steps for each of {len(instances)} instances, given {len(steps)}")
    trajectories, plans = [], []
    for number, instance in enumerate(instances):
        feedback = instance.trajectory("first")
        inputs = {name: data[0] for name, data in apply_recipe(instance.algorithm, feedback).features.inputs.items()}
        length = int(feedback.features.lengths[0])
        trajectories.append(feedback)
        plans.append(plan(instance, inputs, steps[number] if several else steps, limit, length))
    predictions: dict[int, Prediction] = {}
    for rows in batches(reasoner, instances):
        feedback = join([trajectories[row] for row in rows])
        predicted = predict(reasoner, instances[rows[0]].algorithm, feedback, [plans[row] for row in rows])
        predictions.update(zip(rows, predicted, strict=True))
    made = []
    for row, instance in enumerate(instances):
        truth = {name: data[0] for name, data in trajectories[row].outputs.items()}
        form = ANSWERS[instance.algorithm.name] if isinstance(instance.algorithm, KnownAlgorithm) else Answer
        answer = form(instance, reasoner.specs[instance.algorithm.name], predictions[row], truth)
        answer.reasoner = reasoner
        made.append(answer)
    return made


def batches(reasoner: HasModel, instances: Sequence[Instance]) -> Iterator[list[int]]:
    """The places of instances of one size, as many as the model is given at once."""
    free = num_free_bytes_on(next(reasoner.model.parameters()).device)
    by_size: dict[int, list[int]] = defaultdict(list)
    for row, instance in enumerate(instances):
        by_size[len(instance.names)].append(row)
    for size, rows in by_size.items():
        spec, hidden_dim = reasoner.specs[instances[rows[0]].algorithm.name], reasoner.model.processor.hidden_dim
        number = min(MOST_AT_ONCE, max(1, free // max(1, 2 * num_bytes(spec, hidden_dim, size))))
        yield from (rows[start : start + number] for start in range(0, len(rows), number))


def predict(
    reasoner: HasModel, algorithm: Algorithm, feedback: Feedback[NumpyArray], plans: Sequence[Plan]
) -> list[Prediction]:
    """What a model makes of a batch of instances of one size, each run for as many steps as its plan says."""
    model = reasoner.model
    features = to_tensors(apply_recipe(algorithm, feedback), recipe_spec(algorithm)).features
    lengths = torch.tensor([plan.num_steps + 1 for plan in plans])
    features = features._replace(lengths=lengths).to(next(model.parameters()).device)
    with evaluating(model):
        try:
            return Run(model, algorithm.name, reasoner.specs[algorithm.name], features, plans).predictions()
        except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            raise UserError(
                f"{algorithm.name} does not fit into memory: give smaller instances ({one_line(error)})"
            ) from error


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Where a model is in evaluation mode, and nothing is kept for gradients."""
    was_training = model.training
    if was_training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if was_training:
            model.train()


class Run:
    """A model on its way through a batch of instances, of which each stops at its own step.

    Args:
        model: The model.
        algorithm: The algorithm's name.
        spec: Its probes.
        features: The inputs and first hints of the instances.
        plans: How long to run the model on each.
    """

    def __init__(
        self,
        model: EncodeProcessDecode,
        algorithm: str,
        spec: Spec,
        features: Features[Tensor],
        plans: Sequence[Plan],
    ) -> None:
        self.model, self.algorithm, self.spec, self.features, self.plans = model, algorithm, spec, features, plans
        self.has_hints = len(model.heads[algorithm].hint_decoders) > 0  # type: ignore[arg-type]
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
        for number, step in enumerate(self.model.steps(self.algorithm, self.features, most), start=1):
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
            made[row] = Prediction(one_of(outputs, place), one_of(confidence, place), hints, num_steps, stopped[row])
        return made


def arrays(values: Mapping[str, Tensor]) -> dict[str, NumpyArray]:
    """Tensors as arrays, indices in 16 bits."""
    compact = {torch.int64: torch.int16, torch.bfloat16: torch.float32, torch.float16: torch.float32}
    return {name: x.to(compact.get(x.dtype, x.dtype)).cpu().numpy() for name, x in values.items()}


def one_of(values: Mapping[str, NumpyArray], row: int) -> dict[str, NumpyArray]:
    """The values of one instance of a batch."""
    return {name: x[row] for name, x in values.items()}
