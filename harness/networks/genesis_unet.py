"""The 3D U-Net of Models Genesis (PyTorch layout), with the published key names.

Zhou et al., Models Genesis, Medical Image Analysis 67:101840 (2021), arXiv:2004.07882. Written from the facts of
the architecture; the authors' code is under a non-commercial licence and is not used here.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BatchStatNorm", "GenesisClassifier", "GenesisUNet", "Normalization"]

Normalization = Literal["batch", "running"]


class BatchStatNorm(nn.BatchNorm3d):
    """Batch norm that always normalises with the statistics of the current batch, also in evaluation.

    The authors' network behaves like this, so its answer for a volume depends on what shares the batch with it.
    Unlike theirs, evaluation leaves the running buffers alone: looking at a network must not change it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` of shape (batch, channel, x, y, z)."""
        if self.training:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, True, self.momentum or 0.0, self.eps
            )
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


def _norm(channels: int, normalization: Normalization, eps: float) -> nn.BatchNorm3d:
    return (BatchStatNorm if normalization == "batch" else nn.BatchNorm3d)(channels, eps=eps)


class _Unit(nn.Module):
    """3x3x3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, normalization: Normalization, eps: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, kernel_size=3, padding=1)
        self.bn1 = _norm(outputs, normalization, eps)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)), inplace=True)


class _Down(nn.Module):
    """Two units; the second doubles the channels. The pooling is done by the caller, which needs both grids."""

    def __init__(self, inputs: int, outputs: int, normalization: Normalization, eps: float) -> None:
        super().__init__()
        self.ops = nn.Sequential(
            _Unit(inputs, max(outputs // 2, 1), normalization, eps),
            _Unit(max(outputs // 2, 1), outputs, normalization, eps),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ops(x)
        return out


class _Up(nn.Module):
    """Transposed convolution, then (upsampled, skip) through two units."""

    def __init__(self, inputs: int, skip: int, outputs: int, normalization: Normalization, eps: float) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(inputs, inputs, kernel_size=2, stride=2)
        self.ops = nn.Sequential(
            _Unit(inputs + skip, outputs, normalization, eps), _Unit(outputs, outputs, normalization, eps)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.ops(torch.cat((self.up_conv(x), skip), dim=1))
        return out


class _Head(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.final_conv = nn.Conv3d(inputs, outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.final_conv(x)
        return out


class _Encoder(nn.Module):
    """The contracting path, under the published block names at every width."""

    def __init__(self, in_channels: int, base_width: int, normalization: Normalization, eps: float) -> None:
        super().__init__()
        w = base_width
        self.down_tr64 = _Down(in_channels, 2 * w, normalization, eps)
        self.down_tr128 = _Down(2 * w, 4 * w, normalization, eps)
        self.down_tr256 = _Down(4 * w, 8 * w, normalization, eps)
        self.down_tr512 = _Down(8 * w, 16 * w, normalization, eps)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the three skips, finest first, and the bottleneck (16 x base width channels, 1/8 of the grid)."""
        skip64 = self.down_tr64(x)
        skip128 = self.down_tr128(F.max_pool3d(skip64, 2))
        skip256 = self.down_tr256(F.max_pool3d(skip128, 2))
        return skip64, skip128, skip256, self.down_tr512(F.max_pool3d(skip256, 2))


class GenesisUNet(_Encoder):
    """U-Net with three poolings, batch norm and transposed convolutions.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the volume and of the answer.
    base_width : int
        Channels of the first unit: 32 as published (19.1 M parameters). The block names keep the published
        numbers at every width.
    normalization : {"batch", "running"}
        ``batch`` normalises with the statistics of the current batch, always, as the authors' network does;
        ``running`` is ordinary batch norm.
    eps : float
        Of the batch norm: 1e-5 in the PyTorch file, 1e-3 in the Keras file.

    Notes
    -----
    Input of shape (batch, in_channels, x, y, z), depth last; every side a multiple of 8. The answer has the same
    grid and holds logits: the published network applies a sigmoid inside, which is the caller's choice here.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        base_width: int = 32,
        normalization: Normalization = "batch",
        eps: float = 1e-5,
    ) -> None:
        super().__init__(in_channels, base_width, normalization, eps)
        w = base_width
        self.up_tr256 = _Up(16 * w, 8 * w, 8 * w, normalization, eps)
        self.up_tr128 = _Up(8 * w, 4 * w, 4 * w, normalization, eps)
        self.up_tr64 = _Up(4 * w, 2 * w, 2 * w, normalization, eps)
        self.out_tr = _Head(2 * w, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, out_channels, x, y, z)."""
        skip64, skip128, skip256, bottleneck = self.encode(x)
        up = self.up_tr256(bottleneck, skip256)
        up = self.up_tr128(up, skip128)
        out: Tensor = self.out_tr(self.up_tr64(up, skip64))
        return out


class GenesisClassifier(_Encoder):
    """The encoder with global average pooling and two dense layers, as used for NCC and ECC.

    Only the encoder is run; the authors' version also runs the decoder and discards it.

    Parameters
    ----------
    num_classes : int
        Logits of the last layer; 1 for a binary target with the sigmoid outside.
    in_channels, base_width, normalization, eps
        As for `GenesisUNet`.
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 1,
        base_width: int = 32,
        normalization: Normalization = "batch",
        eps: float = 1e-5,
    ) -> None:
        super().__init__(in_channels, base_width, normalization, eps)
        w = base_width
        self.dense_1 = nn.Linear(16 * w, 32 * w)
        self.dense_2 = nn.Linear(32 * w, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes)."""
        pooled = self.encode(x)[-1].mean(dim=(2, 3, 4))
        out: Tensor = self.dense_2(F.relu(self.dense_1(pooled)))
        return out
