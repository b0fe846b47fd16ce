"""Compiled loops over slabs of logits. They release the lock, so that the caller's threads can share the planes.

A ring holds P planes of the swept axis; plane p of the volume lies at p % P. Axes: class, plane, row, column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["accumulate", "argmax_planes", "resample_argmax"]

Function = TypeVar("Function", bound=Callable[..., Any])


def _compile(function: Function) -> Function:
    """Compile on first use, kept on disk where there is a place for it; a read-only home only costs the time."""
    try:
        compiled: Function = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        compiled = numba.njit(nogil=True)(function)
    return compiled


@_compile
def accumulate(
    ring: NDArray[np.float32],
    total: NDArray[np.float32],
    logits: NDArray[np.float32],
    weight: NDArray[np.float32],
    start: tuple[int, int, int],
    first: int,
    stop: int,
) -> None:
    """Add the planes ``first`` to ``stop`` of one window: its logits times the weight, and the weight to ``total``."""
    for i in range(first, stop):
        p = (start[0] + i) % ring.shape[1]
        for j in range(logits.shape[2]):
            q = start[1] + j
            for k in range(logits.shape[3]):
                total[p, q, start[2] + k] += weight[i, j, k]
            for c in range(logits.shape[0]):
                for k in range(logits.shape[3]):
                    ring[c, p, q, start[2] + k] += weight[i, j, k] * logits[c, i, j, k]


@_compile
def argmax_planes(ring: NDArray[np.float32], table: NDArray[Any], out: NDArray[Any], first: int, stop: int) -> None:
    """Write to ``out[p]`` the table's entry for the class with the largest sum, for planes first to stop.

    The weights are common to all classes of a voxel, so the decision does not need the division by them. A table with
    one more entry than there are classes begins with that of a background whose logit is 0 everywhere.
    """
    background = table.shape[0] - ring.shape[0]
    rows, columns = ring.shape[2], ring.shape[3]
    best = np.empty(columns, np.float32)
    arg = np.empty(columns, np.int32)
    for plane in range(first, stop):
        p = plane % ring.shape[1]
        for q in range(rows):
            for r in range(columns):
                best[r] = 0 if background else ring[0, p, q, r]
                arg[r] = 0
            for c in range(1 - background, ring.shape[0]):
                values, number = ring[c, p, q], np.int32(c + background)
                for r in range(columns):
                    if values[r] > best[r]:
                        best[r] = values[r]
                        arg[r] = number
            for r in range(columns):
                out[plane, q, r] = table[arg[r]]


@_compile
def _resample_columns(
    ring: NDArray[np.float32],
    total: NDArray[np.float32],
    p: int,
    columns: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
    out: NDArray[np.float32],
) -> None:
    """Bring one plane of all classes to the new columns: out[class, row, new column]."""
    low, high, between = columns
    scale = np.ones(ring.shape[3], np.float32)
    row = np.empty(ring.shape[3], np.float32)
    for q in range(ring.shape[2]):
        if total.shape[0] > 0:
            for r in range(ring.shape[3]):
                scale[r] = np.float32(1) / total[p, q, r]
        for c in range(ring.shape[0]):
            for r in range(ring.shape[3]):
                row[r] = ring[c, p, q, r] * scale[r]
            for x in range(low.shape[0]):
                a = row[np.uint32(low[x])]  # unsigned: no wrap-around to test for, twice as fast
                out[c, q, x] = a + between[x] * (row[np.uint32(high[x])] - a)


@_compile
def _blend_row(
    one: NDArray[np.float32], two: NDArray[np.float32], between: np.float32, q: int, out: NDArray[np.float32]
) -> None:
    for c in range(one.shape[0]):
        for x in range(one.shape[2]):
            out[c, x] = one[c, q, x] + between * (two[c, q, x] - one[c, q, x])


@_compile
def resample_argmax(
    ring: NDArray[np.float32],
    total: NDArray[np.float32],
    planes: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
    rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
    columns: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
    table: NDArray[Any],
    out: NDArray[Any],
    first: int,
    stop: int,
) -> None:
    """Interpolate the logits of all classes at new positions and write the table's entry for the largest.

    Columns are interpolated once per plane, then planes and rows with a running maximum, so that nothing larger than
    two planes is held.

    Parameters
    ----------
    ring : ndarray of shape (C, P, Q, R)
        Weighted sums, or logits.
    total : ndarray of shape (P, Q, R) or (0, 0, 0)
        The weights to divide by; empty where ``ring`` holds logits.
    planes, rows, columns : tuple of arrays
        Per output index the two neighbours and how far it lies from the first towards the second.
    table : ndarray of shape (C,) or (C + 1,)
        Label of each class; with one more entry as in `argmax_planes`.
    out : ndarray of shape (planes, rows, columns)
        Output labels.
    first, stop : int
        Which output planes.
    """
    classes, width = ring.shape[0], columns[0].shape[0]
    background = table.shape[0] - classes
    near = np.empty((classes, ring.shape[2], width), np.float32)
    far = np.empty((classes, ring.shape[2], width), np.float32)
    above = np.empty((classes, width), np.float32)
    below = np.empty((classes, width), np.float32)
    best = np.empty(width, np.float32)
    arg = np.empty(width, np.int32)
    have_near, have_far = -1, -1
    for t in range(first, stop):
        if planes[0][t] == have_far:
            near, far = far, near
            have_near, have_far = have_far, have_near
        if planes[0][t] != have_near:
            have_near = planes[0][t]
            _resample_columns(ring, total, have_near % ring.shape[1], columns, near)
        if planes[1][t] != have_far:
            have_far = planes[1][t]
            _resample_columns(ring, total, have_far % ring.shape[1], columns, far)
        have_above, have_below = -1, -1
        for y in range(rows[0].shape[0]):
            if rows[0][y] == have_below:
                above, below = below, above
                have_above, have_below = have_below, have_above
            if rows[0][y] != have_above:
                have_above = rows[0][y]
                _blend_row(near, far, planes[2][t], have_above, above)
            if rows[1][y] != have_below:
                have_below = rows[1][y]
                _blend_row(near, far, planes[2][t], have_below, below)
            between = rows[2][y]
            for x in range(width):
                best[x] = 0 if background else above[0, x] + between * (below[0, x] - above[0, x])
                arg[x] = 0
            for c in range(1 - background, classes):
                here, there, number = above[c], below[c], np.int32(c + background)
                for x in range(width):
                    value = here[x] + between * (there[x] - here[x])
                    if value > best[x]:
                        best[x] = value
                        arg[x] = number
            for x in range(width):
                out[t, y, x] = table[arg[x]]
