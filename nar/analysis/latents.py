"""The latent space of a model: what node states do while an algorithm runs.

Source: Mirjanić et al., "Latent Space Representations of Neural Algorithmic Reasoners", LoG 2023, and the plots of its
experiments, which have every trajectory as one point, or every step of every trajectory.

The state of a graph is the maximum over its nodes' states, as where decoders read out graphs: of the paper it is only
known here that there is one state for each graph and step.
"""
# Axes: B trajectories, N nodes, H hidden, T steps, P (trajectory, step) pairs.

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nar.batch import Batch, Key, num_steps_of
from nar.model.evaluating import evaluating, with_noise
from nar.model.unroll import EncodeProcessDecode


class Latents(NamedTuple):
    """The states of trajectories of one algorithm and size, on the CPU.

    Attributes:
        hidden: Of the nodes after each of a trajectory's own steps, one trajectory after the other, [P, N, H].
        num_steps: How many steps each trajectory has, [B].
        graph_hidden: Of the graphs: the maximum over nodes after every step, [B, T, H]. All trajectories are gone on
            with beyond their own end until they have had T steps.
    """

    hidden: Tensor
    num_steps: Tensor
    graph_hidden: Tensor

    @property
    def is_own(self) -> Tensor:
        """Whether a step is one of the trajectory's own, and not beyond its end, [B, T]."""
        return torch.arange(self.graph_hidden.shape[1]) < self.num_steps[:, None]

    def by_step(self) -> Tensor:
        """Every own step of every trajectory as a point, one trajectory after the other, [P, H]."""
        return self.graph_hidden[self.is_own]

    def by_trajectory(self) -> Tensor:
        """Every trajectory as a point: its states up to the end of the longest side by side, [B, longest · H]."""
        return self.graph_hidden[:, : int(self.num_steps.max())].flatten(1)


def collect(model: EncodeProcessDecode, batches: Sequence[Batch], *, num_extra_steps: int = 0) -> Latents:
    """The states of a model in evaluation mode, without noise, in the order of the trajectories.

    Args:
        model: It is left as it was.
        batches: Of one algorithm and size.
        num_extra_steps: For how many steps all go on after the end of the longest.

    Raises:
        ValueError: If the number is negative, or there is no batch.
    """
    if num_extra_steps < 0 or not batches:
        raise ValueError(f"expected batches and num_extra_steps ≥ 0, given {len(batches)} and {num_extra_steps}")
    longest = max(int(num_steps_of(batch.feedback.features.lengths).max()) for batch in batches)
    with with_noise(model, None), evaluating(model):
        parts = [_collected(model, batch, longest + num_extra_steps) for batch in batches]
    return Latents(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _collected(model: EncodeProcessDecode, batch: Batch, num_steps: int) -> Latents:
    """The states of a batch whose trajectories all have so many steps, most of them beyond their own end."""
    features = batch.feedback.features.to(next(model.parameters()).device)
    own = num_steps_of(features.lengths).cpu()
    by_step: list[Tensor] = []
    maxima: list[Tensor] = []

    for step in model.steps(batch.algorithm, features, num_steps):
        in_order = step.node_states[step.graphs.argsort()].cpu()
        maxima.append(in_order.amax(dim=1))
        if len(by_step) < own.max():
            by_step.append(in_order)
    hidden = torch.stack(by_step, dim=1)[torch.arange(len(by_step)) < own[:, None]]
    return Latents(hidden, own, torch.stack(maxima, dim=1))


class Distances(NamedTuple):
    """Euclidean distances between states of the same graph, by step, [B, T] each.

    Attributes:
        to_end: To the state at the trajectory's own end.
        to_attractor: To the last state of all, beyond that end.
        moved: To the state one step earlier; before the first step it is 0.
    """

    to_end: Tensor
    to_attractor: Tensor
    moved: Tensor


def distances(latents: Latents) -> Distances:
    """How far the states of the graphs are from where they settle, if they do, and how far each step takes them."""
    states = latents.graph_hidden
    end = states[torch.arange(len(states)), latents.num_steps - 1]
    earlier = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
    return Distances(*((states - other).norm(dim=-1) for other in (end[:, None], states[:, -1:], earlier)))


def first_of_each(batches: Iterable[Batch], number: int) -> dict[Key, list[Batch]]:
    """By algorithm and size the batches of the first so many trajectories, the last of them cut where these end."""
    taken: dict[Key, list[Batch]] = defaultdict(list)
    for batch in batches:
        own = taken[batch.key]
        missing = number - sum(len(other.feedback.features.lengths) for other in own)
        if missing > 0:
            own.append(batch.select(slice(missing)))
    return dict(taken)
