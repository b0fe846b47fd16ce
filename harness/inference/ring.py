"""Overlapping windows added up in a ring of planes, so that memory does not grow with the length of the scan.

Windows arrive slab after slab along one axis. Planes that no later window reaches are finished: they are decided or
copied out, and their place in the ring is used again. One finished plane is kept for interpolation between planes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.inference import kernels
from harness.inference.windows import Tiling

__all__ = ["DeviceRing", "HostRing", "Line", "make_ring", "resample"]


class Line(NamedTuple):
    """Linear interpolation along one axis: for each output voxel its two neighbours and the way between them."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    between: NDArray[np.float32]


Lines = tuple[Line, Line, Line]


def make_ring(classes: int, tiling: Tiling, weight: NDArray[np.float32], device: torch.device) -> HostRing | DeviceRing:
    """Return the ring that suits the device."""
    if device.type == "cpu":
        return HostRing(classes, tiling, weight)
    return DeviceRing(classes, tiling, weight, device)


class _Ring:
    """What both rings share: which planes are finished, and the order of axes, which is swept axis first.

    Attributes
    ----------
    first : int
        Planes below this one were finished and released.
    """

    def __init__(self, tiling: Tiling) -> None:
        self._order = (tiling.axis, *(axis for axis in range(3) if axis != tiling.axis))
        length, rows, columns = (tiling.shape[axis] for axis in self._order)
        self.size = min(tiling.patch[tiling.axis] + 1, length)
        self._plane_shape = (rows, columns)
        self.first = 0

    def _swept(self, window: Tensor) -> Tensor:
        """Put the swept axis of (C, a, b, c) first among the three."""
        return window.permute(0, *(1 + axis for axis in self._order)).contiguous()

    def _start(self, start: tuple[int, int, int]) -> tuple[int, int, int]:
        return start[self._order[0]], start[self._order[1]], start[self._order[2]]

    def _segments(self, first: int, stop: int) -> list[tuple[slice, slice]]:
        """Return slices of the ring, and of [first, stop) counted from 0, that hold the same planes."""
        segments, at = [], first
        while at < stop:
            place = at % self.size
            count = min(stop - at, self.size - place)
            segments.append((slice(place, place + count), slice(at - first, at - first + count)))
            at += count
        return segments


class HostRing(_Ring):
    """The ring in main memory, with compiled loops shared by as many threads as torch uses."""

    def __init__(self, classes: int, tiling: Tiling, weight: NDArray[np.float32]) -> None:
        super().__init__(tiling)
        self._weight = np.ascontiguousarray(weight.transpose(self._order))
        self._sum = np.zeros((classes, self.size, *self._plane_shape), dtype=np.float32)
        self._total = np.zeros((self.size, *self._plane_shape), dtype=np.float32)

    def add(self, logits: Tensor, start: tuple[int, int, int]) -> None:
        """Add the logits of one window, (C, a, b, c), whose first voxel is ``start``."""
        window = self._swept(logits).numpy()
        where = self._start(start)
        _share(
            lambda a, b: kernels.accumulate(self._sum, self._total, window, self._weight, where, a, b),
            0,
            window.shape[1],
        )

    def release(self, position: int) -> None:
        """Forget all planes below ``position`` but the last."""
        for ring, _ in self._segments(max(self.first - 1, 0), position - 1):
            self._sum[:, ring] = 0
            self._total[ring] = 0
        self.first = position

    def logits(self, first: int, stop: int) -> Tensor:
        """Return finished planes as (C, planes, rows, columns)."""
        result = np.empty((self._sum.shape[0], stop - first, *self._plane_shape), dtype=np.float32)
        for ring, part in self._segments(first, stop):
            np.divide(self._sum[:, ring], self._total[ring], out=result[:, part])
        return torch.from_numpy(result)

    def decide(self, first: int, stop: int, table: NDArray[Any], out: NDArray[Any], channel: int | None) -> None:
        """Write the labels of finished planes to the same planes of ``out``."""
        logits = self._sum if channel is None else self._sum[channel : channel + 1]
        _share(lambda a, b: kernels.argmax_planes(logits, table, out, a, b), first, stop)

    def decide_between(
        self, lines: Lines, first: int, stop: int, table: NDArray[Any], out: NDArray[Any], channel: int | None
    ) -> None:
        """Write output planes ``first`` to ``stop``, interpolated between finished planes."""
        logits = self._sum if channel is None else self._sum[channel : channel + 1]
        resample(logits, self._total, lines, first, stop, table, out)


