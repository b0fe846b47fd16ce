"""Compiled inner loops of the pretext transforms, each for what NumPy can only do slowly or with large copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["fuse", "histogram", "look_up", "permute_windows"]

Function = TypeVar("Function", bound=Callable[..., Any])
_compiled: Callable[[Function], Function] = numba.njit(cache=True, nogil=True)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@_compiled
def permute_windows(
    source: NDArray[np.float32],
    out: NDArray[np.float32],
    corners: NDArray[np.int64],
    sides: NDArray[np.int64],
    shape: tuple[int, int, int],
    seed: np.uint64,
) -> None:
    """Write, window by window, the voxels of ``source`` in random order to the same window of ``out``.

    Parameters
    ----------
    source, out : ndarray of shape (channel, voxel)
        Flattened in C order from (channel, *shape). Every channel gets the same permutation.
    corners, sides : ndarray of shape (window, 3)
        A later window overwrites an earlier one.
    shape : tuple of int
        Of one channel.
    seed : np.uint64
        Start of the SplitMix64 sequence (Steele et al. 2014, doi:10.1145/2714064.2660195); uniform up to a bias
        below 1e-6, from scaling 32 random bits to a window's size.
    """
    here = np.empty(sides[:, 0].max() * sides[:, 1].max() * sides[:, 2].max(), np.int64)
    mixed = np.empty_like(here)
    state = seed
    for window in range(corners.shape[0]):
        count = 0
        for a in range(corners[window, 0], corners[window, 0] + sides[window, 0]):
            for b in range(corners[window, 1], corners[window, 1] + sides[window, 1]):
                start = (a * shape[1] + b) * shape[2] + corners[window, 2]
                for c in range(sides[window, 2]):
                    # inside-out Fisher-Yates
                    state += _GOLDEN
                    z = state
                    z = (z ^ (z >> _S30)) * _MIX_1
                    z = (z ^ (z >> _S27)) * _MIX_2
                    z = (z ^ (z >> _S31)) >> _S32
                    pick = np.int64((z * np.uint64(count + 1)) >> _S32)
                    here[count] = start + c
                    mixed[count] = mixed[pick]
                    mixed[pick] = start + c
                    count += 1
        for channel in range(source.shape[0]):
            for k in range(count):
                out[channel, here[k]] = source[channel, mixed[k]]


@_compiled
def look_up(
    values: NDArray[np.float32], xs: NDArray[np.float64], ys: NDArray[np.float64], bins: int, out: NDArray[np.float32]
) -> None:
    """Interpolate the curve (xs, ys) linearly at every value, as ``np.interp`` does, in constant time for each.

    Parameters
    ----------
    values, out : ndarray of shape (n,)
    xs, ys : ndarray of shape (m,)
        Points of the curve; ``xs`` rises from 0 to 1. Values beyond are answered with the end points.
    bins : int
        A uniform grid of so many cells on [0, 1] remembers where to start looking.
    """
    last = xs.shape[0] - 1
    guide = np.empty(bins + 1, np.int64)
    point = 0
    for cell in range(bins + 1):
        while point + 1 < last and xs[point + 1] * bins <= cell:
            point += 1
        guide[cell] = point
    for n in range(values.shape[0]):
        value = np.float64(values[n])
        if not value > xs[0]:
            out[n] = ys[0]
        elif value >= xs[last]:
            out[n] = ys[last]
        else:
            point = guide[int(value * bins)]
            while xs[point + 1] <= value:
                point += 1
            out[n] = ys[point] + (value - xs[point]) / (xs[point + 1] - xs[point]) * (ys[point + 1] - ys[point])


@_compiled
def fuse(
    foreground: NDArray[np.float32],
    background: NDArray[np.float32],
    classes: NDArray[np.uint8],
    highest: int,
    out: NDArray[np.float32],
) -> None:
    """Write the mixture of two volumes, each exactly where it is alone.

    Parameters
    ----------
    foreground, background, out : ndarray of shape (channel, voxel)
    classes : ndarray of shape (voxel,)
        Class k takes the share k / ``highest`` of the foreground.
    highest : int
    """
    for channel in range(out.shape[0]):
        for n in range(classes.shape[0]):
            k = classes[n]
            if k == 0:
                out[channel, n] = background[channel, n]
            elif k == highest:
                out[channel, n] = foreground[channel, n]
            else:
                share = np.float32(k) / np.float32(highest)
                out[channel, n] = share * foreground[channel, n] + (np.float32(1) - share) * background[channel, n]


@_compiled
def histogram(values: NDArray[np.float32], bins: int) -> NDArray[np.int64]:
    """Count values in [0, 1] in equal bins; 1 itself falls into the last."""
    counts = np.zeros(bins, np.int64)
    for n in range(values.shape[0]):
        counts[min(int(values[n] * bins), bins - 1)] += 1
    return counts
