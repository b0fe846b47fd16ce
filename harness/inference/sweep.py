"""The network run over all windows of a volume, slab after slab, with what is finished handed out in between."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.errors import UserError
from harness.inference.execution import Runner, untouched
from harness.inference.ring import DeviceRing, HostRing, make_ring
from harness.inference.settings import Inference
from harness.inference.windows import Tiling, importance

__all__ = ["Sweep", "Volume"]

Volume = Tensor | NDArray[Any]
Ring = HostRing | DeviceRing
Ints = tuple[int, int, int]


class Sweep:
    """Runs the network over all windows and yields ``(ring, first, stop)`` whenever planes are finished."""

    def __init__(
        self,
        network: nn.Module,
        volume: Volume,
        settings: Inference,
        patch: Ints,
        device: torch.device,
        fill: float | Sequence[float],
    ) -> None:
        patch = settings.patch or patch
        self._network = network
        self._run = Runner(network, settings, device)
        self._volume, self.inside = _pad(torch.as_tensor(volume), patch, fill)
        first, second, third = self._volume.shape[1:]
        shape = (first, second, third)
        self.tiling = Tiling.plan(shape, patch, settings.overlap, repeat_border=settings.repeat_border)
        self._settings = settings
        self.classes = 0

    def __iter__(self) -> Iterator[tuple[Ring, int, int]]:
        patch, axis = self.tiling.patch, self.tiling.axis
        weight = importance(patch, self._settings.blending)
        ring: Ring | None = None
        with untouched(self._network):
            for starts in _batches(self.tiling.windows(), self._settings.window_batch):
                for start, logits in zip(starts, self._run(self._cut(starts)), strict=True):
                    if ring is None:
                        _require_same_grid(logits, patch)
                        self.classes = logits.shape[0]
                        ring = make_ring(self.classes, self.tiling, weight, self._run.device)
                    if start[axis] > ring.first:
                        yield ring, ring.first, start[axis]
                        ring.release(start[axis])
                    ring.add(logits, start)
            assert ring is not None
            yield ring, ring.first, self.tiling.shape[axis]

    def _cut(self, starts: Sequence[Ints]) -> Tensor:
        windows = [
            self._volume[(slice(None), *(slice(at, at + n) for at, n in zip(start, self.tiling.patch, strict=True)))]
            for start in starts
        ]
        return torch.stack(windows).float()


def _batches(items: Iterator[Ints], size: int) -> Iterator[tuple[Ints, ...]]:
    while batch := tuple(itertools.islice(items, size)):
        yield batch


def _pad(volume: Tensor, patch: Ints, fill: float | Sequence[float]) -> tuple[Tensor, tuple[slice, slice, slice]]:
    """Pad evenly up to the window, the odd voxel behind, as MONAI does; say where the volume lies in the result."""
    before = [max(p - n, 0) // 2 for n, p in zip(volume.shape[1:], patch, strict=True)]
    shape = [max(p, n) for n, p in zip(volume.shape[1:], patch, strict=True)]
    a, b, c = (slice(at, at + n) for at, n in zip(before, volume.shape[1:], strict=True))
    if list(volume.shape[1:]) == shape:
        return volume, (a, b, c)
    fills = [fill] * volume.shape[0] if isinstance(fill, int | float) else fill
    padded = torch.empty((volume.shape[0], *shape), dtype=torch.float32)
    padded.copy_(torch.tensor(fills, dtype=torch.float32)[:, None, None, None].expand_as(padded))
    padded[:, a, b, c] = volume
    return padded, (a, b, c)


def _require_same_grid(logits: Tensor, patch: Ints) -> None:
    if tuple(logits.shape[1:]) != patch:
        raise UserError(
            f"The network answers a window of {patch} voxels with a map of {tuple(logits.shape[1:])}; segmentation "
            "needs one answer per voxel. Choose a patch that the network's steps divide, or another network."
        )
