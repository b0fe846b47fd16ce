"""The network of Med3D's co-training, and its loss: a branch learns from its own data set only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.networks.med3d_resnet import Med3DResNet

__all__ = ["NOT_ANNOTATED", "CoTraining", "co_training_loss"]

NOT_ANNOTATED = -1
"""Class index of voxels that do not count."""


class CoTraining(nn.Module):
    """The shared encoder and a branch per data set: a 1x1x1 convolution, then up-sampling to the input's grid."""

    def __init__(self, encoder: Med3DResNet, classes: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.branches = nn.ModuleList(nn.Conv3d(encoder.out_channels, count, 1) for count in classes)

    def forward(self, image: Tensor, dataset: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return, for every branch that the batch asks for, the rows it answers and their logits.

        Parameters
        ----------
        image : Tensor of shape (batch, 1, a, b, c)
        dataset : Tensor of shape (batch,)
            Number of the branch of each row.
        """
        return self.answer(image, [(dataset == number).nonzero()[:, 0] for number in range(len(self.branches))])

    def answer(self, image: Tensor, asked: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Do what `forward` does; ``asked`` has the rows of every branch."""
        features = self.encoder(image)
        a, b, c = image.shape[2:]
        answers = []
        for branch, rows in zip(self.branches, asked, strict=True):
            if len(rows):
                coarse = branch(features[rows])
                answers.append((rows, F.interpolate(coarse, (a, b, c), mode="trilinear", align_corners=False)))
        return answers


def co_training_loss(answers: Sequence[tuple[Tensor, Tensor]], label: Tensor) -> Tensor:
    """Return the cross entropy over annotated voxels, averaged over the samples.

    Parameters
    ----------
    answers : sequence of (Tensor, Tensor)
        From `CoTraining.forward`.
    label : Tensor of shape (batch, a, b, c), int64
        Class indices, or `NOT_ANNOTATED`; a sample without any annotated voxel counts 0.
    """
    losses = []
    for rows, logits in answers:
        entropy = F.cross_entropy(logits.float(), label[rows], ignore_index=NOT_ANNOTATED, reduction="none")
        counted = (label[rows] != NOT_ANNOTATED).sum((1, 2, 3)).clamp(min=1)
        losses.append(entropy.sum((1, 2, 3)) / counted)
    return torch.cat(losses).mean()
