"""Where windows lie in a volume, how much each voxel of a window counts, and along which axis the volume is swept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tiling", "importance"]

Ints = tuple[int, int, int]


@dataclass(frozen=True)
class Tiling:
    """A regular cover of a volume by windows, in the order in which they are visited.

    The positions are those of MONAI's ``sliding_window_inference``: steps of ``int(patch * (1 - overlap))``, the last
    window moved back to end at the border. With ``repeat_border`` they are PyMIC's: a window for every step that
    begins inside the volume, so that at the border several lie at the same place.

    Attributes
    ----------
    shape, patch : tuple of 3 int
        The volume, at least as large as the patch on every axis, and the window.
    starts : tuple of 3 tuple of int
        First voxels per axis.
    axis : int
        The volume is swept along this axis: the one for which a slab of one window's thickness is smallest.
    """

    shape: Ints
    patch: Ints
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    axis: int

    @classmethod
    def plan(cls, shape: Ints, patch: Ints, overlap: float, *, repeat_border: bool = False) -> Tiling:
        """Place the windows."""
        first, second, third = (_starts(n, p, overlap, repeat_border) for n, p in zip(shape, patch, strict=True))
        slabs = [math.prod(shape) // shape[axis] * patch[axis] for axis in range(3)]
        return cls(shape, patch, (first, second, third), slabs.index(min(slabs)))

    def windows(self) -> Iterator[Ints]:
        """Yield the first voxel of every window, slab after slab along the swept axis."""
        order = (self.axis, *(axis for axis in range(3) if axis != self.axis))
        for corner in itertools.product(*(self.starts[axis] for axis in order)):
            start = [0, 0, 0]
            for axis, at in zip(order, corner, strict=True):
                start[axis] = at
            yield start[0], start[1], start[2]

    def __len__(self) -> int:
        return math.prod(len(starts) for starts in self.starts)


def _starts(length: int, patch: int, overlap: float, repeat_border: bool) -> tuple[int, ...]:
    step = max(int(patch * (1 - overlap)), 1)
    count = math.ceil(length / step) if repeat_border else 1 + max(math.ceil((length - patch) / step), 0)
    return tuple(min(index * step, length - patch) for index in range(count))


def importance(patch: Sequence[int], blending: Literal["gaussian", "constant"]) -> NDArray[np.float32]:
    """Return how much each voxel of a window counts.

    Parameters
    ----------
    patch : sequence of 3 int
        Window size.
    blending : {"gaussian", "constant"}
        The Gaussian is centred, has sigma = side / 8 per axis, and is nowhere below 1e-3, as in MONAI.

    Returns
    -------
    ndarray of shape patch, float32
    """
    if blending == "constant":
        return np.ones(tuple(patch), dtype=np.float32)
    weight = np.ones((), dtype=np.float64)
    for side in patch:
        at = np.arange(side) - (side - 1) / 2
        weight = weight[..., None] * np.exp(-0.5 * (at / (side / 8)) ** 2)
    return np.maximum(weight, 1e-3).astype(np.float32)
