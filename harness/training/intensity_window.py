"""The intensity window: per class, the range of values that finds it best in the training cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from harness.data.cache import Cache, PreparedCase
from harness.training.zero_training import Rule, buffers

__all__ = ["BINS", "IntensityWindow"]

BINS = 128
"""Steps in which windows are tried; the first and the last reach to infinity."""
_SAMPLES = 1 << 18  # voxels per case that settle where the steps lie
_TAILS = (0.5, 99.5)


class IntensityWindow(Rule):
    """A voxel belongs to a class where its value lies in the window that has the best mean Dice on the training cases.

    Per class one channel and one window are chosen, and whether only the largest connected component is kept. Where
    windows overlap, the class with the better Dice on the training cases wins.

    Parameters
    ----------
    spread : ndarray of float64, shape (C, 2)
        Per channel, the values between which the steps lie.
    windows : ndarray of int64, shape (K, 4)
        Per foreground class: channel, first step, last step (excluded), and 1 where only the largest component counts.
    dice : ndarray of float64, shape (K,)
        The mean Dice on the training cases; 0 for a class that they do not have.
    """

    decision = "intensity window per class that is best on the training cases"
    spread: Tensor
    windows: Tensor
    dice: Tensor

    def __init__(self, spread: NDArray[np.float64], windows: NDArray[np.int64], dice: NDArray[np.float64]) -> None:
        super().__init__()
        buffers(self, spread=spread, windows=windows, dice=dice)

    @classmethod
    def fit(cls, cache: Cache, train: Sequence[str]) -> IntensityWindow:
        """Go through the training cases three times: for the steps, for the windows, for the components."""
        classes = len(cache.label_values) - 1
        tails = np.array([_tails(cache.case(case)) for case in train])
        spread = np.stack([tails[..., 0].min(axis=0), tails[..., 1].max(axis=0)], axis=1)
        channels = len(spread)
        total, cases = np.zeros((classes, channels, BINS + 1, BINS + 1)), np.zeros(classes)
        for case in train:
            prepared = cache.case(case)
            label, steps = np.asarray(prepared.label), _steps(prepared.image, spread)
            counted = [_histogram(label, of_channel, classes) for of_channel in steps]
            for index in _present(prepared, classes):
                cases[index] += 1
                for channel in range(channels):
                    total[index, channel] += _dice_of_windows(counted[channel], index + 1)
        windows = np.zeros((classes, 4), np.int64)
        for index in range(classes):
            windows[index, :3] = np.unravel_index(np.argmax(total[index]), total.shape[1:])
        gained = np.zeros((classes, 2))
        for case in train:
            prepared = cache.case(case)
            label, steps = np.asarray(prepared.label), _steps(prepared.image, spread)
            for index in _present(prepared, classes):
                mask, truth = _inside(steps, windows[index]), label == index + 1
                gained[index] += _dice(mask, truth), _dice(_largest(mask), truth)
        windows[:, 3] = gained[:, 1] > gained[:, 0]
        return cls(spread, windows, gained.max(axis=1) / np.maximum(cases, 1))

    def label(self, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the class index of every voxel."""
        steps = _steps(image, self.spread.cpu().numpy())
        windows, dice = self.windows.cpu().numpy(), self.dice.cpu().numpy()
        labels = np.zeros(image.shape[1:], np.uint8)
        for index in np.argsort(dice, kind="stable"):  # the best is painted last
            if dice[index] > 0:
                mask = _inside(steps, windows[index])
                labels[_largest(mask) if windows[index, 3] else mask] = index + 1
        return labels


def _tails(prepared: PreparedCase) -> NDArray[np.float64]:
    """Return the tails of every channel, shape (C, 2), from evenly spread voxels."""
    flat = np.asarray(prepared.image).reshape(len(prepared.image), -1)
    sampled = flat[:, :: max(1, flat.shape[1] // _SAMPLES)].astype(np.float64)
    found: NDArray[np.float64] = np.percentile(sampled, _TAILS, axis=1).T
    return found


def _steps(image: NDArray[np.floating], spread: NDArray[np.float64]) -> list[NDArray[np.uint8]]:
    """Return per channel the step that every voxel lies in."""
    found = []
    for volume, (low, high) in zip(image, spread, strict=True):
        scaled = (np.asarray(volume, np.float32) - np.float32(low)) * np.float32(BINS / max(high - low, 1e-6))
        found.append(np.clip(scaled, 0, BINS - 1).astype(np.uint8))
    return found


def _histogram(label: NDArray[np.integer], steps: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Return how many voxels of each class, background first, lie in each step; shape (K + 1, BINS)."""
    joint = label.astype(np.int32).reshape(-1) * BINS + steps.reshape(-1)
    return np.bincount(joint, minlength=(classes + 1) * BINS).reshape(classes + 1, BINS)


def _dice_of_windows(counted: NDArray[np.int64], value: int) -> NDArray[np.float64]:
    """Return the Dice of every window [first, last), shape (BINS + 1, BINS + 1); 0 where it is empty."""
    own, every = (np.concatenate([[0], np.cumsum(row)]) for row in (counted[value], counted.sum(axis=0)))
    overlap, found = (np.maximum(row[None, :] - row[:, None], 0) for row in (own, every))
    dice: NDArray[np.float64] = 2 * overlap / (found + own[-1])
    return dice


def _present(prepared: PreparedCase, classes: int) -> list[int]:
    """Return the foreground classes, from 0, that this case has."""
    return [index for index in range(classes) if index + 1 in prepared.foreground]


def _inside(steps: Sequence[NDArray[np.uint8]], window: NDArray[np.int64]) -> NDArray[np.bool_]:
    channel, first, last, _ = window
    inside: NDArray[np.bool_] = (steps[channel] >= first) & (steps[channel] < last)
    return inside


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest component of voxels that share a face; of equal ones the first."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    kept: NDArray[np.bool_] = parts == 1 + int(np.argmax(np.bincount(parts.reshape(-1))[1:]))
    return kept


def _dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth)))
