"""Compiled search for the nearest of many lattice points, however far away: boxes of boxes of points.

The points are ordered along a Z-curve, so that eight neighbours in the list are neighbours in space; eight of them
make a box, eight boxes the next larger box, and so on. A search starts from the answer of the point before it, which
is usually almost right, and then opens only boxes that could hold something nearer.

SciPy's KD-tree gives the same distances; this one is used because it needs neither its import nor floating-point
copies of the points, and because starting from the neighbour's answer makes it several times faster
(``benchmarks/scoring.py``).
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from harness.scoring.compiled import compiled

__all__ = ["FAN", "build", "search", "z_order"]

FAN = 8

_POINTS = types.Array(types.int32, 2, "C", readonly=True)
_LONGS = types.Array(types.int64, 1, "C", readonly=True)
_REALS = types.Array(types.float64, 1, "C", readonly=True)


@compiled(types.uint64[::1](_POINTS))
def z_order(points):  # type: ignore[no-untyped-def]
    """Return the position of each point (n, 3) on a Z-curve: the bits of its three coordinates, interleaved."""
    keys = np.zeros(points.shape[0], np.uint64)
    for p in range(points.shape[0]):
        for axis in range(3):
            value = np.uint64(points[p, axis])
            for bit in range(20):
                keys[p] |= ((value >> np.uint64(bit)) & np.uint64(1)) << np.uint64(3 * bit + axis)
    return keys


@compiled(types.int32[:, ::1](_POINTS, _LONGS))
def build(points, levels):  # type: ignore[no-untyped-def]
    """Return the boxes (m, 6) over ordered points (n, 3): lower and upper corner, leaves first.

    ``levels`` (l + 1,) says where each level begins: ceil(n / 8) leaves, an eighth of that, and so on to one root.
    """
    boxes = np.empty((levels[-1], 6), np.int32)
    for level in range(levels.size - 1):
        for box in range(levels[level], levels[level + 1]):
            first = FAN * (box - levels[level])
            if level == 0:
                last = min(first + FAN, points.shape[0])
                for axis in range(3):
                    boxes[box, axis] = points[first:last, axis].min()
                    boxes[box, axis + 3] = points[first:last, axis].max()
            else:
                last = min(levels[level - 1] + first + FAN, levels[level])
                first += levels[level - 1]
                for axis in range(3):
                    boxes[box, axis] = boxes[first:last, axis].min()
                    boxes[box, axis + 3] = boxes[first:last, axis + 3].max()
    return boxes


@njit(nogil=True)
def _squared(d0, d1, d2, spacing, reverse):  # type: ignore[no-untyped-def]
    """Squared length of a step, added up in the order of the caller's axes whatever order they lie in memory."""
    a, b, c = d0 * spacing[0], d1 * spacing[1], d2 * spacing[2]
    return c * c + b * b + a * a if reverse else a * a + b * b + c * c


@njit(nogil=True)
def _outside(low, high, value):  # type: ignore[no-untyped-def]
    return max(low - value, value - high, 0)


@compiled(types.void(_POINTS, _POINTS, _LONGS, _POINTS, _REALS, types.boolean, types.float64[::1]))
def search(points, boxes, levels, queries, spacing, reverse, distances):  # type: ignore[no-untyped-def]
    """Set ``distances`` (q,) to the distance in mm from each query (q, 3) to the nearest of the points (n, 3).

    Box distances are computed from whole voxels like point distances, so no rounding can make a box seem farther than
    a point inside it: the result is exact.
    """
    stack = np.empty(FAN * levels.size, np.int64)
    bounds = np.empty(FAN * levels.size, np.float64)
    level_of = np.empty(FAN * levels.size, np.int64)
    nearest = 0
    for q in range(queries.shape[0]):
        x, y, z = queries[q, 0], queries[q, 1], queries[q, 2]
        best = _squared(x - points[nearest, 0], y - points[nearest, 1], z - points[nearest, 2], spacing, reverse)
        stack[0], bounds[0], level_of[0], top = levels[-1] - 1, 0.0, levels.size - 2, 1
        while top:
            top -= 1
            if bounds[top] >= best:
                continue
            level = level_of[top]
            first = FAN * (stack[top] - levels[level])
            if level == 0:
                for p in range(first, min(first + FAN, points.shape[0])):
                    there = _squared(x - points[p, 0], y - points[p, 1], z - points[p, 2], spacing, reverse)
                    if there < best:
                        best, nearest = there, p
                continue
            begin = levels[level - 1]
            promising = top
            for box in range(begin + first, min(begin + first + FAN, levels[level])):
                bound = _squared(
                    _outside(boxes[box, 0], boxes[box, 3], x),
                    _outside(boxes[box, 1], boxes[box, 4], y),
                    _outside(boxes[box, 2], boxes[box, 5], z),
                    spacing,
                    reverse,
                )
                if bound < best:
                    stack[top], bounds[top], level_of[top] = box, bound, level - 1
                    if bound < bounds[promising]:
                        promising = top
                    top += 1
            if top > promising + 1:  # open the nearest box first: what it holds rules out most of the others
                last = top - 1
                stack[last], stack[promising] = stack[promising], stack[last]
                bounds[last], bounds[promising] = bounds[promising], bounds[last]
        distances[q] = np.sqrt(best)
