"""A model of sparse graphs on graphs of a user's own: what it answers to the tasks of SALSA-CLRS.

They are undirected and connected, as those that these models are trained on. Beside the model, which looks at edges
alone, there is a matrix of a graph's weights, as :mod:`nar.inference.graphs` makes it.
"""
# N is the number of nodes, E that of edges in both directions and loops, T that of steps.

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nar.batch import NumpyArray
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.engine.arguments import MAX_NODES, shown
from nar.datasets.salsa.algorithms import SPARSE_TASKS, draw_randomness
from nar.datasets.salsa.graph import Graph, graph_of
from nar.datasets.salsa.tasks import joined, trajectory
from nar.errors import UserError
from nar.inference.answers import Answer, Prediction
from nar.inference.graph_answers import GRAPH_ANSWERS, GraphAnswer
from nar.inference.graphs import WEIGHT, index_of, read_graph
from nar.inference.instances import Instance, Options, depth, read_instance
from nar.inference.reasoning import chosen, num_free_bytes_on, read_several
from nar.inference.steps import Plan, StoppedBy, are_reached, plan, stands_still
from nar.model.evaluating import evaluating
from nar.sparse.batch import SparseBatch
from nar.sparse.model import SparseEncodeProcessDecode, States
from nar.sparse.scores import confidence, predicted_value
from nar.specs import Location, Probe, Spec, Stage, Type, at_stage

_MATRICES = 3
"""How many matrices of N x N floats there are of a graph at once, roughly."""


class IndependentSet(GraphAnswer):
    """A maximal independent set: nodes of which no two are neighbours, and to which no other can be added."""

    @property
    def nodes(self) -> set[Hashable]:
        """The nodes that the model takes."""
        return {name for name, is_in in zip(self.names, self.prediction.outputs["inmis"], strict=True) if is_in > 0}

    def problem(self) -> str:
        """Why this is no maximal independent set; any is right."""
        is_in, is_edge = self.prediction.outputs["inmis"] > 0, self.weights != 0
        if (wrong := np.argwhere(is_edge & is_in[:, None] & is_in)).size:
            u, v = (shown(self.names[node]) for node in wrong[0])
            return f"{u} and {v} are neighbours"
        if (missing := np.flatnonzero(~is_in & ~is_edge[is_in].any(axis=0))).size:
            return f"{shown(self.names[missing[0]])} could be added"
        return ""


class Eccentricity(GraphAnswer):
    """How many edges there are on the way to the farthest node."""

    @property
    def eccentricity(self) -> int:
        """The number of edges, a whole number."""
        return int(self.prediction.outputs["eccentricity"])


ANSWERS: Mapping[str, type[Answer]] = {
    **{task: GRAPH_ANSWERS[task] for task in ("bfs", "dfs", "dijkstra", "mst_prim")},
    "fast_mis": IndependentSet,
    "eccentricity": Eccentricity,
}
"""The form of the answer of each task."""


class _Task(NamedTuple):
    """What stands for the algorithm of an instance where it is none of CLRS-30."""

    name: str


def run(
    reasoner: Any,
    *given: Any,
    source: Any = None,
    weight: str | None = WEIGHT,
    names: Any = None,
    steps: Any = "auto",
    limit: int | None = None,
    seed: int = 0,
) -> Any:
    """What a model of sparse graphs answers on one graph, or on each of a list: see :func:`nar.inference.run`.

    Args:
        reasoner: The model.
        *given: The task, by name, if the model has several; and an undirected, connected graph, in any form that
            :func:`nar.inference.graphs.read_graph` takes.
        source: The name of the node that bfs, dijkstra, mst_prim and eccentricity start from; of several graphs, a list
            has one for each.
        weight: The attribute of edges that is their weight; None if all edges weigh 1.
        names: Of the nodes, where the graph has none; of several graphs, a list of lists.
        steps: How many steps to run the model for, as of :func:`nar.inference.run`.
        limit: The most steps where ``"auto"`` does not know the number before.
        seed: Draws the numbers by which fast_mis chooses, which tell how many rounds there are.

    Returns:
        An answer in the task's own form, or a list of them.

    Raises:
        UserError: If the task or the graph is not what the model takes, or the graph is too large for the memory.
    """
    task, data = chosen(list(reasoner.specs), given)
    device = next(reasoner.model.parameters()).device

    def check_size(num_nodes: int) -> None:
        needed, free = 8 * _MATRICES * num_nodes**2, num_free_bytes_on(torch.device("cpu"))
        if num_nodes > MAX_NODES or needed > free:
            raise UserError(
                f"{task} takes at most {min(MAX_NODES, int((free / 8 / _MATRICES) ** 0.5))} nodes here, "
                f"given {num_nodes}"
            )

    def read_one(data: Any, options: Options) -> Instance:
        return _read_sparse(task, data, options)

    def answer(instance: Instance) -> Answer:
        return answered(reasoner, task, instance, steps, limit, seed, device)

    options = Options(source, None, None, weight, names, check_size)
    if isinstance(data, list | tuple | np.ndarray) and depth(data) > 2:
        return [answer(instance) for instance in read_several(read_one, data, options)]
    return answer(read_one(data, options))


