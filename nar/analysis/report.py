"""All that is known of a model's latent space in one folder, as data and as pictures."""
# Axes: B trajectories, I instances, V variants of each, T steps, H hidden.

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from nar.analysis.latents import Latents, collect, distances
from nar.analysis.plots import draw_distances, draw_pca, draw_sensitivity, draw_symmetries
from nar.analysis.studies import Displacement, Sensitivity, displacement, sensitivity
from nar.batch import Batch, Key, NumpyArray
from nar.files import replacing, replacing_text
from nar.model.unroll import EncodeProcessDecode
from nar.ops.pca import pca
from nar.specs import Spec


class _Report:
    """Writes files into a folder, and lists them in `paths`.

    Args:
        folder: It is made if it is not there. What it has of the same names is replaced.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.paths: list[Path] = []

    def path(self, name: str) -> Path:
        """The path of a file that is about to be written."""
        self.paths.append(self.folder / name)
        return self.paths[-1]

    def table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write a CSV file."""
        with replacing_text(self.path(name)) as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)


def write_latents(
    model: EncodeProcessDecode,
    specs: Mapping[str, Spec],
    batches: Mapping[Key, Sequence[Batch]],
    studies: Mapping[int, Mapping[str, tuple[Batch, NumpyArray]]],
    folder: Path,
    *,
    num_extra_steps: int,
) -> list[Path]:
    """Write the states of a model, their principal components, where they settle, and what disturbs them.

    Args:
        model: It is left as it was.
        specs: The spec of each algorithm by name.
        batches: By algorithm and size.
        studies: Instances of Bellman-Ford and their variants by size and symmetry, as
            :func:`nar.datasets.clrs30.symmetries.study` makes them.
        folder: Where to.
        num_extra_steps: For how many steps trajectories go on after the end of the longest.

    Returns:
        The paths of the files.

    Raises:
        ValueError: If there are fewer than two trajectories or dimensions, or states are not finite.
        OSError: If the folder cannot be written.
    """
    report = _Report(folder)
    latents = {key: collect(model, given, num_extra_steps=num_extra_steps) for key, given in batches.items()}
    _write_states(report, latents)
    _write_pca(report, latents)
    _write_distances(report, latents)
    under_noise = {}
    for (algorithm, num_nodes), given in batches.items():
        directions = report.path(f"directions_{algorithm}_{num_nodes}.safetensors")
        components = pca(latents[algorithm, num_nodes].by_step()).components
        with replacing(directions) as file:
            file.write(save({"directions": components.float().contiguous()}))
        under_noise[algorithm, num_nodes] = sensitivity(model, specs[algorithm], given, directions)
    _write_sensitivity(report, under_noise)
    if studies:
        _write_symmetries(report, {size: _studied(model, by_symmetry) for size, by_symmetry in studies.items()})
    return report.paths


def _write_states(report: _Report, latents: Mapping[Key, Latents]) -> None:
    """Write ``latents.safetensors``: each :class:`~nar.analysis.latents.Latents`, its fields as ``bfs_16.hidden`` …."""
    tensors = {
        f"{algorithm}_{num_nodes}.{name}": tensor.contiguous()
        for (algorithm, num_nodes), states in latents.items()
        for name, tensor in states._asdict().items()
    }
    with replacing(report.path("latents.safetensors")) as file:
        file.write(save(tensors))


