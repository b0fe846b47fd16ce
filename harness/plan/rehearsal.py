"""A task of random volumes for the training loop: steps to be timed and checked where there are no data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from harness.config import Protocol
from harness.training.objective import SegmentationLoss

__all__ = ["RandomVolumes"]


class RandomVolumes:
    """Random volumes and label maps as a function of the step.

    Parameters
    ----------
    protocol : Protocol
        Patch size, batch, loss, and whether classes exclude each other.
    channels, outputs : int
        Of the image; and classes (softmax) or regions (sigmoid).
    """

    def __init__(self, protocol: Protocol, channels: int, outputs: int) -> None:
        activation = protocol.inference.activation
        self._shape = (protocol.patches.batch, channels, *protocol.patches.size)
        self._objective = SegmentationLoss(protocol.training.loss, activation)
        self._classes, self._maps = (outputs, 1) if activation == "softmax" else (2, outputs)

    def batches(self, start: int, stop: int) -> Iterator[Mapping[str, Tensor]]:
        """Yield the batches of the steps ``start`` to ``stop`` (exclusive): images in [0, 1), labels cut from them."""
        for step in range(start, stop):
            generator = torch.Generator().manual_seed(step)
            image = torch.rand(self._shape, generator=generator)
            label = (image[:, :1] * self._classes).to(torch.uint8)
            yield {"image": image, "label": label.repeat(1, self._maps, 1, 1, 1)}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of one batch."""
        loss: Tensor = self._objective(network(batch["image"]), batch["label"])
        return loss

    def validate(self, network: nn.Module) -> float:
        """Nothing is selected by validation here."""
        raise NotImplementedError
