"""What a page shows: an algorithm's run on one input and what a model predicts of it, by step, as plain values."""
# Axes: N nodes, T time, H hidden. A batch axis, where there is one, is of length 1.

import math
import string
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nar.batch import Features, Feedback, NumpyArray, num_steps_of, to_tensors
from nar.errors import UserError
from nar.model.evaluating import evaluating, with_noise
from nar.model.metrics import counts, definite, fuse_permutations, scores
from nar.model.unroll import EncodeProcessDecode
from nar.ops.pca import pca
from nar.specs import MASKED, Location, Probe, Spec, Stage, Type, at_stage
from nar.viewer.descriptions import Meaning, meaning
from nar.viewer.layouts import Edges, Layout, edges_of, layouts, num_nodes_of, sequences

DECIMALS = 4
_TOLERANCE = 0.1
"""By how much of a scalar's range over the whole run a prediction may be off before it counts as different."""
_MOST_LABELS = 2

Values = list[Any]
"""A probe's value at each time; None where there is none. Of nodes and of pairs of nodes (row by row) it is a list, of
the graph and of a mask_one a number; entries that are not scored are None."""


Units = Mapping[str, tuple[float, float]]
"""By the name of a scalar, the factor by which it is multiplied to be shown, and what is then added."""


class Track(NamedTuple):
    """The true and the predicted values of one probe over time.

    Attributes:
        name: Its name.
        probe: What kind of a probe it is.
        meaning: In words.
        true: The algorithm's values: one of an input or an output, of a hint one for each time.
        predicted: The model's, in the same form, None for a hint at time 0; nothing of what it does not predict.
        tolerance: By how much numbers may differ that are taken for equal.
    """

    name: str
    probe: Probe
    meaning: Meaning
    true: Values
    predicted: Values
    tolerance: float


class Trajectory(NamedTuple):
    """An algorithm's run on one input beside what a model makes of it.

    Attributes:
        algorithm: The algorithm's name.
        num_steps: How many steps the model takes.
        num_true_steps: How many the algorithm takes.
        nodes: The nodes' names.
        labels: What is written in each node's cell, line by line.
        label_names: The probes that the lines are of.
        sequences: The nodes of each sequence, by which tables have rows and columns.
        layouts: How the nodes can be drawn.
        edges: The graph's edges; None if the input is no graph.
        tracks: All probes, inputs before hints before outputs.
        states: Of each step and node, where its state is along the first two principal components, [T, N, 2]; None if
            there are no components.
        shares: Of the variance, along these components.
        score: Of the outputs, by name, and under ``"score"`` their mean; None where there is nothing to score.
    """

    algorithm: str
    num_steps: int
    num_true_steps: int
    nodes: list[str]
    labels: list[list[str]]
    label_names: list[str]
    sequences: list[list[int]]
    layouts: list[Layout]
    edges: Edges | None
    tracks: list[Track]
    states: list[Any] | None
    shares: list[float]
    score: dict[str, float | None]

    def as_json(self) -> dict[str, Any]:
        """A trajectory as dicts, lists, numbers and texts."""
        tracks = [
            {
                "name": track.name,
                "stage": track.probe.stage.value,
                "location": track.probe.location.value,
                "type": track.probe.type.value,
                "meaning": track.meaning.sentence,
                "classes": track.meaning.classes,
                "true": track.true,
                "predicted": track.predicted,
                "tolerance": track.tolerance,
            }
            for track in self.tracks
        ]
        layouts = [layout._asdict() for layout in self.layouts]
        edges = None if self.edges is None else self.edges._asdict()
        return {**self._asdict(), "edges": edges, "layouts": layouts, "tracks": tracks}


