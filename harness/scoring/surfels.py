"""Areas of surface elements: marching-cubes triangles of 2 x 2 x 2 voxels, derived here rather than tabulated.

A point of the half-shifted grid sees eight voxels. The corners of the rarer kind fall into groups joined by cube
edges; each group is cut off by one polygon through the midpoints of the edges that leave it. The polygon is split
into a fan of triangles. Where it is not planar the fan with the largest area is taken, which reproduces the areas
of the original table of Lorensen and Cline (1987, doi:10.1145/37402.37422) as used by google-deepmind's
surface-distance, so that scores can be compared.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["CORNERS", "area_table"]

Corner = tuple[int, int, int]
Edge = tuple[Corner, Corner]

CORNERS: list[Corner] = list(itertools.product((0, 1), repeat=3))  # type: ignore[arg-type]
"""Bit number of a pattern -> offset of its voxel; the bit number is 4 i + 2 j + k."""


def area_table(spacing: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the surface area in mm^2 of each of the 256 patterns, for a spacing in mm per array axis.

    Parameters
    ----------
    spacing : sequence of 3 floats
        Voxel size in mm per array axis.

    Returns
    -------
    ndarray of shape (256,)
        Indexed by the sum of ``1 << (4 i + 2 j + k)`` over the voxels (i, j, k) inside the mask.

    Examples
    --------
    >>> float(area_table((1, 1, 1))[0b00001111])  # four voxels of one side: a whole voxel face
    1.0
    """
    s0, s1, s2 = (float(value) for value in spacing)
    faces = np.array([s1 * s2, s0 * s2, s0 * s1])
    return np.array([sum(np.linalg.norm(normal * faces) for normal in _normals(code)) for code in range(256)])


@functools.cache
def _normals(code: int) -> list[npt.NDArray[np.float64]]:
    """Return the area vectors of the triangles of a pattern on the unit cube."""
    inside = [corner for bit, corner in enumerate(CORNERS) if code >> bit & 1]
    if len(inside) > 4:
        inside = [corner for corner in CORNERS if corner not in inside]
    return [normal for group in _groups(inside) for normal in _widest_fan(_polygon(group))]


def _joined(a: Corner, b: Corner) -> bool:
    return sum(x != y for x, y in zip(a, b, strict=True)) == 1


def _groups(corners: list[Corner]) -> list[list[Corner]]:
    """Split corners into groups joined by cube edges."""
    groups: list[list[Corner]] = []
    for corner in corners:
        touching = [group for group in groups if any(_joined(corner, other) for other in group)]
        groups = [group for group in groups if group not in touching]
        groups.append([corner, *itertools.chain.from_iterable(touching)])
    return groups


def _polygon(group: list[Corner]) -> list[npt.NDArray[np.float64]]:
    """Return the midpoints of the edges that leave the group, in order around the polygon."""
    edges = [(a, b) for a in group for b in CORNERS if b not in group and _joined(a, b)]
    ring = [edges[0]]
    while len(ring) < len(edges):
        ring.append(next(edge for edge in edges if edge not in ring and _share_a_face(edge, ring[-1])))
    return [(np.array(a) + np.array(b)) / 2 for a, b in ring]


def _share_a_face(first: Edge, second: Edge) -> bool:
    return any(len({corner[axis] for corner in (*first, *second)}) == 1 for axis in range(3))


def _widest_fan(polygon: list[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
    fans = []
    for start in range(len(polygon)):
        apex, *rest = polygon[start:] + polygon[:start]
        fans.append([np.cross(a - apex, b - apex) / 2 for a, b in itertools.pairwise(rest)])
    return max(fans, key=lambda fan: sum(float(np.linalg.norm(normal)) for normal in fan))
