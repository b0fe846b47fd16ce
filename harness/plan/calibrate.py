"""Timing a few real steps on this device, with random volumes: the only way to say hours."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as Interface

import torch
from torch import Tensor, nn

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.adapters.parts import Parts
from harness.cards.model import ModelCard
from harness.config import Protocol
from harness.plan.rehearsal import RandomVolumes
from harness.training.activations import recomputed
from harness.training.device import Numerics, choose_device, use_determinism
from harness.training.session import Session
from harness.training.settings import Training

__all__ = ["Calibration", "calibrate", "time_steps"]

_WARM_UP, _TIMED = 2, 3


@dataclass(frozen=True)
class Calibration:
    """What a few steps took on one device; the peak is GiB that torch allocated, None on a CPU."""

    device: str
    seconds_per_step: float
    peak_gib: float | None


class Work(Interface):
    """What can be timed: a fine-tuning or a pretext task."""

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of one batch."""

    def validate(self, network: nn.Module) -> float:
        """Return the score that selection maximises."""


def calibrate(card: ModelCard, channels: int, outputs: int, protocol: Protocol, device_name: str) -> Calibration:
    """Time steps of a network from scratch, as the loop does them; arguments as in `harness.footprint.footprint`."""
    task = Task("segmentation", channels, outputs, protocol.patches.size)
    built = build(card, task, protocol.network.get(card.adapter, {}), None)
    work = RandomVolumes(protocol, channels, outputs)
    (batch,) = work.batches(0, 1)  # one for all steps, so that making it is not timed
    return time_steps(built.network, work, batch, protocol.training, device_name, built.parts)


def time_steps(
    network: nn.Module,
    work: Work,
    batch: Mapping[str, Tensor],
    settings: Training,
    device_name: str,
    parts: Parts | None = None,
) -> Calibration:
    """Time steps on one batch, as the loop does them.

    Parameters
    ----------
    network : nn.Module
        Is trained by the steps.
    work : Work
        Gives the loss.
    batch : mapping of str to Tensor
        On the CPU.
    settings : Training
        Optimiser, precision, determinism.
    device_name : str
        auto, cpu, cuda or cuda:N.
    parts : Parts, optional
        What fine-tuning modes act on.
    """
    device = choose_device(device_name)
    use_determinism(settings.deterministic, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        numerics = Numerics(settings, device)
        session = Session(network, settings, Path(folder), numerics, parts=parts)
        session.prepare()
        session.network.train()
        begin = 0.0
        with recomputed(session.network, settings.activation_checkpointing):
            for step in range(_WARM_UP + _TIMED):
                if step == _WARM_UP:
                    _wait(device)
                    begin = time.perf_counter()
                session.update(work, numerics.move(batch))
            _wait(device)
        seconds = (time.perf_counter() - begin) / _TIMED
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return Calibration(str(device), seconds, peak)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