class DeviceRing(_Ring):
    """The ring on an accelerator, in float32: half accumulators lose labels and can overflow."""

    def __init__(self, classes: int, tiling: Tiling, weight: NDArray[np.float32], device: torch.device) -> None:
        super().__init__(tiling)
        self._weight = torch.from_numpy(weight).permute(self._order).contiguous().to(device)
        self._sum = torch.zeros((classes, self.size, *self._plane_shape), device=device)
        self._total = torch.zeros((self.size, *self._plane_shape), device=device)

    def add(self, logits: Tensor, start: tuple[int, int, int]) -> None:
        """Add the logits of one window, (C, a, b, c), whose first voxel is ``start``."""
        window = self._swept(logits)
        plane, row, column = self._start(start)
        rows = slice(row, row + window.shape[2])
        columns = slice(column, column + window.shape[3])
        for ring, part in self._segments(plane, plane + window.shape[1]):
            self._sum[:, ring, rows, columns].addcmul_(window[:, part], self._weight[part])
            self._total[ring, rows, columns].add_(self._weight[part])

    def release(self, position: int) -> None:
        """Forget all planes below ``position`` but the last."""
        for ring, _ in self._segments(max(self.first - 1, 0), position - 1):
            self._sum[:, ring].zero_()
            self._total[ring].zero_()
        self.first = position

    def logits(self, first: int, stop: int) -> Tensor:
        """Return finished planes as (C, planes, rows, columns), in main memory."""
        planes = torch.arange(first, stop, device=self._sum.device) % self.size
        return (self._sum[:, planes] / self._total[planes]).cpu()

    def decide(self, first: int, stop: int, table: NDArray[Any], out: NDArray[Any], channel: int | None) -> None:
        """Write the labels of finished planes to the same planes of ``out``."""
        for ring, part in self._segments(first, stop):
            sums = self._sum[:, ring]
            out[first + part.start : first + part.stop] = table[_decide(sums, channel).cpu().numpy()]

    def decide_between(
        self, lines: Lines, first: int, stop: int, table: NDArray[Any], out: NDArray[Any], channel: int | None
    ) -> None:
        """Write output planes ``first`` to ``stop``, interpolated between finished planes."""
        device = self._sum.device
        (low_p, high_p, between_p), rows, columns = (
            tuple(torch.from_numpy(part).to(device) for part in line) for line in lines
        )
        for t in range(first, stop):
            ends = [self._sum[:, plane[t] % self.size] / self._total[plane[t] % self.size] for plane in (low_p, high_p)]
            plane = torch.lerp(ends[0], ends[1], between_p[t])
            plane = torch.lerp(plane[:, :, columns[0]], plane[:, :, columns[1]], columns[2])
            plane = torch.lerp(plane[:, rows[0]], plane[:, rows[1]], rows[2][:, None])
            out[t] = table[_decide(plane, channel).cpu().numpy()]


def _decide(logits: Tensor, channel: int | None) -> Tensor:
    return logits.argmax(dim=0) if channel is None else (logits[channel] > 0).long()


def resample(
    logits: NDArray[np.float32],
    total: NDArray[np.float32],
    lines: Lines,
    first: int,
    stop: int,
    table: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Run `kernels.resample_argmax` over the output planes ``first`` to ``stop``, shared by threads."""
    _share(
        lambda a, b: kernels.resample_argmax(logits, total, lines[0], lines[1], lines[2], table, out, a, b),
        first,
        stop,
    )


def _share(work: Callable[[int, int], None], first: int, stop: int) -> None:
    """Call ``work`` on consecutive parts of a range, one per thread that torch may use."""
    threads = max(min(torch.get_num_threads(), stop - first), 1)
    if threads == 1:
        work(first, stop)
        return
    bounds = np.linspace(first, stop, threads + 1).round().astype(int).tolist()
    for future in [_pool().submit(work, a, b) for a, b in itertools.pairwise(bounds)]:
        future.result()


_POOL: list[ThreadPoolExecutor] = []


def _pool() -> ThreadPoolExecutor:
    if not _POOL:
        _POOL.append(ThreadPoolExecutor(torch.get_num_threads(), "planes"))
    return _POOL[0]
