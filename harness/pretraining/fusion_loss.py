"""Loss and scores of classifying the fusion coefficient, as PyMIC computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["class_scores", "fusion_loss"]

_SMOOTHING = 1e-5


def fusion_loss(
    logits: Tensor | Sequence[Tensor],
    classes: Tensor,
    num_classes: int,
    over_ranks: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the mean of soft Dice loss and cross entropy, over all classes.

    Parameters
    ----------
    logits : Tensor of shape (batch, class, a, b, c), or a sequence of such, finest first
        Coarser scales (deep supervision) weigh half of the one before; their target is the one-hot map averaged over
        the cells of the coarse grid.
    classes : Tensor of shape (batch, a, b, c), int64
    num_classes : int
    over_ranks : callable, optional
        Adds the sums of Dice up over the processes that each see a part of the batch.

    Notes
    -----
    Dice is summed over the whole batch and averaged over all classes, class 0 too, with smoothing 1e-5.
    """
    scales = [logits] if isinstance(logits, Tensor) else list(logits)
    full = F.one_hot(classes, num_classes).movedim(-1, 1).float()
    weights = [0.5**scale for scale in range(len(scales))]
    losses = []
    for weight, scale in zip(weights, scales, strict=True):
        a, b, c = scale.shape[2:]
        target = full if scale.shape == full.shape else F.adaptive_avg_pool3d(full, (a, b, c))
        losses.append(weight * _one(scale.float(), target, over_ranks))
    return torch.stack(losses).sum() / sum(weights)


def _one(logits: Tensor, target: Tensor, over_ranks: Callable[[Tensor], Tensor] | None) -> Tensor:
    log_shares = F.log_softmax(logits, dim=1)
    entropy = -(target * log_shares).sum(dim=1).mean()
    shares = log_shares.exp()
    axes = (0, 2, 3, 4)
    sums = torch.stack([(shares * target).sum(axes), shares.sum(axes) + target.sum(axes)])
    overlap, total = sums if over_ranks is None else over_ranks(sums)
    dice = (2 * overlap + _SMOOTHING) / (total + _SMOOTHING)
    loss: Tensor = (1 - dice.mean() + entropy) / 2
    return loss


def class_scores(confusion: Tensor) -> tuple[float, float]:
    """Return accuracy and the mean Dice over the classes that occur, from counts (true class, predicted class)."""
    counts = confusion.double()
    hits, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    dice = 2 * hits / (true + predicted).clamp(min=1)
    return (hits.sum() / counts.sum()).item(), dice[true > 0].mean().item()
