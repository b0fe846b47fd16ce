"""Plain NumPy and SciPy twins of the compiled kernels: slow, short, obviously right. Tests compare the two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.scoring.facts import Directed, Facts
from harness.scoring.surfels import CORNERS, area_table

__all__ = ["counts", "measure", "nearest_distances", "surface_points", "surfel_points"]

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.int64]
Distances = npt.NDArray[np.float64]


def counts(prediction: Mask, reference: Mask) -> tuple[int, int, int]:
    """Return TP, FP, FN of two boolean masks of one shape."""
    tp = int(np.count_nonzero(prediction & reference))
    return tp, int(np.count_nonzero(prediction)) - tp, int(np.count_nonzero(reference)) - tp


def surface_points(mask: Mask) -> Points:
    """Return the indices (n, 3) of mask voxels with a face neighbour outside; outside the array is background."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(mask.ndim):
        for shift in (-1, 1):
            inside &= np.roll(padded, shift, axis)[(slice(1, -1),) * mask.ndim]
    return np.argwhere(mask & ~inside)


def nearest_distances(points: Points, targets: Points, spacing: Sequence[float]) -> Distances:
    """Return for each point (n, 3) the distance in mm to the nearest of the targets (m, 3); both not empty."""
    from scipy.spatial import cKDTree

    scale = np.asarray(spacing, np.float64)
    _, nearest = cKDTree(targets * scale).query(points * scale)
    # From whole-voxel differences, as a distance transform does it: 3 voxels of 0.1 mm are one number everywhere.
    steps = (points - targets[nearest]) * scale
    return np.asarray(np.sqrt((steps * steps).sum(axis=1)), np.float64)


def surfel_points(mask: Mask, table: npt.NDArray[np.float64]) -> tuple[Points, Distances]:
    """Return the points (n, 3) of the half-shifted grid that lie on the surface, and their areas in mm^2 (n,).

    Point (i, j, k) is the corner shared by voxels (i-1, j-1, k-1) to (i, j, k).
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    size = tuple(length + 1 for length in mask.shape)
    code = np.zeros(size, np.uint8)
    for bit, (i, j, k) in enumerate(CORNERS):
        code |= padded[i : i + size[0], j : j + size[1], k : k + size[2]] << np.uint8(bit)
    points = np.argwhere((code != 0) & (code != 255))
    return points, table[code[tuple(points.T)]]


def measure(
    prediction: Mask, reference: Mask, spacing: Sequence[float], *, voxels: bool = True, surfels: bool = True
) -> Facts:
    """Gather the raw facts of one pair of masks."""
    tp, fp, fn = counts(prediction, reference)
    voxel_surface = surfel_surface = None
    if tp + fp and tp + fn:
        if voxels:
            first, second = surface_points(prediction), surface_points(reference)
            voxel_surface = Directed(
                nearest_distances(first, second, spacing), nearest_distances(second, first, spacing)
            )
        if surfels:
            table = area_table(spacing)
            first, first_area = surfel_points(prediction, table)
            second, second_area = surfel_points(reference, table)
            surfel_surface = Directed(
                nearest_distances(first, second, spacing),
                nearest_distances(second, first, spacing),
                first_area,
                second_area,
            )
    return Facts(
        tp=tp,
        fp=fp,
        fn=fn,
        tn=prediction.size - tp - fp - fn,
        voxel_mm3=float(np.prod(spacing)),
        voxel_surface=voxel_surface,
        surfel_surface=surfel_surface,
    )
