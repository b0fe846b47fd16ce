"""How voxel values become network inputs: the intensity rules, applied to one channel of one volume."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.settings import IntensityRule

__all__ = ["map_channel"]


def map_channel(values: NDArray[Any], rule: IntensityRule) -> tuple[NDArray[np.float32], float]:
    """Map one channel of one volume.

    Parameters
    ----------
    values : ndarray of shape (a, b, c)
        As the scanner or the data set has them; not changed.
    rule : IntensityRule
        What to do; see its docstring. ``to`` is [0, 1] where it is not given. A constant volume becomes 0 under
        the z-scores, and the lower end of ``to`` under ``minmax``.

    Returns
    -------
    mapped : ndarray of shape (a, b, c), float32
        A new array.
    fill : float
        The value of background, for padding: 0 where the rule keeps zeros, else the lowest mapped value.
    """
    mapped = np.array(values, dtype=np.float32, order="K")
    counted = mapped[mapped != 0] if rule.rule == "zscore_nonzero" else mapped
    if counted.size == 0:
        return mapped, 0.0
    if rule.percentiles is not None:
        low, high = np.percentile(counted, rule.percentiles)
        background = mapped == 0 if rule.rule == "zscore_nonzero" else None
        np.clip(mapped, low, high, out=mapped)
        if background is not None:
            mapped[background] = 0
            counted = mapped[~background]
    if rule.rule == "window" and rule.window is not None:
        np.clip(mapped, *rule.window, out=mapped)
        _rescale(mapped, rule.window, rule.to)
    elif rule.rule == "minmax":
        _rescale(mapped, (float(mapped.min()), float(mapped.max())), rule.to)
    elif rule.rule in ("zscore", "zscore_nonzero"):
        mean, deviation = float(counted.mean(dtype=np.float64)), float(counted.std(dtype=np.float64))
        scale = 1 / deviation if deviation > 0 else 0.0
        if rule.rule == "zscore_nonzero":
            return np.where(mapped != 0, (mapped - np.float32(mean)) * np.float32(scale), np.float32(0)), 0.0
        mapped -= np.float32(mean)
        mapped *= np.float32(scale)
    return mapped, float(mapped.min())


def _rescale(mapped: NDArray[np.float32], have: tuple[float, float], to: tuple[float, float] | None) -> None:
    low, high = to or (0.0, 1.0)
    scale = (high - low) / (have[1] - have[0]) if have[1] > have[0] else 0.0
    mapped -= np.float32(have[0])
    mapped *= np.float32(scale)
    mapped += np.float32(low)
