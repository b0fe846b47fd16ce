"""Volume Fusion as random transforms: where two volumes are mixed, how much, and how a crop is disguised beforehand.

Wang et al., MIS-FM, arXiv:2306.16925. Two published recipes share the name: overlapping boxes (2023) and a grid of
equal blocks (since 2024-09-30, PyMIC). Written anew from their description. Both answer ``fused = a F + (1 - a) B``
with a in {0, 1/K, ..., 1}, and the class ``K a`` of every voxel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, RandomizableTransform
from numpy.typing import NDArray
from torch.nn import functional as F

from harness.pretraining._kernels import fuse, histogram, look_up

__all__ = ["RandContrast", "RandFusionBlocks", "RandFusionBoxes", "RandZoomedCrop", "mix"]

Ints = tuple[int, int, int]
Volume = NDArray[np.float32]
Classes = NDArray[np.uint8]
_LEVELS = 65_536


def mix(foreground: Volume, background: Volume, classes: Classes, highest: int) -> Volume:
    """Fuse two volumes.

    Parameters
    ----------
    foreground, background : ndarray of shape (channel, a, b, c), float32
        Class ``highest`` shows the first, class 0 the second, both exactly; the classes between mix them linearly.
    classes : ndarray of shape (a, b, c), uint8
        0 to ``highest``.
    highest : int
        K: the number of coefficients above 0.
    """
    out = np.empty_like(background)
    channels = len(background)
    fuse(
        np.ascontiguousarray(foreground).reshape(channels, -1),
        np.ascontiguousarray(background).reshape(channels, -1),
        classes.reshape(-1),
        highest,
        out.reshape(channels, -1),
    )
    return out


class RandFusionBoxes(Randomizable):  # type: ignore[misc]
    """Classes of the recipe of 2023: random boxes that overwrite each other, on background 0.

    Parameters
    ----------
    highest : int
        K; every box draws its class from 1 to K.
    boxes : tuple of int
        Fewest and most boxes.
    smallest, largest : tuple of 3 int
        Range of the box sides in voxels; a centre is uniform over the volume and what sticks out is cut off.
    """

    def __init__(
        self,
        highest: int = 4,
        boxes: tuple[int, int] = (10, 40),
        smallest: Ints = (8, 8, 8),
        largest: Ints = (40, 80, 80),
    ) -> None:
        self.highest, self.boxes, self.smallest, self.largest = highest, boxes, smallest, largest

    def __call__(self, shape: Ints) -> Classes:
        """Return the classes, uint8 of the given shape."""
        classes = np.zeros(shape, np.uint8)
        for _ in range(self.R.randint(self.boxes[0], self.boxes[1] + 1)):
            sides = [self.R.randint(low, high + 1) for low, high in zip(self.smallest, self.largest, strict=True)]
            starts = [self.R.randint(n) - side // 2 for n, side in zip(shape, sides, strict=True)]
            box = tuple(slice(max(start, 0), start + side) for start, side in zip(starts, sides, strict=True))
            classes[box] = self.R.randint(1, self.highest + 1)
        return classes


class RandFusionBlocks(Randomizable):  # type: ignore[misc]
    """Classes of the current recipe: a grid of equal blocks at a random offset, a fixed share of them not 0.

    Parameters
    ----------
    highest : int
        K; a chosen block draws its class from 1 to K.
    smallest, largest : tuple of 3 int
        Range of the block sides in voxels, one draw per volume; a side larger than the volume's becomes the volume's.
    share : float
        Exactly ``int(share * blocks)`` blocks are chosen.
    """

    def __init__(
        self, highest: int = 4, smallest: Ints = (5, 8, 8), largest: Ints = (20, 32, 32), share: float = 0.7
    ) -> None:
        self.highest, self.smallest, self.largest, self.share = highest, smallest, largest, share

    def __call__(self, shape: Ints) -> Classes:
        """Return the classes, uint8 of the given shape; what the grid leaves over at the faces is 0."""
        sides = [
            min(int(self.R.randint(low, high + 1)), n)
            for low, high, n in zip(self.smallest, self.largest, shape, strict=True)
        ]
        grid = tuple(n // side for n, side in zip(shape, sides, strict=True))
        offsets = [int(self.R.randint(n % side + 1)) for n, side in zip(shape, sides, strict=True)]
        blocks = np.zeros(int(np.prod(grid)), np.uint8)
        chosen = self.R.permutation(blocks.size)[: int(self.share * blocks.size)]
        blocks[chosen] = self.R.randint(1, self.highest + 1, size=chosen.size)
        filled: NDArray[Any] = blocks.reshape(grid)
        for axis, side in enumerate(sides):
            filled = filled.repeat(side, axis)
        classes = np.zeros(shape, np.uint8)
        classes[tuple(slice(at, at + n) for at, n in zip(offsets, filled.shape, strict=True))] = filled
        return classes


class RandZoomedCrop(Randomizable):  # type: ignore[misc]
    """A crop of random size, zoomed linearly to one size and flipped.

    Parameters
    ----------
    size : tuple of 3 int
        Of the answer, voxels.
    zoom : tuple of float
        Range of the crop's sides relative to ``size``, drawn per axis; clipped to the volume.
    flip : float
        Probability, per axis.
    """

    def __init__(self, size: Ints, zoom: tuple[float, float] = (0.7, 1.5), flip: float = 0.5) -> None:
        self.size, self.zoom, self.flip = size, zoom, flip

    def __call__(self, volume: NDArray[Any]) -> Volume:
        """Crop ``volume`` of shape (channel, a, b, c), which may be a memory map, to (channel, *size)."""
        shape = volume.shape[1:]
        sides = [
            min(max(round(wanted * self.R.uniform(*self.zoom)), 1), n)
            for wanted, n in zip(self.size, shape, strict=True)
        ]
        starts = [int(self.R.randint(n - side + 1)) for n, side in zip(shape, sides, strict=True)]
        box = (slice(None), *(slice(at, at + side) for at, side in zip(starts, sides, strict=True)))
        crop = torch.from_numpy(np.asarray(volume)[box]).float()[None]
        # corner voxels stay corner voxels, as in SciPy's zoom
        zoomed = F.interpolate(crop, self.size, mode="trilinear", align_corners=True)[0]
        axes = [axis for axis in (1, 2, 3) if self.R.random_sample() < self.flip]
        out: Volume = (torch.flip(zoomed, axes) if axes else zoomed).numpy()
        return out


class RandContrast(RandomizableTransform):  # type: ignore[misc]
    """Stretch the contrast between two random percentiles, bend it by a random gamma; the answer spans [0, 1].

    Parameters
    ----------
    low, high : tuple of float
        Ranges of the two percentiles. They are mapped to 0.1 and 0.9, the extremes to 0 and 1, linearly between.
    gamma : tuple of float
        Range of the exponent.

    Notes
    -----
    A constant volume becomes 0. Where the lower percentile is the lowest value (much air), that value is 0, not 0.1.
    """

    def __init__(
        self,
        low: tuple[float, float] = (0.1, 2.0),
        high: tuple[float, float] = (98.0, 99.9),
        gamma: tuple[float, float] = (0.7, 1.5),
    ) -> None:
        super().__init__(prob=1.0)
        self.low, self.high, self.gamma = low, high, gamma

    def __call__(self, volume: Volume) -> Volume:
        """Return the changed volume of shape (channel, a, b, c)."""
        percentiles = self.R.uniform(*self.low), self.R.uniform(*self.high)
        gamma = self.R.uniform(*self.gamma)
        values = np.ascontiguousarray(volume, np.float32).reshape(-1)
        lowest, highest = float(values.min()), float(values.max())
        if lowest == highest:
            return np.zeros_like(volume)
        unit = (values - np.float32(lowest)) / (np.float32(highest) - np.float32(lowest))
        # Percentiles to 1/65536 of the range, ten times faster than sorting for the exact ones.
        below = np.cumsum(histogram(unit, _LEVELS)) / unit.size
        v0, v1 = np.searchsorted(below, np.array(percentiles) / 100) / _LEVELS
        out = np.empty_like(unit)
        look_up(unit, np.array([0.0, v0, v1, 1.0]), np.array([0.0, 0.1, 0.9, 1.0]), 256, out)
        return np.power(out, np.float32(gamma)).reshape(volume.shape)
