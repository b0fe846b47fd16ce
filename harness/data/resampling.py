"""`GridSpec.apply` for whole scans, in the order in which the scan lies in memory.

Readers hand out arrays whose first axis runs fastest. Interpolating them axis by axis and turning them first touches
every voxel many times, most of them far apart; here the scan is read once, in order, and only the result is turned.
`GridSpec.apply` says what is computed, and the tests hold both together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data import kernels
from harness.grid import GridSpec

__all__ = ["apply_linear", "apply_nearest"]

_BLOCK = 32  # planes interpolated before they are turned: a few cache lines of the result at a time


class _Line(NamedTuple):
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    between: NDArray[np.float32]
    nearest: NDArray[np.int64]


def apply_linear(spec: GridSpec, volume: NDArray[np.float32], fill: float) -> NDArray[np.float32]:
    """Return ``spec.apply(volume, order="linear", fill=fill)`` for one channel (a, b, c), up to rounding."""
    if not _is_resampled(spec):
        return spec.apply(volume, order="linear", fill=fill)
    planes, rows, columns, source, result, inner = _prepare(spec, volume, fill)
    buffer = np.empty((_BLOCK, len(rows.low), len(columns.low)), dtype=np.float32)
    for first in range(0, len(planes.low), _BLOCK):
        stop = min(first + _BLOCK, len(planes.low))
        kernels.resample_planes(source, planes[:3], rows[:3], columns[:3], first, stop, buffer)
        inner[first:stop] = buffer[: stop - first]
    return result


def apply_nearest(spec: GridSpec, volume: NDArray[Any], fill: int) -> NDArray[Any]:
    """Return ``spec.apply(volume, order="nearest", fill=fill)`` for one label map (a, b, c)."""
    if not _is_resampled(spec):
        return spec.apply(volume, order="nearest", fill=fill)
    planes, rows, columns, source, result, inner = _prepare(spec, volume, fill)
    buffer = np.empty((_BLOCK, len(rows.low), len(columns.low)), dtype=volume.dtype)
    for first in range(0, len(planes.low), _BLOCK):
        stop = min(first + _BLOCK, len(planes.low))
        kernels.pick_planes(source, planes.nearest, rows.nearest, columns.nearest, first, stop, buffer)
        inner[first:stop] = buffer[: stop - first]
    return result


def _oriented_shape(spec: GridSpec) -> tuple[int, ...]:
    return tuple(spec.source.shape[axis] for axis in spec.permutation)


def _is_resampled(spec: GridSpec) -> bool:
    return _oriented_shape(spec) != spec.spaced_shape


def _prepare(
    spec: GridSpec, volume: NDArray[Any], fill: float
) -> tuple[_Line, _Line, _Line, NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the lines, the source and the inner part of the result, with axes in the order of the source's memory."""
    memory = sorted(range(3), key=lambda axis: -abs(volume.strides[axis]))
    targets = [spec.permutation.index(axis) for axis in memory]
    lines = [_line(spec, axis) for axis in targets]
    source = np.ascontiguousarray(volume.transpose(memory))
    result = np.full(spec.target.shape, fill, dtype=volume.dtype)
    kept = tuple(slice(a - s, b - s) for (a, b), s in zip(spec.window, spec.start, strict=True))
    return lines[0], lines[1], lines[2], source, result, result[kept].transpose(targets)


def _line(spec: GridSpec, target_axis: int) -> _Line:
    """Return where the kept voxels of one target axis lie along the source axis that it comes from."""
    n, m = _oriented_shape(spec)[target_axis], spec.spaced_shape[target_axis]
    kept = np.arange(*spec.window[target_axis])
    at = ((kept + 0.5) * (n / m) - 0.5).clip(0, n - 1)
    low = np.floor(at).astype(np.int64)
    between = (at - low).astype(np.float32)
    high = np.minimum(low + 1, n - 1)
    nearest = (2 * kept + 1) * n // (2 * m)
    if spec.flips[target_axis]:
        low, high, nearest = n - 1 - low, n - 1 - high, n - 1 - nearest
    return _Line(low, high, between, nearest)
