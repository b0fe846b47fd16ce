"""From logits to labels, and back to the scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import UserError
from harness.grid import GridSpec
from harness.inference.ring import Line, resample

__all__ = ["NativeGrid", "label_table", "restore", "restore_logits", "to_labels"]

Activation = Literal["softmax", "sigmoid"]


def to_labels(logits: Tensor, activation: Activation, values: Sequence[int] | None = None) -> NDArray[Any]:
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

    Raises
    ------
    UserError
        There are not as many values as classes.
    """
    if activation == "sigmoid":
        return (logits > 0).numpy().astype(np.uint8)
    table = label_table(logits.shape[0], values)
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


def restore_logits(
    logits: Tensor, spec: GridSpec, activation: Activation, values: Sequence[int] | None = None
) -> NDArray[Any]:
    """Interpolate logits linearly at the scan's own voxel centres and decide there.

    The result is that of interpolating all classes and taking the largest, without holding more than a few planes of
    interpolated logits.

    Parameters
    ----------
    logits : Tensor of shape (classes, *spec.target.shape)
        On the prepared grid, in main memory.
    spec : GridSpec
        How that grid was made.
    activation, values
        As in `to_labels`.

    Returns
    -------
    ndarray of shape spec.source.shape for softmax, (classes, *spec.source.shape) for sigmoid
        Voxels that were cropped away are 0.
    """
    native = NativeGrid(spec)
    channels = logits.float().contiguous().numpy()
    shape = [len(line.low) for line in native.lines]
    unweighted = np.empty((0, 0, 0), dtype=np.float32)
    if activation == "softmax":
        parts, table = [channels], label_table(len(channels), values)
    else:
        parts, table = [channels[index : index + 1] for index in range(len(channels))], label_table(2, None)
    results = []
    for part in parts:
        out = np.empty(shape, dtype=table.dtype)
        resample(part, unweighted, native.lines, 0, shape[0], table, out)
        results.append(native.lay_down(out, 0))
    return results[0] if activation == "softmax" else np.stack(results)


def label_table(classes: int, values: Sequence[int] | None) -> NDArray[Any]:
    """Return the label of each class index in the smallest unsigned type."""
    wanted = np.arange(classes) if values is None else np.asarray(values)
    if len(wanted) != classes:
        raise UserError(
            f"The network has {classes} output channels and the data set {len(wanted)} label values "
            f"({', '.join(map(str, wanted))}). Build the network for this data set's labels."
        )
    return wanted.astype(np.uint8 if wanted.max() < 256 else np.uint16)


class NativeGrid:
    """The scan's own grid seen from the prepared one: lines of interpolation, and how to lay the result down.

    The convention is that of `GridSpec.restore` with linear interpolation.

    Parameters
    ----------
    spec : GridSpec
        How the prepared grid was made.
    """

    def __init__(self, spec: GridSpec) -> None:
        self._spec = spec
        self._oriented = tuple(spec.source.shape[axis] for axis in spec.permutation)
        self._kept: list[slice] = []
        lines = []
        for n, m, (a, b), start in zip(self._oriented, spec.spaced_shape, spec.window, spec.start, strict=True):
            inside = [voxel for voxel in range(n) if a <= (2 * voxel + 1) * m // (2 * n) < b]
            kept = slice(inside[0], inside[-1] + 1) if inside else slice(0, 0)
            centres = (np.arange(kept.start, kept.stop) + 0.5) * (m / n) - 0.5
            centres = centres.clip(a, b - 1)
            low = np.floor(centres).astype(np.int64)
            high = np.minimum(low + 1, b - 1)
            lines.append(Line(low - start, high - start, (centres - low).astype(np.float32)))
            self._kept.append(kept)
        self.lines = (lines[0], lines[1], lines[2])

    @property
    def is_resampled(self) -> bool:
        """Whether the spacing was changed; if not, nearest neighbour is exact."""
        return self._oriented != self._spec.spaced_shape

    def lay_down(self, labels: NDArray[Any], fill: int) -> NDArray[Any]:
        """Bring labels at the lines' voxels, shape (a, b, c), to the axes and the full extent of the scan."""
        spec = self._spec
        oriented = np.full(self._oriented, fill, dtype=labels.dtype)
        oriented[tuple(self._kept)] = labels
        reverse = tuple(slice(None, None, -1 if flip else 1) for flip in spec.flips)
        back = [spec.permutation.index(axis) for axis in range(3)]
        return np.ascontiguousarray(oriented[reverse].transpose(back))
