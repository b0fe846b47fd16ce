"""Random transforms of one training patch, drawn from one generator per sample, in the order of the settings.

Whether a named transform happens is drawn here, and nothing is done when it does not: most of the time most of them
do not. Any other transform is called as its own package defines it (`harness.data.foreign`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.data.appearance import CHANGES
from harness.data.foreign import ForeignTransform
from harness.data.settings import Affine, Augmentation, Flip, Foreign, Transform
from harness.data.spatial import Motion, draw_motion, read_image, read_label

__all__ = ["Augmenter"]

Image = NDArray[np.float32]
Label = NDArray[np.int64]
Step = Callable[[Image, Label | None, Sequence[float], np.random.Generator], None]


class Augmenter:
    """Applies an `Augmentation`. Not for use by two threads at once: foreign transforms may hold state.

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
        self._leading: list[Flip | Affine] = []
        rest: list[Transform] = []
        for transform in settings.transforms:
            if isinstance(transform, Flip | Affine) and not rest:
                self._leading.append(transform)
            else:
                rest.append(transform)
        self._steps = [_step(transform) for transform in rest]

    def motion(self, rng: np.random.Generator) -> Motion:
        """Draw the flips and affine transforms that stand first; the patch is read through them."""
        return draw_motion(self._leading, rng)

    def change(self, image: Image, label: Label | None, fill: Sequence[float], rng: np.random.Generator) -> None:
        """Apply everything else, in place.

        Parameters
        ----------
        image : ndarray of shape (C, a, b, c), float32
            The patch.
        label : ndarray of shape (a, b, c), int64, or None
            Its labels.
        fill : sequence of float
            Per channel, what turns into view where an affine transform reads beyond the patch.
        rng : numpy Generator
            The sample's own; equal generators give equal results.
        """
        for step in self._steps:
            step(image, label, fill, rng)


def _step(transform: Transform) -> Step:
    if isinstance(transform, Flip | Affine):
        return _move(transform)
    if isinstance(transform, Foreign):
        return ForeignTransform(transform)
    change, probability = CHANGES[type(transform)], transform.probability

    def step(image: Image, label: Label | None, fill: Sequence[float], rng: np.random.Generator) -> None:
        del label, fill
        if rng.random() < probability:
            change(transform, image, rng)

    return step


def _move(transform: Flip | Affine) -> Step:
    def step(image: Image, label: Label | None, fill: Sequence[float], rng: np.random.Generator) -> None:
        motion = draw_motion([transform], rng)
        if motion.is_nothing:
            return
        read_image(image.copy(), fill, (0, 0, 0), motion, image)
        if label is not None:
            read_label(label.copy(), (0, 0, 0), motion, label)

    return step
