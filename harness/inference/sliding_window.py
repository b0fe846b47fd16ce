"""Whole volumes from overlapping windows: logits, labels, or labels on the scan's own grid.

Results equal those of MONAI's ``sliding_window_inference`` with the same options; memory does not grow with the length
of the scan, because finished planes are decided while later windows are still to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.grid import GridSpec
from harness.inference.native import NativeGrid, label_table
from harness.inference.settings import Inference
from harness.inference.sweep import Sweep, Volume

__all__ = ["predict_labels", "predict_logits", "predict_native"]

Ints = tuple[int, int, int]


def predict_logits(
    network: nn.Module,
    volume: Volume,
    settings: Inference,
    patch: Ints,
    device: torch.device | str,
    *,
    fill: float | Sequence[float] = 0.0,
) -> Tensor:
    """Predict the logits of a volume.

    Parameters
    ----------
    network : nn.Module
        On ``device``; its mode and buffers are left as they were.
    volume : Tensor or ndarray of shape (C, a, b, c)
        A prepared volume in main memory, of any floating type; a memory map is read window by window.
    settings : Inference
        Overlap, blending and the rest; its ``patch`` wins over the argument.
    patch : tuple of 3 int
        Window size, in the axes of the volume: the training patch.
    device : torch.device or str
        Where the network lies.
    fill : float or sequence of float
        Value, or one per channel, that pads a volume smaller than the window.

    Returns
    -------
    Tensor of shape (classes, a, b, c), float32, in main memory
        Logits: means over the windows that cover a voxel, weighted by its place in them.
    """
    sweep = Sweep(network, volume, settings, patch, torch.device(device), fill)
    result = torch.empty(0)
    for ring, first, stop in sweep:
        if not result.numel():
            result = torch.empty((sweep.classes, *sweep.tiling.shape))
        result.movedim(1 + sweep.tiling.axis, 1)[:, first:stop] = ring.logits(first, stop)
    return result[(slice(None), *sweep.inside)].contiguous()


def predict_labels(
    network: nn.Module,
    volume: Volume,
    settings: Inference,
    patch: Ints,
    device: torch.device | str,
    *,
    values: Sequence[int] | None = None,
    fill: float | Sequence[float] = 0.0,
) -> NDArray[Any]:
    """Predict the labels of a volume on its prepared grid, without ever holding its logits.

    Parameters
    ----------
    network, volume, settings, patch, device, fill
        As in `predict_logits`.
    values : sequence of int, optional
        As in `harness.inference.native.to_labels`.

    Returns
    -------
    ndarray of shape (a, b, c) for softmax, (classes, a, b, c) for sigmoid
        As `harness.inference.native.to_labels` gives it for the logits.
    """
    sweep = Sweep(network, volume, settings, patch, torch.device(device), fill)
    decision: _Decision | None = None
    for ring, first, stop in sweep:
        decision = decision or _Decision(settings, values, sweep, sweep.tiling.shape)
        for channel, table, out in decision.parts:
            ring.decide(first, stop, table, out, channel)
    assert decision is not None
    result = [part[sweep.inside] for part in decision.in_axes_of_volume()]
    return np.ascontiguousarray(result[0] if settings.activation == "softmax" else np.stack(result))


def predict_native(
    network: nn.Module,
    volume: Volume,
    spec: GridSpec,
    settings: Inference,
    patch: Ints,
    device: torch.device | str,
    *,
    values: Sequence[int] | None = None,
    fill: float | Sequence[float] = 0.0,
) -> NDArray[Any]:
    """Predict the labels of a scan on its own grid.

    With ``restoration="logits"`` the logits are interpolated linearly at the scan's voxel centres and then decided,
    plane by plane as they are finished; with ``"labels"`` the decision is brought back by nearest neighbour. Where the
    spacing was kept both are the same and exact.

    Parameters
    ----------
    network, volume, settings, patch, device, fill
        As in `predict_logits`.
    spec : GridSpec
        How the volume was prepared from the scan.
    values : sequence of int, optional
        As in `harness.inference.native.to_labels`.

    Returns
    -------
    ndarray of shape spec.source.shape for softmax, (classes, *spec.source.shape) for sigmoid
        Voxels that preprocessing cropped away are background, 0.
    """
    native = NativeGrid(spec)
    if settings.restoration == "labels" or not native.is_resampled:
        labels = predict_labels(network, volume, settings, patch, device, values=values, fill=fill)
        return spec.restore(labels, order="nearest", fill=0)
    sweep = Sweep(network, volume, settings, patch, torch.device(device), fill)
    axis = sweep.tiling.axis
    order = (axis, *(other for other in range(3) if other != axis))
    shifted = [
        line._replace(low=line.low + inside.start, high=line.high + inside.start)
        for line, inside in zip(native.lines, sweep.inside, strict=True)
    ]
    lines = (shifted[order[0]], shifted[order[1]], shifted[order[2]])
    decision: _Decision | None = None
    done = 0
    for ring, _, stop in sweep:
        decision = decision or _Decision(settings, values, sweep, tuple(len(line.low) for line in shifted))
        ready = int(np.searchsorted(lines[0].high, stop))
        for channel, table, out in decision.parts:
            ring.decide_between(lines, done, ready, table, out, channel)
        done = ready
    assert decision is not None
    result = [native.lay_down(part, 0) for part in decision.in_axes_of_volume()]
    return result[0] if settings.activation == "softmax" else np.stack(result)


class _Decision:
    """The label maps that are being written, swept axis first: one for softmax, one per region for sigmoid."""

    def __init__(self, settings: Inference, values: Sequence[int] | None, sweep: Sweep, shape: tuple[int, ...]) -> None:
        self._axis = sweep.tiling.axis
        swept = (shape[self._axis], *(n for axis, n in enumerate(shape) if axis != self._axis))
        self.parts: list[tuple[int | None, NDArray[Any], NDArray[Any]]]
        if settings.activation == "softmax":
            table = label_table(sweep.classes, values)
            self.parts = [(None, table, np.empty(swept, table.dtype))]
        else:
            table = np.array([0, 1], dtype=np.uint8)
            self.parts = [(channel, table, np.empty(swept, np.uint8)) for channel in range(sweep.classes)]

    def in_axes_of_volume(self) -> list[NDArray[Any]]:
        return [np.moveaxis(out, 0, self._axis) for _, _, out in self.parts]
