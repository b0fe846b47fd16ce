"""Random transforms of one training patch: named ones and any MONAI transform, drawn from one generator per sample.

Whether a named transform happens is drawn here, and the transform is only called when it does: most of the time
most of them do not, and calling MONAI's wrappers to learn that costs more than the draw.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import monai.transforms as mt
import numpy as np
import torch
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from harness.data import settings as choices
from harness.data.settings import Augmentation, Transform
from harness.errors import UserError, nearest

__all__ = ["Augmenter"]

Sample = dict[str, Tensor]
Step = Callable[[Sample, np.random.Generator], Sample]


class Augmenter:
    """Applies an `Augmentation` to patches. Not for use by two threads at once: MONAI's transforms hold state.

    Parameters
    ----------
    settings : Augmentation
        Which transforms, in which order.

    Raises
    ------
    UserError
        A dotted path names nothing that can be imported, or does not take the given options.
    """

    def __init__(self, settings: Augmentation) -> None:
        self._steps = [_build(transform) for transform in settings.transforms]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the transformed sample.

        Parameters
        ----------
        sample : dict of Tensor
            ``image`` float32 of shape (C, a, b, c) and, where the case has one, ``label`` int64 of shape (1, a, b, c).
        rng : numpy Generator
            The sample's own; equal generators give equal results.

        Returns
        -------
        dict of Tensor
            The same keys, dtypes and shapes.
        """
        for step in self._steps:
            sample = step(sample, rng)
        return sample


def _build(transform: Transform) -> Step:
    match transform:
        case choices.Flip():
            return _flips(transform)
        case choices.Affine():
            return _sometimes(transform.probability, _Seeded(_affine(transform)))
        case choices.ScaleIntensity():
            return _on_image(transform, mt.RandScaleIntensity(transform.factors, prob=1.0))
        case choices.ShiftIntensity():
            return _on_image(transform, mt.RandShiftIntensity(transform.offsets, prob=1.0))
        case choices.GaussianNoise():
            return _on_image(transform, mt.RandGaussianNoise(prob=1.0, std=transform.std, sample_std=True))
        case choices.GaussianSmooth():
            sigma = transform.sigma
            return _on_image(transform, mt.RandGaussianSmooth(sigma, sigma, sigma, prob=1.0))
        case choices.Gamma():
            return _on_image(transform, mt.RandAdjustContrast(prob=1.0, gamma=transform.gamma))
        case choices.LowResolution():
            return _on_image(transform, mt.RandSimulateLowResolution(prob=1.0, zoom_range=transform.zoom))
        case choices.Foreign():
            return _Seeded(_instantiate(transform))


def _flips(transform: choices.Flip) -> Step:
    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        axes = [1 + axis for axis in transform.axes if rng.random() < transform.probability]
        return {name: torch.flip(value, axes) for name, value in sample.items()} if axes else sample

    return step


def _sometimes(probability: float, then: Step) -> Step:
    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        return then(sample, rng) if rng.random() < probability else sample

    return step


def _on_image(transform: Any, monai_transform: Any) -> Step:
    return _sometimes(transform.probability, _Seeded(monai_transform))


class _Seeded:
    """Calls a MONAI-like transform with its randomness taken from the sample's generator."""

    def __init__(self, transform: Any) -> None:
        self._transform = transform
        self._state = np.random.RandomState(0)  # what MONAI's transforms draw from

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if isinstance(self._transform, Randomizable):
            self._state.seed(int(rng.integers(2**32)))
            self._transform.set_random_state(state=self._state)
        if isinstance(self._transform, MapTransform):
            return {name: _plain(value, sample[name]) for name, value in self._transform(dict(sample)).items()}
        return {**sample, "image": _plain(self._transform(sample["image"]), sample["image"])}


def _plain(value: Any, before: Tensor) -> Tensor:
    """Undo MONAI's MetaTensor and dtype changes, so that every transform sees what the first one saw."""
    tensor = torch.as_tensor(value.as_tensor() if hasattr(value, "as_tensor") else value)
    if tensor.shape != before.shape:
        raise UserError(
            f"An augmentation changed a patch from shape {tuple(before.shape)} to {tuple(tensor.shape)}; patches of "
            "one batch must keep one shape. Remove it from the augmentation, or give it options that keep the shape."
        )
    return tensor.to(before.dtype)


def _affine(transform: choices.Affine) -> Any:
    radians = [math.radians(angle) for angle in transform.rotate]
    # MONAI's scale is that of the sampling grid, the inverse of a magnification, and is given as an offset from 1.
    scales = (1 / transform.zoom[1] - 1, 1 / transform.zoom[0] - 1)
    return mt.RandAffined(
        keys=("image", "label"),
        prob=1.0,
        rotate_range=[(-angle, angle) for angle in radians],
        translate_range=[(-shift, shift) for shift in transform.translate],
        scale_range=scales,
        mode=("bilinear", "nearest"),
        padding_mode="border",
        cache_grid=False,
        allow_missing_keys=True,
    )


def _instantiate(transform: choices.Foreign) -> Any:
    module_name, _, class_name = transform.target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"Augmentation {transform.target!r} cannot be imported: {error}. Install the package that holds it, or "
            "correct the path."
        ) from error
    kind = getattr(module, class_name, None)
    if not callable(kind):
        guess = nearest(class_name, dir(module))
        raise UserError(
            f"Augmentation {transform.target!r}: {module_name} has nothing callable named {class_name!r}."
            f"{f' Did you mean {guess!r}?' if guess else ''}"
        )
    try:
        return kind(**transform.options)
    except (TypeError, ValueError) as error:
        raise UserError(f"Augmentation {transform.target!r} does not take {transform.options}: {error}") from error
