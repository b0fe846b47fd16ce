"""What a run uses of its device: memory at its peak, and energy where the driver counts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from harness.training.distributed import World

__all__ = ["Usage"]

_GIB = 2.0**30
_JOULES_PER_KWH = 3.6e6


class Usage:
    """Counts from now on, over all interruptions of a run.

    Parameters
    ----------
    device : torch.device
        Where the network is. On a CPU nothing is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._counter = _energy_counter(device)
        self._start = self._counter() if self._counter else 0.0
        self._before: dict[str, Any] = {"allocated": 0.0, "reserved": 0.0, "joules": 0.0, "unmeasured": False}
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def state_dict(self) -> dict[str, Any]:
        """Return what was used so far."""
        on_gpu = self._device.type == "cuda"
        allocated = torch.cuda.max_memory_allocated(self._device) / _GIB if on_gpu else 0.0
        reserved = torch.cuda.max_memory_reserved(self._device) / _GIB if on_gpu else 0.0
        return {
            "allocated": max(self._before["allocated"], allocated),
            "reserved": max(self._before["reserved"], reserved),
            "joules": self._before["joules"] + (self._counter() - self._start if self._counter else 0.0),
            "unmeasured": self._before["unmeasured"] or self._counter is None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Add to what was used before an interruption."""
        self._before = dict(state)

    def over(self, world: World) -> dict[str, float | None]:
        """Return the peaks of the fullest device, ``allocated`` and ``reserved`` in GiB, and ``kwh`` of all of them.

        None stands for what was not measured: memory on a CPU, energy where the driver or ``pynvml`` does not count it.
        """
        found = world.gather(self.state_dict())
        on_gpu = self._device.type == "cuda"
        unmeasured = any(part["unmeasured"] for part in found)
        return {
            "allocated": max(part["allocated"] for part in found) if on_gpu else None,
            "reserved": max(part["reserved"] for part in found) if on_gpu else None,
            "kwh": None if unmeasured else sum(part["joules"] for part in found) / _JOULES_PER_KWH,
        }


def _energy_counter(device: torch.device) -> Callable[[], float] | None:
    """Return a function that reads the joules the device has used since its driver started, if it counts them."""
    if device.type != "cuda":
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        # by the bus, since CUDA_VISIBLE_DEVICES renumbers devices for torch and not for the driver's library
        properties: Any = torch.cuda.get_device_properties(device)
        bus = f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(bus.encode())
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # noqa: BLE001, RUF100 - an optional library of the driver; without it energy is not measured
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
