"""The blocks of PCT-Net: convolutions that are normalised and activated *before* they are applied.

Every block is BatchNorm3d, PReLU (one slope), convolution, in this order; axes are z, y, x.

Source: G. Wang et al., arXiv 2306.16925; openmedlab/MIS-FM, Apache-2.0. Written anew from the description.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.networks.anisotropic import conv3d, step_of
from harness.networks.pctnet_attention import SwinLayer

__all__ = ["ConvBlock", "ConvLayer", "ConvTransBlock", "DownSample", "UpCatBlock"]


def preactivated(in_channels: int, convolution: nn.Module) -> nn.Sequential:
    """Put batch norm and PReLU before a convolution."""
    return nn.Sequential(nn.BatchNorm3d(in_channels), nn.PReLU(), convolution)


class ConvLayer(nn.Module):
    """A pre-activated 1x1x1 convolution, used for logits."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = preactivated(in_channels, nn.Conv3d(in_channels, out_channels, kernel_size=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, z, y, x) to (B, out, z, y, x)."""
        out: Tensor = self.conv(x)
        return out


class ConvBlock(nn.Module):
    """Two pre-activated convolutions with dropout between, no shortcut."""

    def __init__(self, channels: int, *, flat: bool, dropout: float) -> None:
        super().__init__()
        self.conv_conv = nn.Sequential(
            nn.BatchNorm3d(channels),
            nn.PReLU(),
            conv3d(channels, channels, flat=flat),
            nn.BatchNorm3d(channels),
            nn.PReLU(),
            nn.Dropout(dropout),
            conv3d(channels, channels, flat=flat),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, z, y, x) to the same shape."""
        out: Tensor = self.conv_conv(x)
        return out


class DownSample(nn.Module):
    """Max-pool, then a pre-activated convolution; the two may differ in being flat."""

    def __init__(self, in_channels: int, out_channels: int, *, flat_pool: bool, flat_conv: bool) -> None:
        super().__init__()
        self.pool = nn.MaxPool3d(step_of(flat=flat_pool))
        self.conv = preactivated(in_channels, conv3d(in_channels, out_channels, flat=flat_conv))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, z, y, x) to (B, out, z / 1 or 2, y / 2, x / 2)."""
        out: Tensor = self.conv(self.pool(x))
        return out


class UpCatBlock(nn.Module):
    """Enlarge the deep features, put them behind the skip features, merge with a convolution."""

    def __init__(self, skip_channels: int, deep_channels: int, *, flat: bool) -> None:
        super().__init__()
        stride = step_of(flat=flat)
        self.up = preactivated(
            deep_channels, nn.ConvTranspose3d(deep_channels, skip_channels, kernel_size=stride, stride=stride)
        )
        self.conv = preactivated(2 * skip_channels, conv3d(2 * skip_channels, skip_channels, flat=flat))

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """Return features of the shape of ``skip``."""
        out: Tensor = self.conv(torch.cat([skip, self.up(deep)], dim=1))
        return out


class ConvTransBlock(nn.Module):
    """The PCT block: convolutions and window attention on the same input, added.

    Parameters
    ----------
    channels, num_heads, depth, size, window
        As in `SwinLayer`.
    dropout : float
        Of the convolutions, the tokens, the attention and the MLP.
    """

    def __init__(
        self, channels: int, *, num_heads: int, depth: int, size: tuple[int, int, int], window: int, dropout: float
    ) -> None:
        super().__init__()
        self.conv = ConvBlock(channels, flat=False, dropout=dropout)
        self.trans = SwinLayer(channels, num_heads, depth, size, window, dropout)
        self.norm_layer = nn.LayerNorm(channels)  # in every published file, applied by nobody
        self.token_drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, z, y, x) to the same shape."""
        out: Tensor = self.conv(x) + self.attend(x)
        return out

    def attend(self, x: Tensor) -> Tensor:
        """Apply the attention branch alone, its shortcuts included: (B, C, z, y, x) to the same shape."""
        tokens = self.token_drop(x.permute(0, 2, 3, 4, 1))
        attended: Tensor = self.trans(tokens)
        return attended.permute(0, 4, 1, 2, 3)
