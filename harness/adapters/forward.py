"""The published network on one input, under the names used for parity: what makes a golden file from real weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.library import model_card
from harness.errors import UserError
from harness.files import atomic_path

__all__ = ["forward", "write_outputs"]


def forward(
    model: str, checkpoint: Path, volume: NDArray[np.float32], cards: tuple[Path, ...] = ()
) -> dict[str, NDArray[np.float32]]:
    """Load a checkpoint as published and return the network's named outputs.

    Parameters
    ----------
    model : str
        Id or alias of a model card.
    checkpoint : Path
        A file in the published layout.
    volume : ndarray of shape (batch, channel, a, b, c)
        In the axes of the card's contract, of any size that the network allows.
    cards : tuple of Path
        Folders of own cards.

    Returns
    -------
    dict of str to ndarray
        float32, evaluation mode, on the CPU, with the published head where the file has one.

    Raises
    ------
    UserError
        The model is unknown, the file does not fill it, or the input has another shape than the network takes.
    """
    card, _ = model_card(model, cards)
    channels = card.contract.channels
    of_shape = volume.ndim == 5 and volume.shape[1] == len(channels) and volume.size > 0
    if not of_shape or volume.dtype.kind not in "fiub" or not np.isfinite(volume).all():
        raise UserError(
            f"{card.id} takes finite volumes of shape (batch, {len(channels)}, a, b, c); this input has shape "
            f"{volume.shape} and type {volume.dtype}. Its channels are {', '.join(channels)}."
        )
    first, second, third = volume.shape[2:]  # some architectures are built for one size
    try:
        task = Task("published", in_channels=volume.shape[1], patch=(first, second, third))
        built = build(card, task, {}, checkpoint)
        built.network.eval()
        with torch.inference_mode():
            tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))
            outputs = adapter(card.adapter).named_outputs(card, built.network, tensor)
    except UserError:
        raise
    except (RuntimeError, ValueError, ArithmeticError, AssertionError, LookupError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{card.id} cannot take an input of shape {volume.shape}: {said}. Its sides are "
            f"multiples of {card.contract.divisible_by}, and it was published for {card.contract.patch}."
        ) from error
    return {name: value.float().numpy() for name, value in outputs.items()}


def write_outputs(path: Path, outputs: dict[str, NDArray[np.float32]]) -> None:
    """Write named outputs as a compressed ``.npz``, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **outputs)  # type: ignore[arg-type]
