"""Random changes of the values of one patch, in place: brightness, noise, blur, gamma, resolution.

Each does what the MONAI transform of that name does (tests hold them together), without its wrappers: those cost
several times the arithmetic on patches of training size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import kernels
from harness.data import settings as choices

__all__ = ["CHANGES", "blur", "change_gamma", "lower_resolution"]

Patch = NDArray[np.float32]
Change = Callable[[Any, Patch, np.random.Generator], None]


def _scale(transform: choices.ScaleIntensity, image: Patch, rng: np.random.Generator) -> None:
    image *= np.float32(1 + rng.uniform(*transform.factors))


def _shift(transform: choices.ShiftIntensity, image: Patch, rng: np.random.Generator) -> None:
    image += np.float32(rng.uniform(*transform.offsets))


def _add_noise(transform: choices.GaussianNoise, image: Patch, rng: np.random.Generator) -> None:
    # Philox makes each number from a counter, which is slow for a million of them; it only seeds what makes these.
    fast = np.random.Generator(np.random.SFC64(int(rng.integers(2**63))))
    noise = fast.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(rng.uniform(0, transform.std))
    image += noise


def _smooth(transform: choices.GaussianSmooth, image: Patch, rng: np.random.Generator) -> None:
    blur(image, [rng.uniform(*transform.sigma) for _ in range(3)])


def _gamma(transform: choices.Gamma, image: Patch, rng: np.random.Generator) -> None:
    change_gamma(image, rng.uniform(*transform.gamma))


def _low_resolution(transform: choices.LowResolution, image: Patch, rng: np.random.Generator) -> None:
    lower_resolution(image, rng.uniform(*transform.zoom))


CHANGES: dict[type, Change] = {
    choices.ScaleIntensity: _scale,
    choices.ShiftIntensity: _shift,
    choices.GaussianNoise: _add_noise,
    choices.GaussianSmooth: _smooth,
    choices.Gamma: _gamma,
    choices.LowResolution: _low_resolution,
}


def blur(image: Patch, sigma: list[float]) -> None:
    """Blur (C, a, b, c) by a Gaussian with one sigma per axis, in voxels; the edge voxel goes on beyond the edge.

    The weights are the integrals of the Gaussian over each voxel, to four sigmas, as in MONAI, which lets zeros
    enter at the edges instead.
    """
    other = np.empty_like(image)
    source, target = image, other
    for axis, width in enumerate(sigma):
        weights = _gaussian(width)
        kernels.convolve(_lined(source, axis), weights, _lined(target, axis))
        source, target = target, source
    if source is not image:
        image[...] = source


def _gaussian(sigma: float) -> NDArray[np.float32]:
    """Return the weight of the centre and of each neighbour on one side."""
    if sigma <= 0:
        return np.ones(1, dtype=np.float32)
    reach = int(max(sigma * 4, 0.5) + 0.5)
    edges = [math.erf(t / (math.sqrt(2) * sigma)) for t in np.arange(reach + 2) - 0.5]
    weights = np.diff(edges) / 2
    return np.asarray(weights / (weights[0] + 2 * weights[1:].sum()), dtype=np.float32)


def change_gamma(image: Patch, gamma: float) -> None:
    """Raise (C, a, b, c), mapped to [0, 1] by its own lowest and highest value and back, to the power ``gamma``."""
    low, high = float(image.min()), float(image.max())
    if not high > low:
        return
    image -= np.float32(low)
    image *= np.float32(1 / (high - low))
    np.power(image, np.float32(gamma), out=image)
    image *= np.float32(high - low)
    image += np.float32(low)


def lower_resolution(image: Patch, zoom: float) -> None:
    """Take every axis of (C, a, b, c) down by ``zoom`` (nearest) and back up to its size (linear, edge-aligned)."""
    lows = [max(1, round(n * zoom)) for n in image.shape[1:]]
    picks = [np.arange(m) * n // m for n, m in zip(image.shape[1:], lows, strict=True)]
    for channel in image:
        volume = np.ascontiguousarray(channel[np.ix_(*picks)])
        for axis, (n, m) in enumerate(zip(channel.shape, lows, strict=True)):
            at = ((np.arange(n) + 0.5) * (m / n) - 0.5).clip(0, m - 1)
            low = np.floor(at).astype(np.int64)
            shape = list(volume.shape)
            shape[axis] = n
            larger = np.empty(shape, dtype=np.float32)
            between = (at - low).astype(np.float32)
            kernels.resize_axis(
                _lined(volume[None], axis), low, np.minimum(low + 1, m - 1), between, _lined(larger[None], axis)
            )
            volume = larger
        channel[...] = volume


def _lined(image: Patch, axis: int) -> Patch:
    """View (C, a, b, c) as (outer, n, inner) around one axis of space."""
    shape = image.shape
    outer = math.prod(shape[: 1 + axis])
    return image.reshape(outer, shape[1 + axis], math.prod(shape[2 + axis :]))
