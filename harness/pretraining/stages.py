"""Going on from other weights: BrainSegFounder's second stage, which may see other channels than the first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.model import ModelCard
from harness.checkpoints.reading import read
from harness.errors import UserError

__all__ = ["from_parent"]

_ENCODER = "swinViT."
_STEM = "swinViT.patch_embed.proj."


def from_parent(card: ModelCard, options: Mapping[str, Any], weights: Path) -> tuple[nn.Module, float]:
    """Build the pretext network of a card and fill it from a pretext file.

    A file with another number of channels gives everything but the stem and the last layer of the reconstruction;
    these start anew from torch's global generator, as in the authors' stage 2.

    Parameters
    ----------
    card : ModelCard
        What to build; its checkpoint says how the file lies on disk.
    options : mapping
        The adapter's network options.
    weights : Path
        The file.

    Returns
    -------
    nn.Module
        The network.
    float
        Share of the encoder's parameters that the file gave.

    Raises
    ------
    UserError
        The card describes no file, or the file does not fill the network.
    """
    layout = card.checkpoint
    if layout is None:
        raise UserError(
            f"{card.id} describes no file, so {weights} cannot be read as its parent. Use a card that does."
        )
    found = adapter(card.adapter).recognise(read(weights, layout.weights_key, layout.prefix).tensors)
    channels = found.get("in_channels")
    if channels == card.architecture.get("in_channels"):
        built = build(card, Task("published"), options, weights)
        return built.network, built.report.encoder.value if built.report else 0.0
    as_parent = card.model_copy(update={"architecture": {**card.architecture, "in_channels": channels}})
    parent = build(as_parent, Task("published"), options, weights).network
    network = build(card, Task("published"), options, None).network
    own = network.state_dict()
    kept = {
        name: value
        for name, value in parent.state_dict().items()
        if not name.startswith(_STEM) and value.shape == own[name].shape
    }
    network.load_state_dict({**own, **kept})
    encoder = [name for name, _ in network.named_parameters() if name.startswith(_ENCODER)]
    given = sum(own[name].numel() for name in encoder if name in kept)
    return network, given / sum(own[name].numel() for name in encoder)
