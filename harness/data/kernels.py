"""Compiled loops that cut patches out of memory maps, turn and bend them, and blur them. They release the lock.

Torch shares work of this size among threads that wait for each other; on a busy machine that costs more than the
work. These loops run on the thread that calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "convolve",
    "copy_box",
    "pick_planes",
    "resample_planes",
    "resize_axis",
    "sample_linear",
    "sample_nearest",
]

Function = TypeVar("Function", bound=Callable[..., Any])
Flags = tuple[bool, bool, bool]
Line = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]


def _compile(function: Function) -> Function:
    """Compile on first use, kept on disk where there is a place for it; a read-only home only costs the time."""
    try:
        compiled: Function = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        compiled = numba.njit(nogil=True)(function)
    return compiled


@_compile
def _widen(half: Any) -> Any:
    """Return the float32 equal to the float16 with these bits; infinity and NaN are never stored."""
    bits = np.uint32(half)
    moved = ((bits & np.uint32(0x7FFF)) << np.uint32(13)) | ((bits & np.uint32(0x8000)) << np.uint32(16))
    # the exponent bias of float16 is 112 below that of float32
    return np.uint32(moved).view(np.float32) * np.float32(2.0**112)


@_compile
def _copy_row(source: NDArray[Any], backwards: bool, is_half: bool, out: NDArray[Any]) -> None:
    """Copy a row; four loops, because each compiles to wide instructions only when it is this simple."""
    last = np.uint64(len(out) - 1)
    if is_half and backwards:
        for k in range(len(out)):
            out[k] = _widen(source[last - np.uint64(k)])
    elif is_half:
        for k in range(len(out)):
            out[k] = _widen(source[k])
    elif backwards:
        for k in range(len(out)):
            out[k] = source[last - np.uint64(k)]
    else:
        for k in range(len(out)):
            out[k] = source[k]


@_compile
def copy_box(
    source: NDArray[Any], start: tuple[int, int, int], flips: Flags, fill: float, is_half: bool, out: NDArray[Any]
) -> None:
    """Copy a box out of a volume, mirrored along some axes.

    Parameters
    ----------
    source : ndarray of shape (a, b, c)
        The volume; float16 as its bits, uint16, because compiled code has no float16.
    start : tuple of 3 int
        First voxel of the box; may be negative.
    flips : tuple of 3 bool
        Axes along which the box is mirrored.
    fill : float
        Value beyond the volume.
    is_half : bool
        Whether ``source`` holds the bits of float16.
    out : ndarray
        The box, of any type.
    """
    rows, columns = out.shape[1], out.shape[2]
    low, high = max(0, -start[2]), min(columns, source.shape[2] - start[2])
    if flips[2]:
        low, high = columns - high, columns - low
    first = start[2] + (columns - high if flips[2] else low)
    for i in range(out.shape[0]):
        a = start[0] + (out.shape[0] - 1 - i if flips[0] else i)
        for j in range(rows):
            b = start[1] + (rows - 1 - j if flips[1] else j)
            if a < 0 or a >= source.shape[0] or b < 0 or b >= source.shape[1] or low >= high:
                out[i, j, :] = fill
                continue
            out[i, j, :low] = fill
            out[i, j, high:] = fill
            _copy_row(source[a, b, first : first + high - low], flips[2], is_half, out[i, j, low:high])


@_compile
def _beyond(
    source: NDArray[np.float32], x: float, y: float, z: float, fill: float, a: int, b: int, c: int
) -> np.float32:
    """Interpolate where some of the eight neighbours lie beyond the volume, and so are ``fill``."""
    total = np.float32(0)
    for da in range(2):
        for db in range(2):
            for dc in range(2):
                inside = (
                    0 <= a + da < source.shape[0] and 0 <= b + db < source.shape[1] and 0 <= c + dc < source.shape[2]
                )
                value = source[a + da, b + db, c + dc] if inside else np.float32(fill)
                weight = (1 - abs(x - a - da)) * (1 - abs(y - b - db)) * (1 - abs(z - c - dc))
                total = np.float32(total + weight * value)
    return total


@_compile
def sample_linear(
    source: NDArray[np.float32], matrix: NDArray[np.float64], fill: float, out: NDArray[np.float32]
) -> None:
    """Fill ``out`` by trilinear interpolation of ``source`` at ``matrix @ (i, j, k, 1)``; beyond it lies ``fill``."""
    na, nb, nc = source.shape[0] - 1.0, source.shape[1] - 1.0, source.shape[2] - 1.0
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            x0 = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 3]
            y0 = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 3]
            z0 = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 3]
            for k in range(out.shape[2]):
                x, y, z = x0 + matrix[0, 2] * k, y0 + matrix[1, 2] * k, z0 + matrix[2, 2] * k
                if not (0 <= x < na and 0 <= y < nb and 0 <= z < nc):
                    out[i, j, k] = _beyond(source, x, y, z, fill, int(np.floor(x)), int(np.floor(y)), int(np.floor(z)))
                    continue
                # Unsigned: no wrap-around of negative indices to test for.
                a, b, c = np.uint64(np.int64(x)), np.uint64(np.int64(y)), np.uint64(np.int64(z))
                u, v, w = np.float32(x - a), np.float32(y - b), np.float32(z - c)
                one = np.uint64(1)
                p, q = source[a, b, c], source[a, b, c + one]
                r, s = source[a, b + one, c], source[a, b + one, c + one]
                front = p + w * (q - p)
                front += v * (r + w * (s - r) - front)
                p, q = source[a + one, b, c], source[a + one, b, c + one]
                r, s = source[a + one, b + one, c], source[a + one, b + one, c + one]
                back = p + w * (q - p)
                back += v * (r + w * (s - r) - back)
                out[i, j, k] = front + u * (back - front)


@_compile
def sample_nearest(source: NDArray[Any], matrix: NDArray[np.float64], out: NDArray[Any]) -> None:
    """Fill ``out`` with the voxel of ``source`` nearest to ``matrix @ (i, j, k, 1)``; beyond it lies 0."""
    na, nb, nc = float(source.shape[0]), float(source.shape[1]), float(source.shape[2])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            x0 = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 3] + 0.5
            y0 = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 3] + 0.5
            z0 = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 3] + 0.5
            for k in range(out.shape[2]):
                x, y, z = x0 + matrix[0, 2] * k, y0 + matrix[1, 2] * k, z0 + matrix[2, 2] * k
                inside = 0 <= x < na and 0 <= y < nb and 0 <= z < nc
                a, b, c = np.uint64(np.int64(x)), np.uint64(np.int64(y)), np.uint64(np.int64(z))
                out[i, j, k] = source[a, b, c] if inside else 0


@_compile
def convolve(source: NDArray[np.float32], weights: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Convolve along the middle axis of (outer, n, inner) with symmetric ``weights``; the edge voxel goes on beyond.

    ``weights[0]`` is the centre, ``weights[d]`` both neighbours at distance d.
    """
    n, inner = source.shape[1], source.shape[2]
    padded = np.empty(n + 2 * (len(weights) - 1), np.float32)
    for o in range(source.shape[0]):
        if inner > 1:
            for i in range(n):
                centre, target = source[o, i], out[o, i]
                for k in range(inner):
                    target[k] = weights[0] * centre[k]
                for d in range(1, len(weights)):
                    before, behind = source[o, max(i - d, 0)], source[o, min(i + d, n - 1)]
                    for k in range(inner):
                        target[k] += weights[d] * (before[k] + behind[k])
        else:
            reach = len(weights) - 1
            row, target = source[o, :, 0], out[o, :, 0]
            for i in range(reach):
                padded[i] = row[0]
                padded[reach + n + i] = row[n - 1]
            for i in range(n):
                padded[reach + i] = row[i]
                target[i] = weights[0] * row[i]
            for d in range(1, len(weights)):
                for i in range(n):
                    target[i] += weights[d] * (padded[reach + i - d] + padded[reach + i + d])


