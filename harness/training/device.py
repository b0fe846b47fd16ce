"""Everything that depends on the device: choice, seeds, determinism, precision, memory format, transfers.

Kept in one place, because no other room should have to ask where its tensors live.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.training.settings import Training

__all__ = ["Numerics", "choose_device", "rng_state", "seed_everything", "set_rng_state", "set_up", "use_determinism"]


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is the first CUDA device, or the CPU.

    Raises
    ------
    UserError
        A CUDA device is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"{name!r} is not a device. Use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={name} was asked for, but torch sees no CUDA device. Use device=cpu or device=auto.")
    return device


def set_up(device: str, threads: int | None, deterministic: bool, seed: int) -> tuple[torch.device, dict[str, int]]:
    """Choose the device, its threads and determinism, seed every generator; return the device and the seeds.

    Raises
    ------
    UserError
        As `choose_device`.
    """
    chosen = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    use_determinism(deterministic, chosen)
    return chosen, seed_everything(seed)


def seed_everything(seed: int) -> dict[str, int]:
    """Seed every generator and return the record's ``seeds``; batches are seeded per sample, from ``data``."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries below us still draw from the global generator
    torch.manual_seed(seed)
    return {"python": seed, "numpy": seed, "torch": seed, "data": seed, "init": seed}


def use_determinism(wanted: bool, device: torch.device) -> None:
    """Switch deterministic algorithms on or off.

    On CUDA some backward passes of 3D pooling and interpolation have no deterministic form: there torch warns
    instead of stopping.
    """
    on_cuda = device.type == "cuda"
    if wanted and on_cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted, warn_only=on_cuda)
    # this would also write NaN into every new tensor first, a twentieth of a step; it finds bugs, it changes no result
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = on_cuda and not wanted


def rng_state() -> dict[str, Any]:
    """Return the state of every global generator, as plain values and tensors that load without pickle."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put every global generator back to where `rng_state` found it."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


class Numerics:
    """Precision and memory format of one training run on one device.

    Parameters
    ----------
    settings : Training
        Its ``amp`` and ``channels_last``.
    device : torch.device
        Where the network and the batches go.
    """

    def __init__(self, settings: Training, device: torch.device) -> None:
        self.device = device
        self._dtype = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[settings.amp]
        self._format = torch.channels_last_3d if settings.channels_last else torch.contiguous_format
        # only half precision underflows; a disabled scaler is the identity
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, in the memory format of the run."""
        network.to(self.device)
        # Module.to(memory_format=...) has no typed overload for 5-D formats, so the weights are converted one by one
        for parameter in network.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=self._format)
        return network

    def move(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Move a batch without waiting for it; volumes take the memory format of the run."""
        moved = {}
        for name, tensor in batch.items():
            if self.device.type == "cuda" and not tensor.is_pinned():
                tensor = tensor.pin_memory()
            tensor = tensor.to(self.device, non_blocking=True)
            volume = tensor.dim() == 5 and tensor.is_floating_point()
            moved[name] = tensor.contiguous(memory_format=self._format) if volume else tensor
        return moved

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the autocast context of the run; nothing where AMP is off."""
        if self._dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)
