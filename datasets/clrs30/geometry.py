"""Geometry: intersecting segments and two ways to the convex hull, Graham's scan and Jarvis's march.

Source: Cormen et al., "Introduction to Algorithms"; ``clrs/_src/algorithms/geometry.py`` of dm-clrs 2.0.3, whose probes
these are.
"""
# xs and ys hold the points' coordinates. Segments are from point 0 to point 1 and from point 2 to point 3.

import math
from typing import Any

import numpy as np
from numba import njit

from nar.batch import NumpyArray
from nar.datasets.clrs30.given import array_of
from nar.datasets.clrs30.known import InText, KnownAlgorithm, table
from nar.datasets.engine.algorithm import positions, truncated
from nar.datasets.engine.trace import Trace, record
from nar.errors import UserError

MAX_DRAWS = 10_000  # of which a quarter or so cross

_FLAT = 1e-14
"""Twice the area of a triangle, in squares that hold all points, below which rounding decides which way it turns."""


def _draw_segments(
    rng: np.random.RandomState, num_nodes: int, *, low: float = 0.0, high: float = 1.0
) -> tuple[NumpyArray, NumpyArray]:
    """Four points drawn uniformly from [low, high)², again until their segments intersect or not, as a coin decides.

    Raises:
        UserError: If none do, for the numbers in between are too large or too small to be multiplied.
    """
    coin = rng.binomial(1, 0.5)
    for _ in range(MAX_DRAWS):
        xs, ys = rng.uniform(low, high, (2, 4))
        if _segments_cross(xs, ys) == coin:
            return xs, ys
    raise UserError(f"expected low and high between which segments can cross, given {low} and {high}")


def _take_segments(num_nodes: int, xs: Any, ys: Any) -> tuple[NumpyArray, NumpyArray]:
    """The ends of two segments, whatever size is asked for."""
    return array_of("xs", xs, (4,)), array_of("ys", ys, (4,))


@njit(cache=True)
def _segments_cross(xs: NumpyArray, ys: NumpyArray) -> bool:
    """Whether the segments 01 and 23 intersect, if no three of their ends are on one line."""
    around_23 = _turns_left(xs, ys, 0, 2, 3) != _turns_left(xs, ys, 1, 2, 3)
    around_01 = _turns_left(xs, ys, 0, 1, 2) != _turns_left(xs, ys, 0, 1, 3)
    return around_23 and around_01


@njit(cache=True)
def _turns_left(xs: NumpyArray, ys: NumpyArray, i: int, j: int, k: int) -> bool:
    """Whether the path from point i over j to k turns left."""
    return direction(xs, ys, i, j, k) < 0


@njit(cache=True)
def direction(xs: NumpyArray, ys: NumpyArray, i: int, j: int, k: int) -> float:
    """Negative if the path from point i over j to k turns left, positive if it turns right."""
    turn: float = (xs[k] - xs[i]) * (ys[j] - ys[i]) - (xs[j] - xs[i]) * (ys[k] - ys[i])
    return turn


def draw_points(
    rng: np.random.RandomState,
    num_nodes: int,
    *,
    origin_x: float = 0.0,
    origin_y: float = 0.0,
    radius: float = 2.0,
    collinearity_resampling_attempts: int = 1000,
    collineararity_eps: float = 1e-12,
    truncate_decimals: int | None = None,
) -> tuple[NumpyArray, NumpyArray]:
    """Points drawn uniformly from a disk, again until no three are on one line.

    Args:
        rng: What draws.
        num_nodes: How many points.
        origin_x: First coordinate of the disk's centre.
        origin_y: Second coordinate of the disk's centre.
        radius: That of the disk.
        collinearity_resampling_attempts: How often to draw at most.
        collineararity_eps: Three points are on one line if twice the area of their triangle is below this.
        truncate_decimals: To how many decimals to cut coordinates before that is checked; None or 0 for not at all.

    Raises:
        UserError: If no attempt succeeds.
    """
    for _ in range(collinearity_resampling_attempts):
        thetas = rng.uniform(0.0, 2.0 * np.pi, num_nodes)
        rs = radius * np.sqrt(rng.uniform(0.0, 1.0, num_nodes))
        xs = rs * np.cos(thetas) + origin_x
        ys = rs * np.sin(thetas) + origin_y
        if truncate_decimals:
            xs, ys = truncated(xs, truncate_decimals), truncated(ys, truncate_decimals)
        if not any_collinear(xs, ys, float(collineararity_eps)):
            return xs, ys
    raise UserError(
        f"in {collinearity_resampling_attempts} attempts, {num_nodes} points always had three on one line: ask for "
        "fewer of them or for more decimals"
    )


def _take_points(num_nodes: int, xs: Any, ys: Any) -> tuple[NumpyArray, NumpyArray]:
    """Points of which no three are on one line: else a hull depends on rounding, and Graham's scan might not end."""
    xs, ys = array_of("xs", xs, (num_nodes,)), array_of("ys", ys, (num_nodes,))
    extent = max(np.ptp(xs), np.ptp(ys))
    if len(np.unique(xs + 1j * ys)) < num_nodes:
        raise UserError("expected points that all differ, given two that are the same")
    if any_collinear(xs, ys, _FLAT * extent**2):
        raise UserError("expected no three points on one line, given some that are")
    return xs, ys


@njit(cache=True)
def any_collinear(xs: NumpyArray, ys: NumpyArray, eps: float) -> bool:
    """Whether twice the area of any triangle is below `eps`."""
    for i in range(len(xs)):
        dx, dy = xs[i + 1 :] - xs[i], ys[i + 1 :] - ys[i]
        found = False
        for k in range(len(dx)):
            for j in range(k):  # with no way out, so that several are computed at once: 1024 points take 0.03 s
                found |= abs(dx[j] * dy[k] - dy[j] * dx[k]) < eps
        if found:
            return True
    return False


