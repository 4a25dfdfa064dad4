"""What disturbs a latent space: noise, and other instances of the same problem.

Source: Mirjanić et al., "Latent Space Representations of Neural Algorithmic Reasoners", LoG 2023.
"""
# Axes: I instances, V variants of each (the first is the instance itself), T steps, H hidden.

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from nar.batch import Batch
from nar.model.evaluating import evaluating, with_noise
from nar.model.metrics import counts, scores
from nar.model.unroll import EncodeProcessDecode
from nar.noise import AlongDirections, Corrupt, Directional, Discard, Noise, Project, Uniform
from nar.specs import Spec

SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
_NUM_SHOWN = 2  # directions that make the plane of pictures
_SEED = 0  # of what noise draws


class Sensitivity(NamedTuple):
    """The score of a model under one noise.

    Attributes:
        noise: Its name; ``none`` for no noise.
        strength: Its scale; of ``Project`` the number of directions that are left, of ``Discard`` of those that are
            taken away; 0 for no noise.
        score: The mean over outputs.
    """

    noise: str
    strength: float
    score: float


def sensitivity(
    model: EncodeProcessDecode, spec: Spec, batches: Sequence[Batch], directions: Path
) -> list[Sensitivity]:
    """The scores of a model in evaluation mode without noise, and under each kind of noise at several strengths.

    Args:
        model: It is left as it was; what torch's generator would draw next is, too.
        spec: The algorithm's probes.
        batches: Of one algorithm and size.
        directions: A safetensors file as in :class:`nar.noise.AlongDirections`, the most important direction first.
    """
    results = [Sensitivity("none", 0, score_with_noise(None, model, spec, batches))]
    for strength, noise in _kinds_of_noise(directions):
        results.append(Sensitivity(type(noise).__name__, strength, score_with_noise(noise, model, spec, batches)))
    return results


def _kinds_of_noise(directions: Path) -> Iterator[tuple[float, Noise]]:
    """Every kind of noise at every strength; ``Directional`` is along the directions that pictures show."""
    path = str(directions)
    for scale in SCALES:
        yield scale, Uniform(scale)
        yield scale, _with_directions(_NUM_SHOWN, Directional(path, scale))
        yield scale, Corrupt(scale)
    hidden_dim = len(Project(path).directions)
    for number in (2**i for i in range(hidden_dim.bit_length())):
        yield number, _with_directions(number, Project(path))
        yield number, _with_directions(number, Discard(path))


def _with_directions(number: int, noise: AlongDirections) -> Noise:
    """A noise along the first `number` of its directions alone."""
    noise.directions = noise.directions[:number]
    return noise


def score_with_noise(noise: Noise | None, model: EncodeProcessDecode, spec: Spec, batches: Sequence[Batch]) -> float:
    """The mean over outputs of the score, pooled over the batches; noise is drawn from the same seed every time."""
    device = next(model.parameters()).device
    total: dict[str, Tensor] = {}
    placed = None if noise is None else noise.to(device)
    with with_noise(model, placed), evaluating(model), torch.random.fork_rng():
        torch.manual_seed(_SEED)
        for batch in batches:
            features = batch.feedback.features.to(device)
            outputs = model(batch.algorithm, features, with_hints=False).outputs
            new = counts(spec, {name: logits.cpu() for name, logits in outputs.items()}, batch.feedback.outputs)
            total = {name: total.get(name, 0) + count for name, count in new.items()}
    return scores(spec, total)["score"]


class Displacement(NamedTuple):
    """How far the variants of instances are from these in latent space.

    Attributes:
        of_variants: Root mean square over steps of the distance of each variant to its instance, [I, V].
        between: The same between two different instances, on the average over all pairs, [].
    """

    of_variants: Tensor
    between: Tensor

    @property
    def relative(self) -> Tensor:
        """How far variants are, in units of how far different instances are from one another, [I, V]."""
        return self.of_variants / self.between


def displacement(graph_hidden: Tensor) -> Displacement:
    """How far variants are from their instances in latent space, and the instances from one another.

    Args:
        graph_hidden: States of the graphs (see :class:`nar.analysis.latents.Latents`), [I, V, T, H], with I at least 2.
    """
    instances = graph_hidden[:, 0]
    of_variants = _distance(graph_hidden, instances[:, None])
    pairs = torch.combinations(torch.arange(len(instances)))
    return Displacement(of_variants, _distance(instances[pairs[:, 0]], instances[pairs[:, 1]]).mean())


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """The root mean square over T of the Euclidean distance between states [..., T, H], [...]."""
    return (one - other).square().sum(dim=-1).mean(dim=-1).sqrt()
