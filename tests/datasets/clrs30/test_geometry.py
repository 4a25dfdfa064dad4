"""Segments and hulls, beside exact rationals, Qhull and, on odd inputs, dm-clrs."""

import math
from collections.abc import Iterator
from copy import deepcopy
from fractions import Fraction
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from engine import assert_equals_dm_clrs, by_hand
from scipy.spatial import ConvexHull

from nar.batch import NumpyArray
from nar.datasets.clrs30.geometry import GEOMETRY, any_collinear, draw_points
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.engine.algorithm import trajectories, truncated
from nar.errors import UserError

HULLS = ("graham_scan", "jarvis_march")

every_hull = pytest.mark.parametrize("name", HULLS)


def coordinates(*points: tuple[float, float]) -> tuple[NumpyArray, NumpyArray]:
    """The points' x and y."""
    return np.array([float(x) for x, _ in points]), np.array([float(y) for _, y in points])


def in_hull(name: str, *points: tuple[float, float]) -> list[int]:
    """Which of the points are found on the hull."""
    mask: list[int] = by_hand(name, *coordinates(*points)).outputs["in_hull"][0].tolist()
    return mask


def meet(xs: NumpyArray, ys: NumpyArray) -> bool:
    """Whether the segments a + t r and c + u s, with t and u from 0 to 1, have a point in common: exact."""
    a, b, c, d = ((Fraction(x), Fraction(y)) for x, y in zip(xs.tolist(), ys.tolist(), strict=True))
    r, s, offset = ((end[0] - start[0], end[1] - start[1]) for start, end in ((a, b), (c, d), (a, c)))

    def cross(v: tuple[Fraction, Fraction], w: tuple[Fraction, Fraction]) -> Fraction:
        return v[0] * w[1] - v[1] * w[0]

    if cross(r, s):
        return 0 <= cross(offset, s) / cross(r, s) <= 1 and 0 <= cross(offset, r) / cross(r, s) <= 1
    if cross(offset, r) or cross(offset, s):
        return False
    return all(max(min(a[i], b[i]), min(c[i], d[i])) <= min(max(a[i], b[i]), max(c[i], d[i])) for i in (0, 1))


def segments_on_a_grid() -> Iterator[tuple[NumpyArray, NumpyArray]]:
    """Segments that touch, overlap, are parallel or have no length."""
    rng = np.random.RandomState(0)
    for _ in range(500):
        yield rng.randint(0, 3, 4).astype(float), rng.randint(0, 3, 4).astype(float)


@pytest.mark.parametrize("args", [{}, {"low": -3.0, "high": 5.0}])
def test_segments_intersect_where_they_do_exactly(args: dict[str, Any]) -> None:
    rng = np.random.RandomState(0)
    (inputs, _, _), outputs = trajectories(CLRS_30["segments_intersect"], num_nodes=4, num_samples=500, rng=rng, **args)
    exact = [meet(xs, ys) for xs, ys in zip(inputs["x"], inputs["y"], strict=True)]
    assert outputs["intersect"].tolist() == exact
    assert 0.4 < np.mean(exact) < 0.6


def test_touching_overlapping_and_parallel_segments_intersect_where_they_do_exactly() -> None:
    drawn = list(segments_on_a_grid())
    found = [by_hand("segments_intersect", xs, ys).outputs["intersect"][0] for xs, ys in drawn]
    assert found == [meet(xs, ys) for xs, ys in drawn]


def test_touching_overlapping_and_parallel_segments_equal_dm_clrs(clrs: Any) -> None:
    for xs, ys in segments_on_a_grid():
        assert_equals_dm_clrs(clrs, "segments_intersect", xs, ys)


@every_hull
@pytest.mark.parametrize("num_nodes", [3, 4, 16, 100, 512])
def test_the_hull_is_that_of_qhull(name: str, num_nodes: int) -> None:
    rng = np.random.RandomState(num_nodes)
    (inputs, _, _), outputs = trajectories(CLRS_30[name], num_nodes=num_nodes, num_samples=4, rng=rng, hints="none")
    for xs, ys, mask in zip(inputs["x"], inputs["y"], outputs["in_hull"], strict=True):
        assert np.flatnonzero(mask).tolist() == sorted(ConvexHull(np.stack([xs, ys], 1)).vertices)


@every_hull
def test_points_inside_a_triangle_are_not_on_its_hull(name: str) -> None:
    assert in_hull(name, (1, 1), (0, 0), (9, 1), (2, 1), (1, 9), (3, 2)) == [0, 1, 1, 0, 1, 0]


@every_hull
@pytest.mark.parametrize("points", [[(3, 4)], [(0, 0), (1, 1)], [(1, 1), (0, 0)], [(2, 0), (1, 0)]])
def test_one_or_two_points_are_their_own_hull(name: str, points: list[tuple[float, float]]) -> None:
    assert in_hull(name, *points) == [1] * len(points)


@every_hull
def test_points_on_a_circle_are_all_on_the_hull(name: str) -> None:
    points = [(math.cos(angle), math.sin(angle)) for angle in range(50)]
    assert in_hull(name, *points) == [1] * 50


