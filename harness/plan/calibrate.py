"""Timing a few real steps on this device, with random volumes: the only way to say hours."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.model import ModelCard
from harness.config import Protocol
from harness.training.device import Numerics, choose_device, use_determinism
from harness.training.objective import SegmentationLoss
from harness.training.session import Session

__all__ = ["Calibration", "calibrate"]

_WARM_UP, _TIMED = 2, 3


@dataclass(frozen=True)
class Calibration:
    """What a few steps took on one device; the peak is GiB that torch allocated, None on a CPU."""

    device: str
    seconds_per_step: float
    peak_gib: float | None


class _Random:
    """A task of one random batch, so that reading data is not timed."""

    def __init__(self, protocol: Protocol) -> None:
        self._objective = SegmentationLoss(protocol.training.loss, protocol.inference.activation)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        loss: Tensor = self._objective(network(batch["image"]), batch["label"])
        return loss

    def validate(self, network: nn.Module) -> float:
        raise NotImplementedError


def calibrate(card: ModelCard, channels: int, outputs: int, protocol: Protocol, device_name: str) -> Calibration:
    """Time steps of a network from scratch, as the loop does them; arguments as in `harness.plan.footprint`."""
    device, settings = choose_device(device_name), protocol.training
    use_determinism(settings.deterministic, device)
    task = Task("segmentation", channels, outputs, protocol.patches.size)
    built = build(card, task, protocol.network.get(card.adapter, {}), None)
    shape = (protocol.patches.batch, channels, *protocol.patches.size)
    softmax = protocol.inference.activation == "softmax"
    label = torch.zeros((shape[0], 1 if softmax else outputs, *shape[2:]), dtype=torch.uint8)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        numerics = Numerics(settings, device)
        session = Session(built.network, settings, Path(folder), numerics, parts=built.parts)
        session.prepare()
        session.network.train()
        work = _Random(protocol)
        begin = 0.0
        for step in range(_WARM_UP + _TIMED):
            if step == _WARM_UP:
                _wait(device)
                begin = time.perf_counter()
            session.update(work, numerics.move({"image": torch.rand(shape), "label": label}))
        _wait(device)
        seconds = (time.perf_counter() - begin) / _TIMED
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return Calibration(str(device), seconds, peak)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
