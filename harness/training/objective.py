"""Losses on logits: soft Dice in the forms that published recipes use, and torch's cross entropy, weighted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UserError
from harness.training.distributed import sum_over_ranks
from harness.training.settings import Loss

__all__ = ["SegmentationLoss", "soft_dice_loss"]

_NEVER = -1e9  # a logit whose probability and gradient are exactly 0, and 0 times its logarithm is no NaN


class SegmentationLoss(nn.Module):
    """Weighted soft Dice and cross entropy.

    Parameters
    ----------
    settings : Loss
        The weights and the form of Dice.
    activation : {"softmax", "sigmoid"}
        ``softmax``: one class per voxel, target of shape (batch, 1, a, b, c) with class numbers; ``sigmoid``:
        overlapping regions, target of shape (batch, region, a, b, c) with 0 and 1.
    """

    def __init__(self, settings: Loss, activation: Literal["softmax", "sigmoid"]) -> None:
        super().__init__()
        self.settings, self.activation = settings, activation
        if activation == "sigmoid" and settings.cross_entropy and settings.cross_entropy_of != "logits":
            raise UserError(
                f"loss.cross_entropy_of={settings.cross_entropy_of} is a form of classes that exclude each other; this "
                "protocol has overlapping regions (inference.activation=sigmoid). Use cross_entropy_of=logits."
            )

    def forward(self, logits: Tensor | Sequence[Tensor], target: Tensor, drawn: Tensor | None = None) -> Tensor:
        """Return the loss as a scalar.

        Parameters
        ----------
        logits : Tensor of shape (batch, channel, a, b, c), or a sequence of such, finest first
            Coarser ones are compared with the target on their own grid; weights halve and sum to 1.
        target : Tensor
            As described for ``activation``.
        drawn : Tensor of bool, shape (batch, channel), optional
            False where nobody drew this class or region in the sample's scan, so that no voxel says whether it is
            there. Its output gets no gradient from that sample: with softmax the other classes share the probability
            among themselves, with sigmoid the region counts as rightly absent. All are drawn by default.
        """
        if isinstance(logits, Tensor):
            return self._one(logits, target, drawn)
        weights = [0.5**scale for scale in range(len(logits))]
        losses = [w * self._one(x, target, drawn) for w, x in zip(weights, logits, strict=True)]
        return torch.stack(losses).sum() / sum(weights)

    def _one(self, logits: Tensor, target: Tensor, drawn: Tensor | None) -> Tensor:
        # both are cheap in float32, and half precision loses the small classes
        logits = logits.float()
        shares, hard = self._targets(logits, target)
        if drawn is not None:
            undrawn = ~drawn[:, :, None, None, None]
            logits = logits.masked_fill(undrawn, _NEVER)
            shares = shares.masked_fill(undrawn, 0.0)
        loss = logits.new_zeros(())
        if self.settings.dice:
            probability = logits.softmax(dim=1) if self.activation == "softmax" else logits.sigmoid()
            if self.activation == "softmax" and not self.settings.include_background:
                probability, foreground = probability[:, 1:], shares[:, 1:]
            else:
                foreground = shares
            loss = loss + self.settings.dice * soft_dice_loss(probability, foreground, self.settings)
        if self.settings.cross_entropy:
            if self.activation == "softmax":
                weight = logits.new_full((logits.shape[1],), self.settings.foreground_weight)
                weight[0] = 1.0
                if self.settings.cross_entropy_of == "logits":
                    entropy = F.cross_entropy(logits, shares if hard is None else hard, weight=weight)
                else:
                    entropy = self._entropy_of_probabilities(logits, shares, weight, drawn)
            else:
                weight = logits.new_full((), self.settings.foreground_weight)
                entropy = F.binary_cross_entropy_with_logits(logits, shares, pos_weight=weight)
            loss = loss + self.settings.cross_entropy * entropy
        return loss

    def _entropy_of_probabilities(self, logits: Tensor, shares: Tensor, weight: Tensor, drawn: Tensor | None) -> Tensor:
        """Return the cross entropy of the softmax's own output: what PyMIC minimises, guarded as it was or not."""
        probability = logits.softmax(dim=1)
        if self.settings.cross_entropy_of == "softened_probabilities":
            probability = 0.999 * probability + 5e-4
        weighted = shares * weight[:, None, None, None]
        terms = weighted * probability.log()  # 0 times the logarithm of 0 is NaN, and stays so: the authors' does
        if drawn is not None:
            terms = terms.masked_fill(~drawn[:, :, None, None, None], 0.0)
        return -terms.sum() / weighted.sum()

    def _targets(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the share of each class or region per voxel of the output's grid, and class numbers if it has any."""
        same = target.shape[2:] == logits.shape[2:]
        if not same and self.settings.coarse_target == "nearest":
            target, same = F.interpolate(target.float(), size=logits.shape[2:], mode="nearest"), True
        if self.activation == "sigmoid":
            shares, hard = target.float(), None
        else:
            hard = target[:, 0].long()
            shares = torch.zeros((len(hard), logits.shape[1], *hard.shape[1:]), device=hard.device)
            shares.scatter_(1, hard[:, None], 1.0)
        if same:
            return shares, hard
        size = (int(logits.shape[2]), int(logits.shape[3]), int(logits.shape[4]))
        return F.adaptive_avg_pool3d(shares, size), None


def soft_dice_loss(probability: Tensor, target: Tensor, settings: Loss) -> Tensor:
    """Return 1 minus the soft Dice coefficient, over voxels per sample and class, or per class over the whole batch.

    With the options that MONAI's ``DiceLoss`` and ``GeneralizedDiceLoss`` share, the value is theirs. It is computed
    here from three sums per class, since over the batch of several ranks these sums must be added up in between.

    Parameters
    ----------
    probability, target : Tensor of shape (batch, class, a, b, c)
        Predicted and true shares.
    settings : Loss
        ``batch_dice``, ``squared``, ``smooth`` and ``dice_weighting``.

    References
    ----------
    Milletari et al. 2016, V-Net (squared); Sudre et al. 2017, generalised Dice overlap (inverse_volume).
    """
    voxels = (2, 3, 4)
    power = 2 if settings.squared else 1
    sums = torch.stack(
        [
            (probability * target).sum(dim=voxels),
            probability.pow(power).sum(dim=voxels),
            target.pow(power).sum(dim=voxels),
        ]
    )
    if settings.batch_dice:
        sums = sum_over_ranks(sums.sum(dim=1, keepdim=True))
    overlap, predicted, true = sums
    if settings.dice_weighting == "inverse_volume":
        weight = true.square().reciprocal()
        # a class that is absent gets the largest weight among those that are there
        finite = torch.where(torch.isinf(weight), 0.0, weight)
        weight = torch.where(torch.isinf(weight), finite.amax(dim=1, keepdim=True), weight)
        overlap, predicted, true = ((weight * part).sum(dim=1) for part in (overlap, predicted, true))
    coefficient: Tensor = (2 * overlap + settings.smooth) / (predicted + true + settings.smooth)
    return 1 - coefficient.mean()