@every_hull
@pytest.mark.parametrize("points", [[(0, 0), (1, 1)], [(0, 0), (2, 0), (1, 1)], [(1, -0.0), (-1, 0.0), (0, 2), (0, 1)]])
def test_few_points_equal_dm_clrs(clrs: Any, name: str, points: list[tuple[float, float]]) -> None:
    assert_equals_dm_clrs(clrs, name, *coordinates(*points))


@every_hull
def test_points_at_equal_angles_equal_dm_clrs(clrs: Any, name: str) -> None:
    rng = np.random.RandomState(0)
    for num_nodes in (4, 9, 20, 40):
        fan = [(0, 0), (99, 0), *rng.permutation(list(product(range(-5, 6), range(1, 6))))[: num_nodes - 2]]
        assert_equals_dm_clrs(clrs, name, *coordinates(*rng.permutation(fan)))


def test_jarvis_march_on_a_grid_equals_dm_clrs(clrs: Any) -> None:
    rng = np.random.RandomState(0)
    for num_nodes in (*range(2, 12), 25):
        for size in (1, 2, 4):
            xs, ys = rng.randint(0, size, (2, num_nodes)).astype(float)
            assert_equals_dm_clrs(clrs, "jarvis_march", xs, ys)


def test_graham_scan_refuses_what_would_never_end() -> None:
    with pytest.raises(UserError, match="three points are on one line"):
        in_hull("graham_scan", (0, 0), (1, 1), (2, 2), (3, 3))


def test_graham_scan_ends_on_a_grid() -> None:
    rng = np.random.RandomState(0)
    ends = []
    for _ in range(300):
        points = rng.randint(0, 5, (rng.randint(2, 12), 2)).tolist()
        try:
            in_hull("graham_scan", *points)
            ends.append("hull")
        except UserError:
            lines = combinations(points, 3)
            assert any((b[0] - a[0]) * (c[1] - a[1]) == (b[1] - a[1]) * (c[0] - a[0]) for a, b, c in lines)
            ends.append("line")
    assert set(ends) == {"hull", "line"}


@pytest.mark.parametrize("truncate_decimals", [None, 2])
def test_collinearity_is_decided_to_the_last_bit_as_by_dm_clrs(clrs: Any, truncate_decimals: int | None) -> None:
    for seed in range(10):
        xs, ys = draw_points(np.random.RandomState(seed), 9, truncate_decimals=truncate_decimals)
        smallest = min(
            abs((xs[j] - xs[i]) * (ys[k] - ys[i]) - (ys[j] - ys[i]) * (xs[k] - xs[i]))
            for i, j, k in combinations(range(len(xs)), 3)
        )
        for eps in (smallest, np.nextafter(smallest, 1)):
            theirs = [
                clrs._src.samplers._is_collinear(*points, eps) for points in combinations(np.stack([xs, ys], 1), 3)
            ]
            assert any_collinear(xs, ys, eps) == any(theirs) == (eps > smallest)


@pytest.mark.parametrize("line", [(0, 1, 2), (0, 150, 299), (297, 298, 299), (298, 3, 77)])
def test_three_points_on_one_line_are_found_wherever_they_are(line: tuple[int, int, int]) -> None:
    xs, ys = draw_points(np.random.RandomState(0), 300)
    assert not any_collinear(xs, ys, 1e-12)
    i, j, k = line
    xs[k], ys[k] = (xs[i] + xs[j]) / 2, (ys[i] + ys[j]) / 2
    assert any_collinear(xs, ys, 1e-12)


def test_no_three_points_are_on_one_line_after_they_are_cut() -> None:
    rng = np.random.RandomState(0)
    for _ in range(50):
        drawn = draw_points(rng, 8, truncate_decimals=1)
        points = [(round(10 * x), round(10 * y)) for x, y in zip(*drawn, strict=True)]
        for a, b, c in combinations(points, 3):
            assert (b[0] - a[0]) * (c[1] - a[1]) != (b[1] - a[1]) * (c[0] - a[0])


def test_points_that_are_cut_are_those_of_dm_clrs(clrs: Any) -> None:
    for seed in range(5):
        drawn = draw_points(np.random.RandomState(seed), 8, truncate_decimals=1)
        sampler, _ = clrs.build_sampler("jarvis_march", 1, seed=seed, length=8, truncate_decimals=1)
        _, xs, ys = (point.data[0] for point in sampler.next().features.inputs)
        assert [truncated(values, 1).tolist() for values in drawn] == [xs.tolist(), ys.tolist()]  # they are cut twice


def test_points_are_drawn_from_the_disk() -> None:
    xs, ys = draw_points(np.random.RandomState(0), 1024, origin_x=3.0, origin_y=-1.0, radius=0.5)
    distances = np.hypot(xs - 3, ys + 1)
    assert distances.max() <= 0.5
    assert (distances < 0.25).mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("attempts", [0, 3])
def test_points_that_cannot_be_had_are_refused(attempts: int) -> None:
    with pytest.raises(UserError, match=f"in {attempts} attempts, 30 points"):
        draw_points(
            np.random.RandomState(0), 30, truncate_decimals=1, collinearity_resampling_attempts=attempts, radius=0.3
        )


@pytest.mark.parametrize("name", GEOMETRY)
def test_the_points_stay_as_they_are(name: str) -> None:
    drawn = GEOMETRY[name].draw(np.random.RandomState(0), 20)
    before = deepcopy(drawn)
    by_hand(name, *drawn)
    assert all(map(np.array_equal, drawn, before))
