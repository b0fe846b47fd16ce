"""Where the voxels of an augmented patch come from, and reading them: nothing is moved twice, and little is moved once.

A `Motion` maps the voxels of a patch to where they are read, relative to the patch as drawn. Flips and affine
transforms that stand first in the augmentation are combined into one, and the patch is read through it directly from
the prepared volume: what turns into view is anatomy, not padding, and without an affine transform the patch is copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import kernels
from harness.data.settings import Affine, Flip

__all__ = ["Motion", "draw_motion", "read_image", "read_label"]

Ints = tuple[int, int, int]
_NO_FLIPS = (False, False, False)


@dataclass(frozen=True)
class Motion:
    """Where each voxel of a patch is read.

    Attributes
    ----------
    flips : tuple of 3 bool
        Axes that are mirrored, where there is no affine part.
    matrix : ndarray of shape (3, 3) or None
        From offsets from the patch centre to offsets from it in the volume, flips included; None: flips only.
    shift : tuple of 3 float
        Added to the latter, in voxels.
    """

    flips: tuple[bool, bool, bool] = _NO_FLIPS
    matrix: NDArray[np.float64] | None = None
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def after(self, later: Motion) -> Motion:
        """Return the motion that applies this one first and ``later`` to its result."""
        if self.matrix is None and later.matrix is None:
            a, b, c = (one != two for one, two in zip(self.flips, later.flips, strict=True))
            return Motion((a, b, c))
        linear = self._linear() @ later._linear()
        x, y, z = (np.array(self.shift) + self._linear() @ np.array(later.shift)).tolist()
        return Motion(matrix=linear, shift=(x, y, z))

    def _linear(self) -> NDArray[np.float64]:
        return np.diag([-1.0 if flip else 1.0 for flip in self.flips]) if self.matrix is None else self.matrix

    @property
    def is_nothing(self) -> bool:
        """Whether every voxel stays where it is."""
        return self.matrix is None and self.flips == _NO_FLIPS

    def to_volume(self, start: Sequence[int], size: Sequence[int]) -> NDArray[np.float64]:
        """Return the (3, 4) matrix from indices of the patch to indices of the volume it is read from."""
        centre = (np.array(size) - 1) / 2
        linear = self._linear()
        offset = np.array(start) + centre + np.array(self.shift) - linear @ centre
        return np.hstack([linear, offset[:, None]])


def draw_motion(transforms: Sequence[Flip | Affine], rng: np.random.Generator) -> Motion:
    """Draw whether and how each transform happens, and combine them in order."""
    motion = Motion()
    for transform in transforms:
        if isinstance(transform, Flip):
            flipped = {axis for axis in transform.axes if rng.random() < transform.probability}
            motion = motion.after(Motion((0 in flipped, 1 in flipped, 2 in flipped)))
        elif rng.random() < transform.probability:
            motion = motion.after(_draw_affine(transform, rng))
    return motion


def _draw_affine(transform: Affine, rng: np.random.Generator) -> Motion:
    angles = [math.radians(rng.uniform(-most, most)) for most in transform.rotate]
    # Logarithmic, so that magnifying by a factor is as likely as shrinking by it.
    zoom = math.exp(rng.uniform(math.log(transform.zoom[0]), math.log(transform.zoom[1])))
    x, y, z = (rng.uniform(-most, most) for most in transform.translate)
    return Motion(matrix=_rotation(angles) / zoom, shift=(x, y, z))


def _rotation(angles: Sequence[float]) -> NDArray[np.float64]:
    """Return the rotation about axis 0, then 1, then 2 as MONAI's ``create_rotate`` multiplies them."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one, two = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = math.cos(angle)
        sign = -1 if axis == 1 else 1
        turn[one, two], turn[two, one] = -sign * math.sin(angle), sign * math.sin(angle)
        matrix = matrix @ turn
    return matrix


def read_image(
    image: NDArray[Any], fill: Sequence[float], start: Ints, motion: Motion, out: NDArray[np.float32]
) -> None:
    """Read a patch of all channels.

    Parameters
    ----------
    image : ndarray of shape (C, a, b, c), float16 or float32
        A prepared volume, usually a memory map.
    fill : sequence of float
        Per channel, the value beyond the volume.
    start : tuple of 3 int
        First voxel of the patch as drawn.
    motion : Motion
        Where its voxels are read, relative to that.
    out : ndarray of shape (C, *size), float32
        The patch.
    """
    source = image.view(np.uint16) if image.dtype == np.float16 else image
    is_half = image.dtype == np.float16
    for channel, value in enumerate(fill):
        if motion.matrix is None:
            kernels.copy_box(source[channel], start, motion.flips, value, is_half, out[channel])
            continue
        matrix = motion.to_volume(start, out.shape[1:])
        low, shape = _reach(matrix, out.shape[1:], image.shape[1:])
        box = np.empty(shape, dtype=np.float32)
        kernels.copy_box(source[channel], low, _NO_FLIPS, value, is_half, box)
        kernels.sample_linear(box, _seen_from(matrix, low), value, out[channel])


def read_label(label: NDArray[Any], start: Ints, motion: Motion, out: NDArray[np.int64]) -> None:
    """Read a patch of a label map (a, b, c), by nearest neighbour; 0 lies beyond it. As `read_image`."""
    if motion.matrix is None:
        kernels.copy_box(label, start, motion.flips, 0, False, out)
    else:
        kernels.sample_nearest(label, motion.to_volume(start, out.shape), out)


def _reach(matrix: NDArray[np.float64], size: Sequence[int], shape: Sequence[int]) -> tuple[Ints, Ints]:
    """Return the first voxel and extent of the smallest box of the volume that a patch reads from."""
    last = np.array(size) - 1
    ends = np.stack([matrix[:, :3] * 0, matrix[:, :3] * last])
    low = matrix[:, 3] + ends.min(axis=0).sum(axis=1)
    high = matrix[:, 3] + ends.max(axis=0).sum(axis=1)
    first = np.clip(np.floor(low), 0, np.array(shape) - 1).astype(int)
    stop = np.clip(np.floor(high) + 2, first + 1, np.array(shape)).astype(int)
    a, b, c = first.tolist()
    x, y, z = (stop - first).tolist()
    return (a, b, c), (x, y, z)


def _seen_from(matrix: NDArray[np.float64], low: Ints) -> NDArray[np.float64]:
    moved = matrix.copy()
    moved[:, 3] -= low
    return moved
