"""The distortions of Models Genesis as MONAI transforms: flip, local shuffling, non-linear intensity, painting.

Zhou et al., Models Genesis, Medical Image Analysis 67:101840 (2021), arXiv:2004.07882. Written from the published
description, with the probabilities and ranges of the authors' PyTorch release. Every transform takes a volume of shape
(channel, a, b, c) with values in [0, 1] and sides of at least `SMALLEST_SIDE` voxels, and returns a new one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.transforms import RandomizableTransform
from numpy.typing import NDArray

from harness.errors import UserError
from harness.pretraining._kernels import look_up, permute_windows

__all__ = ["SMALLEST_SIDE", "RandBezierIntensity", "RandLocalShuffle", "RandPainting", "RandRepeatedFlip"]

SMALLEST_SIDE = 10
"""Under ten voxels the largest shuffling window, a tenth of the side, would be empty."""

Volume = NDArray[np.float32]
_RIM = 3  # voxels next to a face that no painting block touches
_MAX_SEED = 2**32
_POINTS = 4096  # of the curve; finer changes a value by less than 1e-6
_BINS = 4 * _POINTS


def _as_array(volume: Volume | torch.Tensor) -> Volume:
    array = volume.detach().cpu().numpy() if isinstance(volume, torch.Tensor) else np.asarray(volume)
    if array.ndim != 4 or min(array.shape[1:]) < SMALLEST_SIDE:
        raise UserError(
            f"The restorations need a volume (channel, a, b, c) with sides of at least {SMALLEST_SIDE} voxels; got "
            f"shape {array.shape}. Choose a larger cube."
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def _like(array: Volume, original: Volume | torch.Tensor) -> Any:
    if isinstance(original, torch.Tensor):
        return torch.from_numpy(array).to(original.device)
    return array


class RandRepeatedFlip(RandomizableTransform):  # type: ignore[misc]
    """Flip along a random axis, again and again while the dice say so, at most three times.

    Parameters
    ----------
    prob : float
        Of each further flip: 0.4 as published.
    axes : tuple of int
        Axes of (channel, a, b, c) among which each flip draws. Published: (0, 1, 2), where 0 is the channel axis of one
        channel and so no flip at all; the last axis is never flipped. With several channels use spatial axes only.

    Notes
    -----
    Input and target must be flipped alike: call with ``randomize=False`` for the second.
    """

    def __init__(self, prob: float = 0.4, axes: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__(prob)
        self.axes = axes
        self._drawn: list[int] = []

    def randomize(self, data: Any = None) -> None:
        """Draw the axes of up to three flips."""
        del data
        self._drawn = []
        while len(self._drawn) < 3 and self.R.random_sample() < self.prob:
            self._drawn.append(self.axes[self.R.randint(len(self.axes))])
        self._do_transform = bool(self._drawn)

    def __call__(self, img: Volume | torch.Tensor, randomize: bool = True) -> Any:
        """Return the flipped volume, of the type that was given."""
        if randomize:
            self.randomize()
        array = _as_array(img)
        for axis in self._drawn:
            array = np.flip(array, axis)
        return _like(array.copy(), img)


class RandLocalShuffle(RandomizableTransform):  # type: ignore[misc]
    """Permute the voxels inside many small windows: content stays, local texture and edges go.

    Parameters
    ----------
    prob : float
        Of doing anything: 0.5 as published.
    windows : int
        10,000 as published, for every size of volume. Sides are uniform on 1 to a tenth of the volume's side, corners
        uniform inside the volume; each reads the original and overwrites what earlier windows wrote.
    """

    def __init__(self, prob: float = 0.5, windows: int = 10_000) -> None:
        super().__init__(prob)
        self.windows = windows

    def draw_windows(self, shape: tuple[int, int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw corners and sides, each of shape (windows, 3)."""
        size = np.asarray(shape)
        sides = np.stack([self.R.randint(1, side // 10 + 1, size=self.windows) for side in shape], axis=1)
        corners = np.floor(self.R.random_sample((self.windows, 3)) * (size - sides + 1)).astype(np.int64)
        return corners, sides.astype(np.int64)

    def __call__(self, img: Volume | torch.Tensor, randomize: bool = True) -> Any:
        """Return the shuffled volume; every value occurs in the original within a tenth of the side."""
        if randomize:
            self.randomize(None)
        array = _as_array(img)
        out = array.copy()
        if self._do_transform and self.windows:
            shape = (array.shape[1], array.shape[2], array.shape[3])
            corners, sides = self.draw_windows(shape)
            seed = np.uint64(self.R.randint(_MAX_SEED, dtype=np.uint64))
            channels = len(array)
            permute_windows(array.reshape(channels, -1), out.reshape(channels, -1), corners, sides, shape, seed)
        return _like(out, img)


class RandBezierIntensity(RandomizableTransform):  # type: ignore[misc]
    """Map intensities through a random cubic Bezier curve from (0, 0) to (1, 1), or through its reversal.

    Parameters
    ----------
    prob : float
        0.9 as published. Half of the curves fall, from 1 to 0.

    Notes
    -----
    The inner control points are uniform in the unit square, so the curve is monotone and stays in [0, 1].
    """

    def __init__(self, prob: float = 0.9) -> None:
        super().__init__(prob)
        self._control = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
        self._falling = False

    def randomize(self, data: Any = None) -> None:
        """Draw whether to act, the inner points, and the direction."""
        super().randomize(data)
        self._control = np.vstack([[0.0, 0.0], self.R.random_sample((2, 2)), [1.0, 1.0]])
        self._falling = bool(self.R.random_sample() < 0.5)

    def curve(self, points: int = _POINTS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return sample points (x, y) of the current curve, x rising from 0 to 1."""
        t = np.linspace(0.0, 1.0, points)[:, None]
        basis = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
        xs, ys = np.clip(basis @ self._control, 0.0, 1.0).T
        return np.maximum.accumulate(xs), ys[::-1].copy() if self._falling else ys.copy()

    def __call__(self, img: Volume | torch.Tensor, randomize: bool = True) -> Any:
        """Return the volume with its intensities mapped."""
        if randomize:
            self.randomize(None)
        array = _as_array(img)
        if not self._do_transform:
            return _like(array.copy(), img)
        xs, ys = self.curve()
        out = np.empty_like(array)
        look_up(array.reshape(-1), xs, ys, _BINS, out.reshape(-1))
        return _like(out, img)


class RandPainting(RandomizableTransform):  # type: ignore[misc]
    """Replace blocks by noise (in-painting), or all but a few blocks (out-painting).

    Parameters
    ----------
    prob : float
        Of doing either: 0.9 as published.
    inside : float
        Share of in-painting: 0.2 as published.
    prob_next : float
        Of each further block, up to five: 0.95 as published. Out-painting always keeps the first.

    Notes
    -----
    In-painting blocks measure a sixth to a third of the side; kept blocks S - u with u between 3S//7 and 4S//7. All
    keep three voxels from the faces; where the volume is too small for that (under 14 voxels), as far as they can.
    """

    def __init__(self, prob: float = 0.9, inside: float = 0.2, prob_next: float = 0.95) -> None:
        super().__init__(prob)
        self.inside = inside
        self.prob_next = prob_next

    def _block(self, shape: tuple[int, ...], out_painting: bool) -> tuple[slice, ...]:
        sides = []
        for size in shape:
            low, high = (3 * size // 7, 4 * size // 7) if out_painting else (size // 6, size // 3)
            drawn = int(self.R.randint(low, high + 1))
            sides.append(size - drawn if out_painting else drawn)
        rims = [min(_RIM, (size - side) // 2) for size, side in zip(shape, sides, strict=True)]
        corners = [
            int(self.R.randint(rim, size - side - rim + 1)) for size, side, rim in zip(shape, sides, rims, strict=True)
        ]
        return slice(None), *(slice(corner, corner + side) for corner, side in zip(corners, sides, strict=True))

    def _blocks(self, shape: tuple[int, ...], out_painting: bool) -> list[tuple[slice, ...]]:
        blocks = [self._block(shape, True)] if out_painting else []
        while len(blocks) < 5 and self.R.random_sample() < self.prob_next:
            blocks.append(self._block(shape, out_painting))
        return blocks

    def __call__(self, img: Volume | torch.Tensor, randomize: bool = True) -> Any:
        """Return the painted volume; noise is uniform on [0, 1) and fresh in every voxel."""
        if randomize:
            self.randomize(None)
        array = _as_array(img)
        if not self._do_transform:
            return _like(array.copy(), img)
        out_painting = self.R.random_sample() >= self.inside
        blocks = self._blocks(array.shape[1:], out_painting)
        # A generator of its own draws float32 directly; RandomState would draw twice as many bits and convert.
        noise = np.random.Generator(np.random.SFC64(int(self.R.randint(_MAX_SEED, dtype=np.uint64))))
        if out_painting:
            out = noise.random(array.shape, dtype=np.float32)
            for block in blocks:
                out[block] = array[block]
        else:
            out = array.copy()
            for block in blocks:
                out[block] = noise.random(out[block].shape, dtype=np.float32)
        return _like(out, img)
