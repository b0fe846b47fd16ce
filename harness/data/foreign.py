"""A transform of MONAI, or of anybody, named by its dotted path and seeded per sample."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, Randomizable
from numpy.typing import NDArray
from torch import Tensor

from harness.data.settings import Foreign
from harness.errors import UserError, nearest

__all__ = ["ForeignTransform"]


class ForeignTransform:
    """Calls a transform with its randomness taken from the sample's generator.

    Parameters
    ----------
    settings : Foreign
        Its dotted path and options.

    Raises
    ------
    UserError
        The path names nothing that can be imported, or it does not take the options.
    """

    def __init__(self, settings: Foreign) -> None:
        self._name = settings.target
        self._transform = _instantiate(settings)
        self._state = np.random.RandomState(0)  # what MONAI's transforms draw from

    def __call__(
        self,
        image: NDArray[np.float32],
        label: NDArray[np.int64] | None,
        fill: Sequence[float],
        rng: np.random.Generator,
    ) -> None:
        """Transform a patch in place: image (C, a, b, c), label (a, b, c) or None."""
        del fill
        if isinstance(self._transform, Randomizable):
            self._state.seed(int(rng.integers(2**32)))
            self._transform.set_random_state(state=self._state)
        # Copies: some transforms write into what they are given, and some hand back a view of it.
        sample = {"image": torch.from_numpy(image.copy())}
        if label is not None:
            sample["label"] = torch.from_numpy(label[None].copy())
        if isinstance(self._transform, MapTransform):
            changed: Mapping[str, Any] = self._transform(dict(sample))
        else:
            changed = {"image": self._transform(sample["image"])}
        image[...] = self._plain(changed["image"], sample["image"])
        if label is not None and "label" in changed:
            label[...] = self._plain(changed["label"], sample["label"])[0]

    def _plain(self, value: Any, before: Tensor) -> NDArray[Any]:
        array = np.asarray(value)
        if array.shape != tuple(before.shape):
            raise UserError(
                f"Augmentation {self._name!r} changed a patch from shape {tuple(before.shape)} to {array.shape}; the "
                "patches of a batch must keep one shape. Remove it, or give it options that keep the shape."
            )
        return array


def _instantiate(settings: Foreign) -> Any:
    module_name, _, class_name = settings.target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"Augmentation {settings.target!r} cannot be imported: {error}. Install the package that holds it, or "
            "correct the path."
        ) from error
    kind = getattr(module, class_name, None)
    if not callable(kind):
        guess = nearest(class_name, dir(module))
        raise UserError(
            f"Augmentation {settings.target!r}: {module_name} has nothing callable named {class_name!r}."
            f"{f' Did you mean {guess!r}?' if guess else ''}"
        )
    try:
        return kind(**settings.options)
    except (TypeError, ValueError) as error:
        raise UserError(f"Augmentation {settings.target!r} does not take {settings.options}: {error}") from error
