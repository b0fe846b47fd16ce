"""From logits to labels, and back to the scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.grid import GridSpec

__all__ = ["restore", "to_labels"]


def to_labels(
    logits: Tensor, activation: Literal["softmax", "sigmoid"], values: Sequence[int] | None = None
) -> NDArray[Any]:
    """Decide every voxel.

    Parameters
    ----------
    logits : Tensor of shape (classes, a, b, c)
        From `harness.inference.sliding_window.predict_logits`.
    activation : {"softmax", "sigmoid"}
        ``softmax``: the class with the largest logit, the first of equal ones. ``sigmoid``: each channel is a region
        of its own, present where its probability exceeds 0.5.
    values : sequence of int, optional
        With softmax, the label value of each class index (``Cache.label_values``); the indices themselves by default.

    Returns
    -------
    ndarray of shape (a, b, c) for softmax, (classes, a, b, c) for sigmoid
        uint8, or uint16 where a value needs it.
    """
    if activation == "sigmoid":
        return (logits > 0).numpy().astype(np.uint8)
    wanted = np.asarray(range(logits.shape[0]) if values is None else values)
    table = wanted.astype(np.uint8 if wanted.max() < 256 else np.uint16)
    result: NDArray[Any] = table[logits.argmax(dim=0).numpy()]
    return result


def restore(labels: NDArray[Any], spec: GridSpec, *, fill: int = 0) -> NDArray[Any]:
    """Bring labels back to the scan's own grid, exactly where the spacing was kept and by nearest neighbour otherwise.

    Parameters
    ----------
    labels : ndarray of shape spec.target.shape, or (C, *spec.target.shape)
        On the prepared grid.
    spec : GridSpec
        How that grid was made.
    fill : int
        Label of voxels that were cropped away.

    Returns
    -------
    ndarray of shape spec.source.shape, or (C, *spec.source.shape)
    """
    return spec.restore(labels, order="nearest", fill=fill)
