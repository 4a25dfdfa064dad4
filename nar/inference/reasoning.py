"""A model of an algorithm on instances of a user's own."""
# Axes: B instances of one size, N nodes, T steps.

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from nar.batch import Batch, Feedback, NumpyArray, join, num_steps_of, to_tensors
from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.engine.algorithm import Algorithm
from nar.datasets.engine.arguments import MAX_NODES, check_known
from nar.datasets.engine.memory import num_free_bytes
from nar.errors import UserError, one_line
from nar.inference.answers import Answer, Prediction
from nar.inference.array_answers import ARRAY_ANSWERS
from nar.inference.graph_answers import GRAPH_ANSWERS
from nar.inference.graphs import WEIGHT
from nar.inference.instances import Instance, Options, are_several, read_instance
from nar.inference.running import Run
from nar.inference.steps import Plan, plan
from nar.inference.tracing import Replace, Trace, Tracer
from nar.model.evaluating import evaluating, is_out_of_memory
from nar.specs import Location, Spec, Type
from nar.viewer import HasModel

ANSWERS: Mapping[str, type[Answer]] = {**GRAPH_ANSWERS, **ARRAY_ANSWERS}
"""The form of the answer of each algorithm of CLRS-30."""

_MOST_AT_ONCE = 32
"""How many instances of one size the model is given together at most."""

_STATES_OF_PAIRS = 6
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
    instances, are_listed = read(reasoner, given, Options(source, target, needle, weight, names))
    made = answers(reasoner, instances, steps, limit)
    return made if are_listed else made[0]


def trace(
    reasoner: HasModel,
    *given: Any,
    source: Any = None,
    target: Any = None,
    needle: Any = None,
    weight: str | None = WEIGHT,
    names: Any = None,
    steps: Any = "auto",
    limit: int | None = None,
    replace: Replace | None = None,
) -> Any:
    """The states of a model at every step of what :func:`run` does, any of which a function may replace.

    Without `replace`, or where it replaces states by themselves, the model computes what it does otherwise, to the bit.
    Where a state is replaced, what the batch has in common is computed by other operations: other instances of the
    same size that are traced together may then differ in rounding.

    Args:
        reasoner: The model.
        *given: As of :func:`run`; or a :class:`nar.batch.Batch`, as of a data module, which is run as it is in tests.
        source: As of :func:`run`; so are the others. Of a batch there are none.
        target: See there.
        needle: See there.
        weight: See there.
        names: See there.
        steps: See there.
        limit: See there.
        replace: A function ``replace(place, state)`` that is called with every :class:`nar.inference.tracing.Place` and
            a copy of the state there, without a batch axis; what it returns, unless that is None, takes its place.
            Where a model stops as predictions stand still, that is seen a step later, at which it is called too.

    Returns:
        A :class:`nar.inference.tracing.Trace`, or a list of them for a list of instances or a batch.

    Raises:
        UserError: As of :func:`run`; or if a state that takes another's place is of another shape.
    """
    tracer = Tracer(replace)
    if given and isinstance(given[-1], Batch):
        others = [source, target, needle, names, limit, *given[:-1]]
        if any(other is not None for other in others) or (weight, steps) != (WEIGHT, "auto"):
            raise UserError("expected a batch alone, which has its algorithm, sources and numbers of steps, given more")
        return _traces_of_batch(reasoner, given[0], tracer)
    instances, are_listed = read(reasoner, given, Options(source, target, needle, weight, names))
    made = answers(reasoner, instances, steps, limit, tracer)
    traces = [tracer.trace(number, answer.num_steps, answer) for number, answer in enumerate(made)]
    return traces if are_listed else traces[0]


def _traces_of_batch(reasoner: HasModel, batch: Batch, tracer: Tracer) -> list[Trace]:
    """What is inside a model while it runs on the trajectories of a batch, each for its own number of steps."""
    check_known("algorithm of the model", batch.algorithm, list(reasoner.specs))
    features = batch.feedback.features
    num_steps = num_steps_of(features.lengths).tolist()
    tracer.instances = range(len(num_steps))
    with evaluating(reasoner.model):
        features = features.to(next(reasoner.model.parameters()).device)
        outputs = reasoner.model(batch.algorithm, features, visit=tracer.visit).outputs
    for row in tracer.instances:
        tracer.end(row, {name: logits[row] for name, logits in outputs.items()})
    return [tracer.trace(row, number) for row, number in enumerate(num_steps)]


def read(reasoner: HasModel, given: Sequence[Any], options: Options) -> tuple[list[Instance], bool]:
    """The instances that a user gave, and whether they are a list of such.

    Raises:
        UserError: If they are not what the model and the algorithm take, or too large for the memory.
    """
    algorithm, data = _algorithm_and_data(reasoner, given)
    spec, model = reasoner.specs[algorithm.name], reasoner.model
    device = next(model.parameters()).device

    def check_size(num_nodes: int) -> None:
        _check_memory(algorithm.name, spec, model.processor.hidden_dim, num_nodes, device)

    options = dataclasses.replace(options, check_size=check_size)
    if not are_several(algorithm, data, options):
        return [read_instance(algorithm, data, options)], False
    return read_several(partial(read_instance, algorithm), data, options), True


