"""Logits of a whole volume from overlapping windows."""

from __future__ import annotations

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from harness.inference.execution import Runner, untouched
from harness.inference.settings import Inference

__all__ = ["predict_logits"]


def predict_logits(
    network: nn.Module,
    volume: Tensor,
    settings: Inference,
    patch: tuple[int, int, int],
    device: torch.device | str,
    *,
    fill: float = 0.0,
) -> Tensor:
    """Predict a volume window by window.

    Parameters
    ----------
    network : nn.Module
        On ``device``; its mode and buffers are left as they were.
    volume : Tensor of shape (C, a, b, c)
        A prepared volume, on the CPU.
    settings : Inference
        Overlap, blending and the rest; its ``patch`` wins over the argument.
    patch : tuple of 3 int
        Window size, in the axes of the volume; the training patch.
    device : torch.device or str
        Where the network lies.
    fill : float
        Value that pads a volume smaller than the window.

    Returns
    -------
    Tensor of shape (classes, a, b, c), float32, on the CPU
        Logits.
    """
    device = torch.device(device)
    with untouched(network):
        logits = sliding_window_inference(
            volume[None],
            roi_size=settings.patch or patch,
            sw_batch_size=settings.window_batch,
            predictor=Runner(network, settings, device),
            overlap=settings.overlap,
            mode=settings.blending,
            cval=fill,
            sw_device=device,
            device="cpu",
        )
    result: Tensor = logits[0]
    return result
