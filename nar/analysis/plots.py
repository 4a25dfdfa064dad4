"""Pictures of latent spaces (see :mod:`nar.analysis.latents` and :mod:`nar.analysis.studies`)."""
# Axes: B trajectories, T steps, I instances, V variants of each (the first is the instance itself), H hidden.

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from nar.analysis.latents import Latents, distances
from nar.analysis.studies import Displacement, Sensitivity
from nar.files import replacing
from nar.ops.pca import PCA, pca

_DISTANCE = "Euclidean distance in latent space"
_PARAMETERS = {
    "scaling": "factor of all weights",
    "permutation": "share of pairs of nodes in another order",
    "reweighting": "part of distances in potentials",
}


def draw_pca(latents: Latents, title: str, path: Path) -> None:
    """Draw every trajectory as a point, and every step as a point: coloured by trajectory, and by step."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    figure.suptitle(title)
    by_trajectory, by_step, coloured = figure.subplots(1, 3)
    whole, points = latents.by_trajectory(), latents.by_step()
    of_whole, of_points = pca(whole), pca(points)
    places = of_whole.coordinates(whole)
    ranks = places[:, 0].argsort().argsort()
    colours = colormaps["turbo"]((ranks / max(1, len(ranks) - 1)).numpy())

    by_trajectory.scatter(places[:, 0], places[:, 1], color=colours, s=18)
    _label(by_trajectory, of_whole, "trajectories")
    lines = torch.split(of_points.coordinates(points), latents.num_steps.tolist())
    for line, colour in zip(lines, colours, strict=True):
        by_step.plot(line[:, 0], line[:, 1], color=colour, marker="o", markersize=2.5, linewidth=0.7, alpha=0.8)
    _label(by_step, of_points, "steps, coloured as the trajectories on the left")
    step = latents.is_own.nonzero()[:, 1] + 1
    places = of_points.coordinates(points)
    drawn = coloured.scatter(places[:, 0], places[:, 1], c=step, s=8, cmap="viridis")
    _label(coloured, of_points, "steps, coloured by step")
    ticks = sorted({1 + round(i * (int(step.max()) - 1) / 5) for i in range(6)})
    figure.colorbar(drawn, ax=coloured, label="step", ticks=ticks)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)


def _label(axes: Axes, components: PCA, title: str) -> None:
    shares = components.shares[:2].tolist()
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel(f"first component ({shares[0]:.1%} of the variance)")
    axes.set_ylabel(f"second component ({shares[1]:.1%})")
    axes.grid(alpha=0.3)


def draw_distances(latents: Latents, title: str, path: Path) -> None:
    """Draw how far states are from the last one, and how far each step takes them, within and beyond trajectories."""
    to_attractor, moved = distances(latents)[1:]
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    steps = torch.arange(1, to_attractor.shape[1] + 1)
    _draw_lines(left, [steps[:-1]] * len(moved), list(to_attractor[:, :-1]), latents.num_steps)
    left.set_title("to the last state of all", fontsize="medium")
    left.set_xlabel("step")
    _draw_lines(right, [steps - end for end in latents.num_steps], list(moved), latents.num_steps)
    right.set_title("of each step", fontsize="medium")
    right.set_xlabel("step, counted from the trajectory's end")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)


def _draw_lines(axes: Axes, x: Sequence[Tensor], y: Sequence[Tensor], num_steps: Tensor) -> None:
    """A line for each trajectory, from its end on in another colour, and the median over all that have the same x."""
    for i, (where, values, end) in enumerate(zip(x, y, num_steps.tolist(), strict=True)):
        own, beyond = ("within the trajectory", "continued beyond its end") if i == 0 else (None, None)
        axes.plot(where[:end], values[:end], color="tab:blue", linewidth=0.6, alpha=0.5, label=own)
        axes.plot(where[end - 1 :], values[end - 1 :], color="tab:orange", linewidth=0.6, alpha=0.5, label=beyond)
    all_x, all_y = torch.cat(list(x)), torch.cat(list(y))
    places = torch.unique(all_x)
    medians = torch.stack([all_y[all_x == place].median() for place in places])
    axes.plot(places, medians, color="black", linewidth=1.8, label="median")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_yscale("log")
    axes.set_ylabel(_DISTANCE)
    axes.grid(alpha=0.3)
    legend = axes.legend(fontsize="small")
    for line in legend.get_lines():
        line.set_linewidth(1.8)


def draw_sensitivity(results: Sequence[Sensitivity], title: str, path: Path) -> None:
    """Draw score against strength: of noise that has a scale, and of noise that has a number of directions."""
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    figure.suptitle(title)
    scaled, counted = figure.subplots(1, 2, sharey=True)
    (noisefree,) = (result.score for result in results if result.noise == "none")
    for axes, names, meaning in (
        (scaled, ("Uniform", "Directional", "Corrupt"), "scale of the noise"),
        (counted, ("Project", "Discard"), "number of directions kept (Project) or discarded (Discard)"),
    ):
        axes.axhline(noisefree, color="black", linestyle="--", linewidth=1, label="without noise")
        for name, marker in zip(names, "os^", strict=False):
            points = sorted((strength, score) for noise, strength, score in results if noise == name)
            axes.plot(*zip(*points, strict=True), marker=marker, alpha=0.8, label=name)
        axes.set_xlabel(meaning)
        axes.set_xscale("log", base=10 if axes is scaled else 2)
        ticks = sorted({strength for noise, strength, _ in results if noise in names})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    scaled.set_ylabel("score")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)


def draw_symmetries(studies: Mapping[str, tuple[Tensor, Tensor, Displacement]], title: str, path: Path) -> None:
    """Draw for each symmetry where instances and their variants are, and how far the variants are from the instances.

    Args:
        studies: By symmetry: states of the graphs [I, 1 + V, T, H], parameters of the variants [I, V], and how far they
            are (see :func:`nar.analysis.studies.displacement`).
        title: Of the picture.
        path: Where to write it.
    """
    figure = Figure(figsize=(15, 8.5), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(2, len(studies), squeeze=False)
    for (name, (states, parameters, displaced)), above, below in zip(studies.items(), *panels, strict=True):
        _draw_instances(above, states, name)
        for i, (x, y) in enumerate(zip(parameters, displaced.relative[:, 1:], strict=True)):
            below.scatter(x, y, color=f"C{i % 10}", s=14, alpha=0.8)
        if name == "scaling":
            below.set_xscale("log", base=2)
            below.xaxis.set_major_formatter("{x:g}")
        below.set_xlabel(_PARAMETERS[name])
        below.set_ylim(bottom=0)
        below.grid(alpha=0.3)
    panels[1, 0].set_ylabel("distance to the instance, in units of\nthe mean distance between instances")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)


def _draw_instances(axes: Axes, states: Tensor, title: str) -> None:
    """Every trajectory of the states [I, 1 + V, T, H] as a point, coloured by instance."""
    points = states.flatten(2)
    components = pca(points.flatten(0, 1))
    for i, places in enumerate(components.coordinates(points)):
        axes.scatter(places[1:, 0], places[1:, 1], color=f"C{i % 10}", s=14, alpha=0.7)
        x, y = places[0, :2]
        axes.scatter(x, y, color=f"C{i % 10}", marker="*", s=170, edgecolor="black", linewidth=0.8, zorder=3)
    _label(axes, components, f"{title} (stars: the instances themselves)")