def trajectory_of(
    model: EncodeProcessDecode,
    spec: Spec,
    algorithm: str,
    feedback: Feedback[Any],
    *,
    graph: int = 0,
    num_steps: int | None = None,
    names: Sequence[Hashable] | None = None,
    units: Units = MappingProxyType({}),
) -> Trajectory:
    """What `model` makes, in evaluation mode and without noise, of one of the graphs of `feedback`.

    Args:
        model: It is left as it was.
        spec: The probes of the algorithm, as the model was made for them.
        algorithm: The algorithm's name.
        feedback: Trajectories in the form of `spec`, as arrays or as tensors.
        graph: Which of them.
        num_steps: For how many steps to run the model; None for as many as the algorithm takes.
        names: Of the nodes; None for their indices.
        units: In which scalars are shown, and not those that the model is given.

    Raises:
        UserError: If the trajectories have not all of the probes, or not so many graphs, or there is no step, or not
            one name for each node.
    """
    feedback = _one(spec, algorithm, feedback, graph)
    features = feedback.features
    taken = int(num_steps_of(features.lengths))
    if num_steps is not None and num_steps < 1:
        raise UserError(f"expected at least one step, given {num_steps}")
    predicted, states, score = _run(model, spec, algorithm, feedback, num_steps or taken, units)
    inputs = {name: _shown(name, data[0].numpy(), units) for name, data in features.inputs.items()}
    true = {name: data[:, 0] for name, data in fuse_permutations(spec, features.hints).items()}
    true |= {**features.inputs, **fuse_permutations(spec, feedback.outputs)}
    tracks = [
        _track(algorithm, name, probe, _shown(name, true[name].numpy(), units), predicted.get(name, []))
        for stage in Stage
        for name, probe in at_stage(spec, stage).items()
        if name in true
    ]
    own = sequences(spec, inputs)
    label_names = _label_names(spec)
    components, shares = _components(states)
    return Trajectory(
        algorithm=algorithm,
        num_steps=len(states),
        num_true_steps=taken,
        nodes=_names(own, num_nodes_of(spec, inputs), names),
        labels=_labels(algorithm, spec, inputs, label_names),
        label_names=label_names,
        sequences=own,
        layouts=layouts(spec, inputs),
        edges=edges_of(spec, inputs),
        tracks=tracks,
        states=components,
        shares=shares,
        score=score,
    )


def _one(spec: Spec, algorithm: str, feedback: Feedback[Any], graph: int) -> Feedback[Tensor]:
    """One graph of `feedback` on the CPU, without padding and probes that are not in `spec`."""
    (inputs, hints, lengths), outputs = feedback
    for stage, given in ((Stage.INPUT, inputs), (Stage.HINT, hints), (Stage.OUTPUT, outputs)):
        for name in at_stage(spec, stage):
            if name not in given:
                raise UserError(f"expected the {stage} {name} of {algorithm}, given {', '.join(given) or 'none'}")
    if not 0 <= graph < len(lengths):
        raise UserError(f"expected one of {len(lengths)} trajectories, from 0, given {graph}")
    known = [
        {name: data for name, data in probes.items() if name in at_stage(spec, stage)}
        for stage, probes in zip(Stage, (inputs, hints, outputs), strict=True)
    ]
    feedback = Feedback(Features(known[0], known[1], lengths), known[2])
    return to_tensors(feedback.select(slice(graph, graph + 1)).map(_at_hand), spec)


def _at_hand(data: Any) -> NumpyArray:
    """Data of an array or of a tensor, wherever that is, as an array."""
    return np.asarray(data.cpu() if isinstance(data, Tensor) else data)


def _run(
    model: EncodeProcessDecode,
    spec: Spec,
    algorithm: str,
    feedback: Feedback[Tensor],
    num_steps: int,
    units: Units,
) -> tuple[dict[str, Values], list[Tensor], dict[str, float | None]]:
    """The predictions by probe, the node states after every step [N, H], and the outputs' scores."""
    states: list[Tensor] = []
    by_step: list[dict[str, Tensor]] = []
    with with_noise(model, None), evaluating(model):
        features = feedback.features.to(next(model.parameters()).device)
        for step in model.steps(algorithm, features, num_steps):
            states.append(step.node_states[0].cpu())
            by_step.append(step.hints)
        outputs = model.outputs(algorithm, step.states)
    hints = {name: torch.cat([hints[name] for hints in by_step]) for name in by_step[0]}
    logits = {name: x.cpu() for name, x in outputs.items()}
    values = {
        name: [_plain(spec[name], value) for value in _shown(name, data.cpu().numpy(), units)]
        for name, data in {**definite(spec, hints), **definite(spec, logits)}.items()
    }
    given = {name: [None, *data] if spec[name].stage is Stage.HINT else data for name, data in values.items()}
    score = scores(spec, counts(spec, logits, feedback.outputs))
    return given, states, {name: x if math.isfinite(x) else None for name, x in score.items()}