def read_several(read_one: Callable[[Any, Options], Instance], data: Any, options: Options) -> list[Instance]:
    """The instances of a list; an error names the number of the one that it is of."""
    instances = []
    for number, (one, option) in enumerate(zip(data, _options_of_each(options, len(data)), strict=True)):
        try:
            instances.append(read_one(one, option))
        except UserError as error:
            raise UserError(f"instance {number}: {error}") from error
    return instances


def _algorithm_and_data(reasoner: HasModel, given: Sequence[Any]) -> tuple[Algorithm, Any]:
    """The algorithm and the data that a user gave; the model's only algorithm if none is named."""
    algorithm, data = chosen(list(reasoner.specs), given)
    if isinstance(algorithm, Algorithm):
        return algorithm, data
    if algorithm not in CLRS_30:
        raise UserError(f"{algorithm} is none of CLRS-30: give the algorithm itself in place of its name")
    return CLRS_30[algorithm], data


def chosen(known: Sequence[str], given: Sequence[Any]) -> tuple[Any, Any]:
    """The algorithm, or its name, and the data that a user gave; the only algorithm that is known if none is named."""
    if len(given) not in (1, 2):
        raise UserError(f"expected an algorithm and data, or data alone, given {len(given)} arguments")
    if len(given) == 1 and len(known) > 1:
        raise UserError(f"the model knows {len(known)} algorithms: say which of {', '.join(known)}, before the data")
    algorithm = given[0] if len(given) == 2 else known[0]
    check_known("algorithm of the model", algorithm.name if isinstance(algorithm, Algorithm) else algorithm, known)
    return algorithm, given[-1]


def _options_of_each(options: Options, number: int) -> Iterator[Options]:
    """The options of each of so many instances: lists have one for each, anything else is that of all."""

    def each(name: str, value: Any) -> list[Any]:
        if not isinstance(value, list) or (name == "names" and not (value and isinstance(value[0], list))):
            return [value] * number
        if len(value) != number:
            raise UserError(f"expected one {name} for each of {number} instances, given {len(value)}")
        return value

    columns = {name: each(name, getattr(options, name)) for name in ("source", "target", "needle", "names")}
    for row in zip(*columns.values(), strict=True):
        yield dataclasses.replace(options, **dict(zip(columns, row, strict=True)))


def _check_memory(algorithm: str, spec: Spec, hidden_dim: int, num_nodes: int, device: torch.device) -> None:
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
    return 4 * num_nodes**2 * (_STATES_OF_PAIRS * hidden_dim + 3 * num_nodes * points_from_edges)


def answers(
    reasoner: HasModel, instances: Sequence[Instance], steps: Any, limit: Any, tracer: Tracer | None = None
) -> list[Answer]:
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
        if tracer is not None:
            tracer.instances = rows
        predicted = predict(reasoner, instances[rows[0]].algorithm, feedback, [plans[row] for row in rows], tracer)
        predictions.update(zip(rows, predicted, strict=True))
    made = []
    for row, instance in enumerate(instances):
        truth = {name: data[0] for name, data in trajectories[row].outputs.items()}
        form = ANSWERS[instance.algorithm.name] if isinstance(instance.algorithm, KnownAlgorithm) else Answer
        answer = form(instance, reasoner.specs[instance.algorithm.name], predictions[row], truth)
        if tracer is None or tracer.replace is None:
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
        number = min(_MOST_AT_ONCE, max(1, free // max(1, 2 * num_bytes(spec, hidden_dim, size))))
        yield from (rows[start : start + number] for start in range(0, len(rows), number))


def predict(
    reasoner: HasModel,
    algorithm: Algorithm,
    feedback: Feedback[NumpyArray],
    plans: Sequence[Plan],
    tracer: Tracer | None = None,
) -> list[Prediction]:
    """What a model makes of a batch of instances of one size, each run for as many steps as its plan says."""
    model = reasoner.model
    features = to_tensors(apply_recipe(algorithm, feedback), recipe_spec(algorithm)).features
    lengths = torch.tensor([plan.num_steps + 1 for plan in plans])
    features = features._replace(lengths=lengths).to(next(model.parameters()).device)
    with evaluating(model):
        try:
            reads_hints = reasoner.hint_loss == "all"
            spec = reasoner.specs[algorithm.name]
            return Run(model, algorithm.name, spec, features, plans, tracer, reads_hints=reads_hints).predictions()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"{algorithm.name} does not fit into memory: give smaller instances ({one_line(error)})"
            ) from error