def _write_pca(report: _Report, latents: Mapping[Key, Latents]) -> None:
    """Write the variance along every component, where the points lie along the first two, and pictures."""
    variances: list[Sequence[Any]] = []
    places: list[Sequence[Any]] = []
    for key, states in latents.items():
        trajectories = [(i, "") for i in range(len(states.num_steps))]
        steps = [(i, step + 1) for i, step in states.is_own.nonzero().tolist()]
        for name, points, whose in (
            ("trajectories", states.by_trajectory(), trajectories),
            ("steps", states.by_step(), steps),
        ):
            found = pca(points)
            pairs = zip(found.variances.tolist(), found.shares.tolist(), strict=True)
            variances += [(*key, name, i + 1, *pair) for i, pair in enumerate(pairs)]
            plane = found.coordinates(points)[:, :2].tolist()
            places += [(*key, name, *owner, *place) for owner, place in zip(whose, plane, strict=True)]
        draw_pca(states, title(key), report.path(f"pca_{key[0]}_{key[1]}.png"))
    of_key = ("algorithm", "num_nodes", "points")
    report.table("pca_variances.csv", (*of_key, "component", "variance", "share"), variances)
    report.table("pca_points.csv", (*of_key, "trajectory", "step", "first", "second"), places)


def _write_distances(report: _Report, latents: Mapping[Key, Latents]) -> None:
    """Write how far every state is from the end, from the last one and from the one before; and pictures."""
    rows: list[Sequence[Any]] = []
    for key, states in latents.items():
        values = torch.stack(list(distances(states)), dim=-1).tolist()
        for i, is_own in enumerate(states.is_own.int().tolist()):
            rows += [(*key, i, step + 1, own, *values[i][step]) for step, own in enumerate(is_own)]
        draw_distances(states, title(key), report.path(f"attractors_{key[0]}_{key[1]}.png"))
    header = ("algorithm", "num_nodes", "trajectory", "step", "is_own", "to_end", "to_attractor", "moved")
    report.table("attractors.csv", header, rows)


def _write_sensitivity(report: _Report, results: Mapping[Key, Sequence[Sensitivity]]) -> None:
    """Write the score under every noise, and pictures."""
    for key, found in results.items():
        draw_sensitivity(found, title(key), report.path(f"noise_{key[0]}_{key[1]}.png"))
    rows = [(*key, *result) for key, found in results.items() for result in found]
    report.table("noise.csv", ("algorithm", "num_nodes", *Sensitivity._fields), rows)


def _write_symmetries(
    report: _Report, by_size: Mapping[int, Mapping[str, tuple[Tensor, Tensor, Displacement]]]
) -> None:
    """Write how far variants of instances of Bellman-Ford are from these, and pictures."""
    rows: list[Sequence[Any]] = []
    for num_nodes, studies in by_size.items():
        for symmetry, (_, parameters, displaced) in studies.items():
            of_variants = [parameters, displaced.of_variants[:, 1:], displaced.relative[:, 1:]]
            for i, of_instance in enumerate(torch.stack(of_variants, dim=-1).tolist()):
                rows += [(num_nodes, symmetry, i, variant, *values) for variant, values in enumerate(of_instance)]
        path = report.path(f"symmetries_bellman_ford_{num_nodes}.png")
        draw_symmetries(studies, title(("bellman_ford", num_nodes)), path)
    header = ("num_nodes", "symmetry", "instance", "variant", "parameter", "distance", "relative_distance")
    report.table("symmetries_bellman_ford.csv", header, rows)


def _studied(
    model: EncodeProcessDecode, by_symmetry: Mapping[str, tuple[Batch, NumpyArray]]
) -> dict[str, tuple[Tensor, Tensor, Displacement]]:
    """By symmetry: states of the graphs [I, 1 + V, T, H], the variants' parameters, and how far these are displaced."""
    studied = {}
    for symmetry, (batch, parameters) in by_symmetry.items():
        num_instances, num_variants = parameters.shape
        size = 1 + num_variants
        instances = [batch.select(slice(i * size, (i + 1) * size)) for i in range(num_instances)]
        states = collect(model, instances).graph_hidden
        states = states.reshape(num_instances, size, *states.shape[1:])
        studied[symmetry] = (states, torch.as_tensor(parameters), displacement(states))
    return studied


def title(key: Key) -> str:
    """The title of a picture: an algorithm and a size."""
    return f"{key[0]}, n = {key[1]}"