def _point_inputs(xs: NumpyArray, ys: NumpyArray) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """``pos``, ``x`` and ``y``."""
    return positions(len(xs)), xs, ys


@njit(cache=True)
def segments_intersect(xs: NumpyArray, ys: NumpyArray, trace: Trace) -> tuple[bool]:
    """Whether two segments intersect: the ends of each are on opposite sides of the other, or one of them on it."""
    dirs, on_seg = np.zeros(4), np.zeros(4)
    record(trace, 0, 0, 0, dirs, on_seg)
    for i, j, k in ((2, 3, 0), (2, 3, 1), (0, 1, 2), (0, 1, 3)):
        dirs[k] = direction(xs, ys, i, j, k)
        on_seg[k] = _in_box(xs, ys, i, j, k)
        record(trace, i, j, k, dirs, on_seg)
    crossing = opposite(dirs[0], dirs[1]) and opposite(dirs[2], dirs[3])
    touching = bool(np.any((dirs == 0) & (on_seg == 1)))
    return (crossing or touching,)


@njit(cache=True)
def _in_box(xs: NumpyArray, ys: NumpyArray, i: int, j: int, k: int) -> bool:
    """Whether the point k, if on the line through i and j, is between them."""
    in_x: bool = min(xs[i], xs[j]) <= xs[k] <= max(xs[i], xs[j])
    in_y: bool = min(ys[i], ys[j]) <= ys[k] <= max(ys[i], ys[j])
    return in_x and in_y


@njit(cache=True)
def opposite(a: float, b: float) -> bool:
    """Whether one of two numbers is positive and the other negative."""
    return a > 0 > b or a < 0 < b


@njit(cache=True)
def lowest(xs: NumpyArray, ys: NumpyArray) -> int:
    """The lowest point, and the leftmost of these."""
    best = 0
    for i in range(len(xs)):
        if ys[i] < ys[best] or (ys[i] == ys[best] and xs[i] < xs[best]):
            best = i
    return best


def graham_scan(xs: NumpyArray, ys: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """Walk around the lowest point in the order of the angles seen from there, and drop what makes no left turn.

    Angles come from Python and their order from NumPy, for the last bit and the order of equal ones differ elsewhere.
    """
    best = lowest(xs, ys)
    atans = np.array(list(map(math.atan2, ys - ys[best], xs - xs[best])))
    keys = atans.copy()
    keys[best] = -1  # angles are in [0, π]
    return scan(xs, ys, best, atans, np.argsort(keys), trace)


@njit(cache=True)
def scan(
    xs: NumpyArray, ys: NumpyArray, best: int, atans: NumpyArray, order: NumpyArray, trace: Trace
) -> tuple[NumpyArray]:
    """Push the points in the given order, `best` being the first, onto a stack whose path only turns left."""
    n = len(xs)
    in_hull, stack_prev = np.zeros(n, np.int8), np.arange(n)
    record(trace, 0, np.zeros(n), in_hull, stack_prev, 0, 0, 0)
    in_hull[best] = 1
    last_stack = best
    record(trace, best, np.zeros(n), in_hull, stack_prev, last_stack, best, 1)
    record(trace, best, atans, in_hull, stack_prev, last_stack, best, 2)
    for i in range(1, n):
        while i >= 3 and direction(xs, ys, stack_prev[last_stack], last_stack, order[i]) >= 0:
            if last_stack == best:
                raise UserError("Graham's scan would never end, for three points are on one line")
            dropped = last_stack
            last_stack = stack_prev[dropped]
            stack_prev[dropped] = dropped
            in_hull[dropped] = 0
            record(trace, best, atans, in_hull, stack_prev, last_stack, order[i], 3)
        in_hull[order[i]] = 1
        stack_prev[order[i]] = last_stack
        last_stack = order[i]
        record(trace, best, atans, in_hull, stack_prev, last_stack, order[i], 4)
    return (in_hull,)


@njit(cache=True)
def jarvis_march(xs: NumpyArray, ys: NumpyArray, trace: Trace) -> tuple[NumpyArray]:
    """From one corner of the hull to the next, which is the point that has no other on its right."""
    n = len(xs)
    pred, in_hull = np.maximum(np.arange(n) - 1, 0), np.zeros(n, np.int8)
    record(trace, pred, in_hull, 0, 0, 0, 0, 0)
    best = lowest(xs, ys)
    endpoint = best
    while not in_hull[endpoint]:
        in_hull[endpoint] = 1
        last_point, endpoint = endpoint, 0
        record(trace, pred, in_hull, best, last_point, endpoint, 0, 1)
        for i in range(n):
            if endpoint == last_point or _lies_right(xs, ys, last_point, endpoint, i):
                endpoint = i
            record(trace, pred, in_hull, best, last_point, endpoint, i, 1)
    return (in_hull,)


@njit(cache=True)
def _lies_right(xs: NumpyArray, ys: NumpyArray, i: int, j: int, k: int) -> bool:
    """Whether a third point k is on the line from i to j or on its right."""
    return k != i and k != j and direction(xs, ys, i, j, k) >= 0


GEOMETRY = table(
    KnownAlgorithm(
        "segments_intersect",
        _draw_segments,
        _point_inputs,
        segments_intersect,
        _take_segments,
        InText(31, 64),
        min_num_nodes=1,  # it always has four
        samples_multiplier=64,
    ),
    KnownAlgorithm("graham_scan", draw_points, _point_inputs, graham_scan, _take_points, InText(31, 31)),
    KnownAlgorithm("jarvis_march", draw_points, _point_inputs, jarvis_march, _take_points, InText(12, 13)),
)
