"""Data of Med3D's co-training: the paper's normalisation per data set, and patches with their labels."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness.data.settings import IntensityRule
from harness.errors import UserError
from harness.pretraining.co_training import NOT_ANNOTATED
from harness.pretraining.volumes import Prepared, cut

__all__ = ["INTENSITY", "labelled_patch", "median_spacing"]

INTENSITY = IntensityRule(rule="zscore", percentiles=(0.5, 99.5))
"""The paper's intensity normalisation, per volume."""

_AXIS_OF = {"R": "x", "L": "x", "A": "y", "P": "y", "S": "z", "I": "z"}


class _Stored(Protocol):
    @property
    def spacing(self) -> Sequence[float]: ...

    @property
    def axcodes(self) -> str: ...


def median_spacing(cases: Iterable[_Stored]) -> tuple[float, float, float]:
    """Return the paper's spacing for one data set: the median over its cases, in mm along x, y and z.

    Parameters
    ----------
    cases : iterable of CaseFacts
        As `harness.data.check` found them, with axes as stored.
    """
    found: dict[str, list[float]] = {"x": [], "y": [], "z": []}
    for case in cases:
        for letter, step in zip(case.axcodes, case.spacing, strict=True):
            found[_AXIS_OF[letter]].append(float(step))
    if not found["x"]:
        raise UserError("The median spacing of no cases is not defined. Give at least one case.")
    return statistics.median(found["x"]), statistics.median(found["y"]), statistics.median(found["z"])


def labelled_patch(
    volume: Prepared, size: tuple[int, int, int], positive: float, ignored: int | None, random: np.random.RandomState
) -> dict[str, Tensor]:
    """Cut a patch out of a labelled volume.

    Parameters
    ----------
    volume : Prepared
        With a label.
    size : tuple of 3 int
        Voxels; what lies beyond the volume is filled, and background.
    positive : float
        Probability that the patch is centred on a foreground voxel of a class drawn uniformly; else it is uniform.
    ignored : int, optional
        Class index that becomes `NOT_ANNOTATED`.
    random : RandomState
        The sample's own.

    Returns
    -------
    dict of Tensor
        ``image`` float32 of shape (channel, a, b, c), ``label`` int64 of shape (a, b, c).
    """
    assert volume.label is not None
    start = _start(volume, size, positive, ignored, random)
    label = torch.from_numpy(cut(volume.label[None], start, size, (0,))[0]).long()
    if ignored is not None:
        label[label == ignored] = NOT_ANNOTATED
    return {"image": torch.from_numpy(cut(volume.image, start, size, volume.fill)), "label": label}


def _start(
    volume: Prepared, size: tuple[int, int, int], positive: float, ignored: int | None, random: np.random.RandomState
) -> list[int]:
    shape = volume.image.shape[1:]
    present = sorted(value for value in volume.foreground if value != ignored)
    if present and random.random_sample() < positive:
        voxels = volume.foreground[present[random.randint(len(present))]]
        centre = np.unravel_index(int(voxels[random.randint(len(voxels))]), shape)
        wanted = [int(at) - side // 2 for at, side in zip(centre, size, strict=True)]
    else:
        wanted = [int(random.randint(max(n - side, 0) + 1)) for n, side in zip(shape, size, strict=True)]
    return [
        min(max(at, 0), n - side) if n >= side else (n - side) // 2
        for at, n, side in zip(wanted, shape, size, strict=True)
    ]
