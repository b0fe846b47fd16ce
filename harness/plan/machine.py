"""What this machine has, as far as a plan asks: device, its memory, free disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.errors import UserError
from harness.training.device import choose_device

__all__ = ["Machine", "free_bytes", "look"]


@dataclass(frozen=True)
class Machine:
    """``memory_bytes`` is the device's: of the GPU, or the main memory on a CPU; None where it cannot be read."""

    device: str
    memory_bytes: int | None
    disk_free_bytes: int


def look(out: Path, device_name: str) -> Machine:
    """Describe this machine; a device that is not here is named as such."""
    try:
        device = choose_device(device_name)
    except UserError:
        return Machine(f"{device_name} (not on this machine)", None, free_bytes(out))
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return Machine(f"{device} ({properties.name})", properties.total_memory, free_bytes(out))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return Machine("cpu", memory, free_bytes(out))


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that a folder is, or will be, on."""
    existing = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    return shutil.disk_usage(existing).free
