"""The mean shape: where the training cases have each class, in a frame that spans the prepared scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from harness.data.cache import Cache, PreparedCase
from harness.training.zero_training import Rule, buffers

__all__ = ["FRAME", "MeanShape"]

FRAME = 64
"""Points per axis of the frame: evenly spread over the prepared volume, whatever its size."""


class MeanShape(Rule):
    """A voxel belongs to a class where enough of the training cases have it at the same place of the scan.

    Scans are brought to one frame by their extent (after orientation, spacing and the crop to the foreground, where
    the protocol has one); nothing is registered. How many cases are enough is settled per class by the mean Dice of
    every training case under the mean of the others. Where several classes have enough, the one that exceeds its own
    share most wins.

    Parameters
    ----------
    shares : ndarray of float32, shape (K, FRAME, FRAME, FRAME)
        Per foreground class, the share of the training cases that have it there, of those in which it was drawn.
    enough : ndarray of float32, shape (K,)
        The share from which on a voxel belongs to the class.
    """

    decision = "mean shape above the share per class that is best on the training cases"
    shares: Tensor
    enough: Tensor

    def __init__(self, shares: NDArray[np.float32], enough: NDArray[np.float32]) -> None:
        super().__init__()
        buffers(self, shares=shares, enough=enough)

    @classmethod
    def fit(cls, cache: Cache, train: Sequence[str]) -> MeanShape:
        """Count the training cases twice: once for the shape, once for the share that is enough."""
        classes = len(cache.label_values) - 1
        counts = np.zeros((classes, FRAME**3), np.int32)
        drawn = np.zeros(classes, np.int64)
        for case in train:
            prepared = cache.case(case)
            frame = _framed(prepared)
            for index in _drawn(prepared, classes):
                counts[index] += frame == index + 1
                drawn[index] += 1
        dice, cases = [np.zeros(int(n) + 1) for n in drawn], np.zeros(classes)
        whole = [_at_least(counts[index], int(drawn[index])) for index in range(classes)]
        for case in train:
            prepared = cache.case(case)
            frame = _framed(prepared)
            for index in _drawn(prepared, classes):
                inside = counts[index][frame == index + 1]
                if inside.size and drawn[index] > 1:
                    dice[index] += _dice_without(inside, whole[index], int(drawn[index]))
                    cases[index] += 1
        shares = counts / np.maximum(drawn, 1)[:, None]
        enough = [_enough(dice[index], int(drawn[index])) if cases[index] else 0.5 for index in range(classes)]
        return cls(shares.reshape(classes, FRAME, FRAME, FRAME).astype(np.float32), np.array(enough, np.float32))

    def label(self, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the class index of every voxel; of the image only the shape counts."""
        shape = image.shape[1:]
        best, labels = torch.ones(shape), torch.zeros(shape, dtype=torch.uint8)
        for index, (share, enough) in enumerate(zip(self.shares.cpu(), self.enough.tolist(), strict=True)):
            if not bool(share.any()):
                continue
            here = interpolate(share[None, None], size=shape, mode="trilinear", align_corners=False)[0, 0] / enough
            wins = here >= best
            best[wins], labels[wins] = here[wins], index + 1
        return labels.numpy()


def _framed(prepared: PreparedCase) -> NDArray[np.integer]:
    """Return the label at the points of the frame, flat."""
    label = prepared.label
    assert label is not None, "fit_rule refuses cases without labels"
    at = [((np.arange(FRAME) + 0.5) * side / FRAME).astype(np.intp) for side in label.shape]
    return np.asarray(label)[np.ix_(*at)].reshape(-1)


def _drawn(prepared: PreparedCase, classes: int) -> list[int]:
    """Return the foreground classes, from 0, that somebody drew in this case."""
    return [index for index in range(classes) if index + 1 not in prepared.undrawn]


def _at_least(counts: NDArray[np.int32], most: int) -> NDArray[np.int64]:
    """Return for k = 0 ... most + 1 how many of the counts are at least k."""
    return np.cumsum(np.bincount(counts, minlength=most + 2)[::-1])[::-1]


def _dice_without(inside: NDArray[np.int32], whole: NDArray[np.int64], most: int) -> NDArray[np.float64]:
    """Return the Dice of one case with the shape of the others, for k = 0 ... most of them being enough.

    ``inside`` are the counts, this case included, at the points of the case's own mask. Without the case they are
    lower by one; outside its mask they stay.
    """
    own = _at_least(inside, most)
    overlap = own[1:]  # own count - 1 >= k
    found = whole[:-1] - own[:-1] + overlap
    return 2 * overlap / (found + inside.size)


def _enough(dice: NDArray[np.float64], most: int) -> float:
    """Return the share half a case below the best number of other cases, which is at least one."""
    best = 1 + int(np.argmax(dice[1:most])) if most > 1 else 1
    return (best - 0.5) / max(1, most - 1)
