"""What the checks work on: a small network of the package, a file in its published layout, batches, a device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from harness.adapters.build import Built, build
from harness.adapters.conformance_forge import Subject, subject
from harness.adapters.interface import Task
from harness.cards.library import model_card
from harness.config import Protocol, run_config
from harness.plan.rehearsal import RandomVolumes
from harness.training.device import choose_device

__all__ = ["CLASSES", "Bench", "allocated_peak"]

CLASSES = 3


class Bench:
    """A network under test on one device.

    Parameters
    ----------
    device : str
        auto, cpu, cuda or cuda:N.
    folder : Path
        For the forged file and checkpoints; the caller removes it.
    model : str
        A card whose network is small.
    size : tuple of int, optional
        Patch of the training checks; by default what the device does in seconds.
    """

    def __init__(
        self,
        device: str,
        folder: Path,
        model: str = "models_genesis.narrow8",
        size: tuple[int, int, int] | None = None,
    ) -> None:
        self.device, self.folder = choose_device(device), folder
        self.card, _ = model_card(model)
        size = size or ((64, 64, 32) if self.on_cuda else (16, 16, 16))
        self._overrides = [
            f"model={model}",
            "dataset=ct_headneck_oar",
            "init=scratch",
            f"protocol.patches.size=[{','.join(map(str, size))}]",
        ]

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def protocol(self, **training: Any) -> Protocol:
        """Return the demo's protocol for a few steps, with other training settings."""
        chosen = {"steps": 4, "checkpoint_every": 2, "log_every": 1, **training}
        overrides = [f"protocol.training.{name}={value}" for name, value in chosen.items()]
        return run_config([*self._overrides, *overrides]).protocol

    def fresh(self, protocol: Protocol) -> Built:
        """Build the network from scratch, the same every time."""
        task = Task("segmentation", 1, CLASSES, protocol.patches.size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return build(self.card, task, protocol.network.get(self.card.adapter, {}), None)

    def work(self, protocol: Protocol) -> RandomVolumes:
        """Return what the loop trains on here."""
        return RandomVolumes(protocol, 1, CLASSES)

    @functools.cached_property
    def published(self) -> Subject:
        """The network as published, with a file forged in its layout."""
        return subject(self.card, self.folder)

    def peak_bytes(self, work: Callable[[], object]) -> int:
        """Return how many bytes torch's allocator handed out at most during some work, above what was live before."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            work()
            torch.cuda.synchronize(self.device)
            return int(torch.cuda.max_memory_allocated(self.device) - before)
        return allocated_peak(work)


def allocated_peak(work: Callable[[], object]) -> int:
    """Return how many bytes torch's CPU allocator handed out at most during some work, above what was live before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None
    live = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]" and event.device_type() == DeviceType.CPU:
            live += event.nbytes()
            peak = max(peak, live)
    return peak
