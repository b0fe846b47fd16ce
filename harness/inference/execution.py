"""How a network is run for inference: device, precision, copies, and leaving it exactly as it was found."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from harness.inference.settings import Inference

__all__ = ["Runner", "untouched"]

_PRECISIONS: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FLIPS: tuple[tuple[int, ...], ...] = tuple(
    axes for count in range(4) for axes in itertools.combinations((2, 3, 4), count)
)


@contextlib.contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """Run the block with the network in evaluation mode; restore mode and buffers afterwards.

    Some published networks update their running statistics in evaluation mode as well. Inference must not: the
    weights that are saved next would depend on which cases were looked at.
    """
    modes = [(module, module.training) for module in network.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                setattr(module, name, buffer.copy_(before))


class Runner:
    """Calls a network on batches of windows. The one place that knows devices and precision.

    Parameters
    ----------
    network : nn.Module
        Maps (B, C, a, b, c) to logits of the same grid, or to a list of such, finest first.
    settings : Inference
        Its ``amp`` and ``tta``.
    device : torch.device
        Where the network lies.
    """

    def __init__(self, network: nn.Module, settings: Inference, device: torch.device) -> None:
        self._network = network
        self._flips = _FLIPS if settings.tta == "flips" else ((),)
        self._precision = _PRECISIONS.get(settings.amp)
        self.device = device

    def __call__(self, windows: Tensor) -> Tensor:
        """Return float32 logits of shape (B, classes, a, b, c) on the runner's device."""
        if self.device.type == "cuda" and windows.device.type == "cpu":
            windows = windows.pin_memory()
        windows = windows.to(self.device, non_blocking=True)
        with torch.inference_mode():
            total = self._once(windows)
            for axes in self._flips[1:]:
                total = total + self._once(windows.flip(axes)).flip(axes)
            return total if len(self._flips) == 1 else total / len(self._flips)

    def _once(self, windows: Tensor) -> Tensor:
        with self._autocast():
            output = self._network(windows)
        finest: Tensor = output[0] if isinstance(output, list | tuple) else output
        return finest.float()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._precision)