@_compile
def resize_axis(
    source: NDArray[np.float32],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    between: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Interpolate along the middle axis of (outer, n, inner): output i lies ``between`` source ``low`` and ``high``."""
    for o in range(source.shape[0]):
        for i in range(len(low)):
            one, two, target, way = source[o, low[i]], source[o, high[i]], out[o, i], between[i]
            for k in range(source.shape[2]):
                target[k] = one[k] + way * (two[k] - one[k])


@_compile
def _resample_columns(plane: NDArray[np.float32], columns: Line, out: NDArray[np.float32]) -> None:
    low, high, between = columns
    for q in range(plane.shape[0]):
        for r in range(len(low)):
            a = plane[q, np.uint64(low[r])]  # unsigned: no wrap-around to test for, twice as fast
            out[q, r] = a + between[r] * (plane[q, np.uint64(high[r])] - a)


@_compile
def resample_planes(
    source: NDArray[np.float32],
    planes: Line,
    rows: Line,
    columns: Line,
    first: int,
    stop: int,
    out: NDArray[np.float32],
) -> None:
    """Interpolate (P, Q, R) linearly at the crossings of three lines; output plane t goes to ``out[t - first]``.

    A line holds, per output index, its two neighbours and how far it lies from the first towards the second.
    """
    width = len(columns[0])
    near = np.empty((source.shape[1], width), np.float32)
    far = np.empty((source.shape[1], width), np.float32)
    have_near, have_far = -1, -1
    for t in range(first, stop):
        if planes[0][t] == have_far:
            near, far = far, near
            have_near, have_far = have_far, have_near
        if planes[0][t] != have_near:
            have_near = planes[0][t]
            _resample_columns(source[have_near], columns, near)
        if planes[1][t] != have_far:
            have_far = planes[1][t]
            _resample_columns(source[have_far], columns, far)
        u = planes[2][t]
        for y in range(len(rows[0])):
            a, b, v = rows[0][y], rows[1][y], rows[2][y]
            near_a, near_b, far_a, far_b, target = near[a], near[b], far[a], far[b], out[t - first, y]
            for x in range(width):
                one = near_a[x] + v * (near_b[x] - near_a[x])
                two = far_a[x] + v * (far_b[x] - far_a[x])
                target[x] = one + u * (two - one)


@_compile
def pick_planes(
    source: NDArray[Any],
    planes: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    first: int,
    stop: int,
    out: NDArray[Any],
) -> None:
    """Copy the voxels of (P, Q, R) at the crossings of three lines of indices."""
    for t in range(first, stop):
        for y in range(len(rows)):
            row, target = source[planes[t], rows[y]], out[t - first, y]
            for x in range(len(columns)):
                target[x] = row[np.uint64(columns[x])]
