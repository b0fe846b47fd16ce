"""Random changes of whole batches where the network is, seeded per sample and drawn on the host.

`draw` gives the numbers of one sample, from its own generator; `augment` applies those of a batch without waiting for
the device. Neither workers, ranks nor a resume can change what is drawn, and noise is the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.data.settings import DeviceTransform, Flip, Gamma, GaussianNoise, ScaleIntensity, ShiftIntensity

__all__ = ["augment", "draw"]


def draw(transforms: Sequence[DeviceTransform], rng: np.random.Generator) -> list[float]:
    """Draw the numbers of one sample: as many for each transform whether it happens or not.

    Returns
    -------
    list of float
        Per transform: ``flip`` three of 0 and 1, ``gaussian_noise`` standard deviation and seed, the others one
        number that changes nothing where the transform does not happen.
    """
    row: list[float] = []
    for transform in transforms:
        happens = rng.random() < transform.probability
        match transform:
            case Flip():
                # each axis by its own chance, as on the host
                chances = [happens, *(rng.random() < transform.probability for _ in range(2))]
                flips = dict(zip((0, 1, 2), chances, strict=True))
                row += [float(flips[axis] and axis in transform.axes) for axis in range(3)]
            case ScaleIntensity():
                factor = 1 + rng.uniform(*transform.factors)
                row.append(factor if happens else 1.0)
            case ShiftIntensity():
                offset = rng.uniform(*transform.offsets)
                row.append(offset if happens else 0.0)
            case GaussianNoise():
                std, seed = rng.uniform(0, transform.std), float(rng.integers(2**53))
                row += [std if happens else 0.0, seed]
            case Gamma():
                power = rng.uniform(*transform.gamma)
                row.append(power if happens else 1.0)
    return row


@torch.no_grad()
def augment(transforms: Sequence[DeviceTransform], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the batch with its image, and its label where voxels move, changed as ``batch["augment"]`` says.

    Parameters
    ----------
    transforms : sequence of DeviceTransform
        Those that the numbers were drawn for.
    batch : mapping of str to Tensor
        ``image`` of shape (B, C, a, b, c), perhaps ``label`` of shape (B, 1, a, b, c), ``augment`` of shape (B, n).

    Returns
    -------
    dict of Tensor
        Without ``augment``.
    """
    changed = dict(batch)
    numbers = changed.pop("augment")
    columns = iter(numbers.unbind(dim=1))
    image = changed["image"]

    def each(column: Tensor) -> Tensor:
        return column.to(image.dtype)[:, None, None, None, None]

    for transform in transforms:
        match transform:
            case Flip():
                for axis in (2, 3, 4):
                    flip = next(columns)[:, None, None, None, None] > 0
                    image = torch.where(flip, image.flip(axis), image)
                    if "label" in changed:
                        changed["label"] = torch.where(flip, changed["label"].flip(axis), changed["label"])
            case ScaleIntensity():
                image = image * each(next(columns))
            case ShiftIntensity():
                image = image + each(next(columns))
            case GaussianNoise():
                std, seed = next(columns), next(columns)
                image = image + each(std) * _normal(seed.to(torch.int64), image)
            case Gamma():
                image = _power(image, each(next(columns)))
    return {**changed, "image": image}


def _power(image: Tensor, gamma: Tensor) -> Tensor:
    """Raise each sample, mapped to [0, 1] by its own lowest and highest value and back, to its power."""
    low = image.amin(dim=(1, 2, 3, 4), keepdim=True)
    span = image.amax(dim=(1, 2, 3, 4), keepdim=True) - low
    unit = (image - low) / torch.where(span > 0, span, 1.0)
    return torch.where(gamma == 1, image, unit.pow(gamma) * span + low)


def _normal(seeds: Tensor, like: Tensor) -> Tensor:
    """Return standard normal numbers in the shape of ``like``, a function of each sample's seed and the voxel.

    A counter is hashed and two of its parts go through the Box-Muller transform, so that no state is kept and every
    device gives the same numbers, up to the rounding of its logarithm and cosine.
    """
    count = like[0].numel()
    voxels = torch.arange(count, dtype=torch.int64, device=like.device)
    bits = _mixed(_mixed(seeds)[:, None] + voxels)
    first = (_shifted(bits, 40).to(torch.float32) + 0.5) / 2**24
    second = (_shifted(bits, 16) & (2**24 - 1)).to(torch.float32) / 2**24
    normal = torch.sqrt(-2 * torch.log(first)) * torch.cos(2 * math.pi * second)
    return normal.to(like.dtype).reshape(like.shape)


def _mixed(x: Tensor) -> Tensor:
    """Scatter 64-bit integers (the finaliser of SplitMix64; Steele, Lea and Flood 2014). Overflow wraps around."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros: torch fills with the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word