def _shown(name: str, data: NumpyArray, units: Units) -> NumpyArray:
    """The data of a probe in the units in which they are shown."""
    if name not in units:
        return data
    factor, shift = units[name]
    return data.astype(np.float64) * factor + shift


def _track(algorithm: str, name: str, probe: Probe, true: NumpyArray, predicted: Values) -> Track:
    """A probe along time, from its true values [T, ...]."""
    tolerance = _TOLERANCE * float(np.ptp(true)) if probe.type is Type.SCALAR and true.size else 0.0
    values = [_plain(probe, value) for value in true]
    return Track(name, probe, meaning(algorithm, name, probe), values, predicted, round(tolerance, DECIMALS))


def _plain(probe: Probe, value: NumpyArray) -> Any:
    """One value of a probe as a number or a list of numbers, None where it is not scored or no finite number."""
    flat = np.asarray(value).reshape(-1)
    if probe.type is Type.SCALAR:
        plain = [x if np.isfinite(x) else None for x in np.round(flat.astype(float), DECIMALS).tolist()]
    elif probe.type in (Type.MASK, Type.CATEGORICAL):
        plain = [None if x == MASKED else x for x in flat.astype(int).tolist()]
    else:
        plain = flat.astype(int).tolist()
    return plain[0] if probe.location is Location.GRAPH or probe.type is Type.MASK_ONE else plain


def _names(own: Sequence[Sequence[int]], num_nodes: int, names: Sequence[Hashable] | None) -> list[str]:
    """The nodes' names: those that a user gave, or their indices, or of two strings letters with the place in each."""
    if names is not None:
        if len(names) != num_nodes:
            raise UserError(f"expected one name for each of {num_nodes} nodes, given {len(names)}")
        return list(map(str, names))
    if len(own) == 1:
        return [str(node) for node in range(num_nodes)]
    found = [""] * num_nodes
    for letter, nodes in zip(string.ascii_uppercase, own, strict=False):
        for place, node in enumerate(nodes):
            found[node] = f"{letter}{place}"
    return found


def _label_names(spec: Spec) -> list[str]:
    """The inputs that are written into cells: numbers or classes of nodes, but not their positions."""
    shown = (Type.SCALAR, Type.CATEGORICAL)
    given = at_stage(spec, Stage.INPUT)
    names = [name for name, probe in given.items() if probe.location is Location.NODE and probe.type in shown]
    return [name for name in names if name not in ("pos", "x", "y")][:_MOST_LABELS]


def _labels(algorithm: str, spec: Spec, inputs: Mapping[str, NumpyArray], names: Sequence[str]) -> list[list[str]]:
    """What is written into each node's cell, line by line."""
    columns = []
    for name in names:
        classes = meaning(algorithm, name, spec[name]).classes
        columns.append([classes[int(x)] if classes else _short(float(x)) for x in inputs[name]])
    return [[column[node] for column in columns] for node in range(num_nodes_of(spec, inputs))]


def _short(x: float) -> str:
    """A number in few characters."""
    return f"{x:.0f}" if x == round(x) else f"{x:.2f}".replace("0.", ".", 1) if abs(x) < 1 else f"{x:.1f}"


def _components(states: Sequence[Tensor]) -> tuple[list[Any] | None, list[float]]:
    """Where the states [N, H] of every step are along their first two principal components, and these's shares."""
    points = torch.stack(list(states))
    flat = points.flatten(0, 1)
    if min(flat.shape) < 2 or not flat.isfinite().all():
        return None, []
    found = pca(flat)
    coordinates = found.coordinates(points)[..., :2]
    return np.round(coordinates.numpy(), DECIMALS).tolist(), np.round(found.shares[:2].numpy(), DECIMALS).tolist()
