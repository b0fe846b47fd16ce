"""The identity of live parameters: a hash of every name, type, shape and byte, and a fingerprint of one output."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["output_fingerprint", "state_sha256"]


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Hash a state dict by sorted name, dtype, shape and C-order bytes.

    Parameters
    ----------
    state : mapping of str to Tensor
        Such as ``network.state_dict()``; the device and memory format of a tensor do not matter.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().to("cpu").contiguous()
        digest.update(f"{name}\t{tensor.dtype}\t{tuple(tensor.shape)}\n".encode())
        # viewing as bytes also covers bfloat16, which NumPy does not know
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def output_fingerprint(network: nn.Module, volume: Tensor) -> str:
    """Summarise what a network answers to one fixed volume, rounded so that float noise does not show.

    Parameters
    ----------
    network : nn.Module
        Evaluated as it stands: the mode and the buffers are put back as they were.
    volume : Tensor of shape (batch, channel, x, y, z)
        The fixed input.

    Returns
    -------
    str
        Mean and standard deviation of the (first) output to three significant digits.
    """
    training, buffers = network.training, {name: value.clone() for name, value in network.named_buffers()}
    network.eval()
    try:
        with torch.no_grad():
            answer = network(volume)
    finally:
        network.train(training)
        for name, value in network.named_buffers():
            value.copy_(buffers[name])
    first = answer[0] if isinstance(answer, list | tuple) else answer
    return f"{tuple(first.shape)} mean {first.float().mean().item():.3g} std {first.float().std().item():.3g}"
