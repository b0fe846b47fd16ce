"""Losses on logits: MONAI's soft Dice and torch's cross entropy, weighted; deep supervision halves each scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from harness.training.settings import Loss

__all__ = ["SegmentationLoss"]


class SegmentationLoss(nn.Module):
    """Weighted soft Dice and cross entropy.

    Parameters
    ----------
    settings : Loss
        The weights.
    activation : {"softmax", "sigmoid"}
        ``softmax``: one class per voxel, target of shape (batch, 1, a, b, c) with class numbers; ``sigmoid``:
        overlapping regions, target of shape (batch, region, a, b, c) with 0 and 1.
    """

    def __init__(self, settings: Loss, activation: Literal["softmax", "sigmoid"]) -> None:
        super().__init__()
        self.settings, self.activation = settings, activation
        self.dice = DiceLoss(
            include_background=settings.include_background or activation == "sigmoid",
            softmax=activation == "softmax",
            sigmoid=activation == "sigmoid",
            to_onehot_y=activation == "softmax",
            batch=settings.batch_dice,
        )

    def forward(self, logits: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the loss as a scalar.

        Parameters
        ----------
        logits : Tensor of shape (batch, channel, a, b, c), or a sequence of such, finest first
            Coarser ones are compared with the target taken at the nearest voxel; weights halve and sum to 1.
        target : Tensor
            As described for ``activation``.
        """
        if isinstance(logits, Tensor):
            return self._one(logits, target)
        weights = [0.5**scale for scale in range(len(logits))]
        losses = [w * self._one(x, _at_grid(target, x)) for w, x in zip(weights, logits, strict=True)]
        return torch.stack(losses).sum() / sum(weights)

    def _one(self, logits: Tensor, target: Tensor) -> Tensor:
        # both are cheap in float32, and half precision loses the small classes
        logits = logits.float()
        loss = logits.new_zeros(())
        if self.settings.dice:
            loss = loss + self.settings.dice * self.dice(logits, target)
        if self.settings.cross_entropy:
            if self.activation == "softmax":
                entropy = F.cross_entropy(logits, target[:, 0].long())
            else:
                entropy = F.binary_cross_entropy_with_logits(logits, target.float())
            loss = loss + self.settings.cross_entropy * entropy
        return loss


def _at_grid(target: Tensor, like: Tensor) -> Tensor:
    if target.shape[2:] == like.shape[2:]:
        return target
    return F.interpolate(target.float(), size=like.shape[2:], mode="nearest").to(target.dtype)