def _read_sparse(task: str, data: Any, options: Options) -> Instance:
    """The instance that a user's graph is.

    Raises:
        UserError: If it is not what the task takes.
    """
    instance = read_instance(CLRS_30[task], data, options) if task in CLRS_30 else _unweighted(task, data, options)
    weights = instance.own["weights"]
    if (weights != weights.T).any():
        u, v = (shown(instance.names[node]) for node in np.argwhere(weights != weights.T)[0])
        raise UserError(f"{task} on sparse graphs takes undirected ones, given another edge from {u} to {v} than back")
    reached = are_reached(weights, 0)
    if len(weights) < 2 or not reached.all():
        lost = shown(instance.names[int(np.argmin(reached))])
        raise UserError(f"{task} takes connected graphs of at least 2 nodes, given one without a path to {lost}")
    return instance


def _unweighted(task: str, data: Any, options: Options) -> Instance:
    """The instance of a task that is none of CLRS-30's algorithms: they look at no weights."""
    names, weights = read_graph(data, None, options.names, options.check_size)
    own: dict[str, Any] = {"weights": weights}
    if "s" not in SPARSE_TASKS[task].spec:
        if options.source is not None:
            raise UserError(f"{task} takes no source, given {shown(options.source)}")
    elif options.source is None:
        raise UserError(f"{task} starts from a node: say which (source=...)")
    else:
        own["source"] = index_of("source", options.source, names)
    algorithm: Any = _Task(task)
    return Instance(algorithm, (weights,), len(names), names, own)


def answered(
    reasoner: Any, task: str, instance: Instance, steps: Any, limit: Any, seed: int, device: torch.device
) -> Answer:
    """What a model answers on an instance."""
    scaled = instance.given[0]
    graph = graph_of(np.argwhere(np.triu(scaled != 0, k=1)), len(scaled))
    data = trajectory(task, graph, _inputs(task, graph, scaled, instance, seed), hints="first")
    spec = SPARSE_TASKS[task].spec
    length = int(data.length)
    planned = plan(instance, {}, steps, limit, length)
    if steps == "auto" and task == "fast_mis":  # whose rounds are as many as it is given numbers for
        planned = Plan(length - 1, "length", {})
    batch = joined([data], len(scaled))
    with evaluating(reasoner.model):
        prediction = predicted(reasoner.model, spec, batch.to(device), planned)
    truth = {name: in_nodes(spec[name], batch.outputs[name], batch) for name in at_stage(spec, Stage.OUTPUT)}
    made = ANSWERS[task](instance, spec, prediction, truth)
    made.reasoner = reasoner
    return made


def _inputs(task: str, graph: Graph, scaled: NumpyArray, instance: Instance, seed: int) -> tuple[Any, ...]:
    """The inputs of a task other than positions, in its order."""
    values: dict[str, Any] = {}
    inputs = [name for name in at_stage(SPARSE_TASKS[task].spec, Stage.INPUT) if name != "pos"]
    if "s" in inputs:
        values["s"] = instance.own["source"]
    if "A" in inputs:
        senders, receivers = graph.edge_index[:, : len(graph.reverse)]
        values["A"] = np.concatenate([scaled[senders, receivers], np.ones(graph.num_nodes)])  # loops weigh 1
    if "randomness" in inputs:
        (values["randomness"],) = draw_randomness(np.random.RandomState(seed), graph)
    return tuple(values[name] for name in inputs)


def predicted(model: SparseEncodeProcessDecode, spec: Spec, batch: SparseBatch, planned: Plan) -> Prediction:
    """What a model makes of a graph, when it is run for as many steps as the plan says."""
    hints: list[dict[str, NumpyArray]] = []
    before: tuple[States, Mapping[str, NumpyArray]] | None = None
    reason: StoppedBy = planned.known_by
    for states, logits in model.steps(batch, planned.num_steps):
        now = _definite(spec, logits, batch)
        seen = now or (_definite(spec, model.outputs(batch, states), batch) if planned.known_by == "limit" else {})
        if planned.known_by == "limit" and before is not None and stands_still(before[1], seen, planned.wavering):
            states, reason = before[0], "still"
            break
        hints.append(now)
        before = (states, seen)
    outputs = model.outputs(batch, states)
    answer = _definite(spec, outputs, batch)
    sure = {name: confidence(spec[name], x, batch) for name, x in outputs.items() if spec[name].type is not Type.SCALAR}
    return Prediction(
        {name: np.round(x) if spec[name].type is Type.SCALAR else x for name, x in answer.items()},
        {name: x.cpu().numpy().reshape(_shape(spec[name])) for name, x in sure.items()},
        {name: np.stack([at[name] for at in hints]) for name in hints[0]},
        len(hints),
        reason,
    )


def _definite(spec: Spec, logits: Mapping[str, Tensor], batch: SparseBatch) -> dict[str, NumpyArray]:
    """Definite predictions by probe name, in nodes."""
    return {name: in_nodes(spec[name], predicted_value(spec[name], x, batch), batch) for name, x in logits.items()}


def in_nodes(probe: Probe, data: Tensor, batch: SparseBatch) -> NumpyArray:
    """The data of a probe of one graph as those of dense graphs are: pointers at nodes, edges as a matrix [N, N]."""
    if probe.type is Type.POINTER:
        data = batch.edge_index[1][data.long()]
    values = data.cpu().numpy()
    if probe.location is Location.EDGE:
        matrix = np.zeros((len(batch.graph), len(batch.graph)), values.dtype)
        matrix[tuple(batch.edge_index.cpu().numpy())] = values
        return matrix
    return values.reshape(_shape(probe))


def _shape(probe: Probe) -> Sequence[int]:
    """The shape of what is of nodes, or of the graph."""
    return () if probe.location is Location.GRAPH or probe.type is Type.MASK_ONE else (-1,)
