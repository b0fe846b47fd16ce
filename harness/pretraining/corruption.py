"""What BrainSegFounder's pretraining does to a crop: rotate it in plane, and drop blocks from it.

Cox et al., doi:10.1016/j.media.2024.103301, after Tang et al., arXiv:2111.14791. Written anew from the description.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.transforms import Randomizable
from numpy.typing import NDArray

__all__ = ["RandBlockDrop", "RandQuarterTurn", "two_views"]

Volume = NDArray[np.float32]


class RandQuarterTurn(Randomizable):  # type: ignore[misc]
    """Rotate by 0, 90, 180 or 270 degrees in the plane of the last two axes, which must be equally long."""

    def __call__(self, volume: Volume) -> tuple[Volume, int]:
        """Return the rotated volume of shape (channel, a, b, b), and the number of quarter turns."""
        turns = int(self.R.randint(4))
        return np.ascontiguousarray(np.rot90(volume, turns, axes=(2, 3))), turns


class RandBlockDrop(Randomizable):  # type: ignore[misc]
    """Overwrite random blocks until a random share of the volume has been dropped.

    Parameters
    ----------
    most : float
        The share to drop is uniform between 0 and this; overlapping blocks count twice.
    smallest, largest : float
        Range of the block sides, relative to the volume's. Corners are uniform; what sticks out is cut off.
    """

    def __init__(self, most: float = 0.3, smallest: float = 0.05, largest: float = 0.25) -> None:
        self.most, self.smallest, self.largest = most, smallest, largest

    def __call__(self, volume: Volume, replacement: Volume | None = None) -> Volume:
        """Return a copy of the volume, of shape (channel, a, b, c), with blocks overwritten.

        Parameters
        ----------
        volume : ndarray
            Not changed.
        replacement : ndarray, optional
            Of the same shape: blocks show its voxels. Without it they show Gaussian noise, rescaled to [0, 1] block
            by block.
        """
        out = volume.copy()
        shape = volume.shape[1:]
        ranges = [(max(int(self.smallest * n), 1), max(int(self.largest * n), 1)) for n in shape]
        budget = self.R.uniform(0, self.most) * float(np.prod(shape))
        noise = np.random.Generator(np.random.SFC64(int(self.R.randint(2**32, dtype=np.uint64))))
        dropped = 0
        while dropped < budget:
            starts = [int(self.R.randint(n - low + 1)) for n, (low, _) in zip(shape, ranges, strict=True)]
            sides = [int(self.R.randint(low, high + 1)) for low, high in ranges]
            box: Any = (slice(None), *(slice(at, at + side) for at, side in zip(starts, sides, strict=True)))
            out[box] = _unit_noise(out[box].shape, noise) if replacement is None else replacement[box]
            dropped += out[box][0].size
        return out


def two_views(
    crops: Sequence[Volume], drop: RandBlockDrop, random: np.random.RandomState
) -> tuple[list[Volume], list[Volume], list[int]]:
    """Make two corrupted views of every crop.

    In each view every crop is turned, loses blocks to noise and, where the dice name another crop of the batch, blocks
    to that one as it is by then.

    Parameters
    ----------
    crops : sequence of ndarray of shape (channel, a, b, b)
    drop : RandBlockDrop
        Its random state is replaced by ``random``.
    random : RandomState
        The batch's own.

    Returns
    -------
    images, targets : list of ndarray
        Corrupted, and turned only; the first views, then the second.
    turns : list of int
        Quarter turns of each.
    """
    turn = RandQuarterTurn().set_random_state(state=random)
    drop.set_random_state(state=random)
    images: list[Volume] = []
    targets: list[Volume] = []
    turns: list[int] = []
    for _view in range(2):
        turned = [turn(crop) for crop in crops]
        seen = [volume for volume, _ in turned]
        for place in range(len(seen)):
            seen[place] = drop(seen[place])
            other = int(random.randint(len(seen)))
            if other != place:
                seen[place] = drop(seen[place], seen[other])
        images += seen
        targets += [volume for volume, _ in turned]
        turns += [quarters for _, quarters in turned]
    return images, targets, turns


def _unit_noise(shape: tuple[int, ...], generator: np.random.Generator) -> Volume:
    values = generator.standard_normal(shape, dtype=np.float32)
    values -= values.min()
    highest = values.max()
    return values / highest if highest > 0 else values
