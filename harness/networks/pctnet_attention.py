"""Shifted-window attention as PCT-Net has it, with the authors' relative-position index.

Legend: B batch, C channels, W windows in one volume, T tokens in one window, H heads; axes are z, y, x.

Source: G. Wang et al., "MIS-FM: 3D Medical Image Segmentation using Foundation Models Pretrained on a
Large-Scale Unannotated Dataset", arXiv 2306.16925; openmedlab/MIS-FM, Apache-2.0. Written anew from the description.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.layers import DropPath
from torch import Tensor, nn

__all__ = ["SwinBlock", "SwinLayer", "relative_position_index"]

DROP_PATH = 0.2  # the same in both blocks of a layer: the authors do not ramp it up with depth
MASKED = -100.0  # added to the score of two tokens that only the cyclic shift made neighbours


def relative_position_index(window: int) -> Tensor:
    """Return the row of the bias table for each pair of tokens in a window.

    The row is ``(3w - 1)(dz + w - 1) + (2w - 1)(dy + w - 1) + (dx + w - 1)``. Swin has ``(2w - 1)**2`` in the place of
    ``3w - 1``; here different offsets share a row and most rows are never read. The published weights were trained
    with it, so it stays.

    Parameters
    ----------
    window : int
        The side ``w`` of the cubic window.

    Returns
    -------
    Tensor of shape (w**3, w**3), int64

    Examples
    --------
    >>> len(relative_position_index(6).unique()), int(relative_position_index(6).max())
    (291, 290)
    """
    axis = torch.arange(window)
    position = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    offset = position[:, None, :] - position[None, :, :] + (window - 1)
    return (3 * window - 1) * offset[..., 0] + (2 * window - 1) * offset[..., 1] + offset[..., 2]


def to_windows(volume: Tensor, window: int) -> Tensor:
    """Cut (B, z, y, x, C) into (B * W, T, C); every side must be a multiple of ``window``."""
    batch, z, y, x, channels = volume.shape
    cells = volume.reshape(batch, z // window, window, y // window, window, x // window, window, channels)
    return cells.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, window**3, channels)


def from_windows(tokens: Tensor, window: int, size: tuple[int, int, int]) -> Tensor:
    """Put (B * W, T, C) back together as (B, z, y, x, C) with (z, y, x) = ``size``."""
    z, y, x = (side // window for side in size)
    cells = tokens.reshape(-1, z, y, x, window, window, window, tokens.shape[-1])
    return cells.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, *size, tokens.shape[-1])


def shift_mask(size: tuple[int, int, int], window: int, shift: int, device: torch.device) -> Tensor:
    """Return (W, T, T), true where two tokens of a shifted window come from opposite ends of the volume.

    Parameters
    ----------
    size : tuple of int
        (z, y, x) after padding to a multiple of ``window``.
    """

    def part(side: int) -> Tensor:  # 0, 1 or 2: before the last window, in it, and what was rolled in behind it
        voxel = torch.arange(side, device=device)
        return (voxel >= side - window).long() + (voxel >= side - shift).long()

    z, y, x = (part(side) for side in size)
    region = 9 * z[:, None, None] + 3 * y[None, :, None] + x[None, None, :]
    tokens = to_windows(region[None, ..., None], window)[..., 0]
    return tokens[:, :, None] != tokens[:, None, :]


class WindowAttention(nn.Module):
    """Multi-head self-attention inside each window, with a learned bias for the relative position.

    Parameters
    ----------
    channels, num_heads : int
        ``channels`` is a multiple of ``num_heads``.
    window : int
        Side of the cubic window.
    dropout : float
        Of the attention weights and of the projected output.
    """

    def __init__(self, channels: int, num_heads: int, window: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 3, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.relative_position_index: Tensor
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within each window: ``tokens`` (B * W, T, C), ``mask`` (W, T, T) or None."""
        num_windows, num_tokens, channels = tokens.shape
        qkv = self.qkv(tokens).reshape(num_windows, num_tokens, 3, self.num_heads, channels // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B * W, H, T, C / H)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = bias + MASKED * mask[:, None].to(bias.dtype)
            bias = bias.repeat(num_windows // mask.shape[0], 1, 1, 1)
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype), dropout_p=self.dropout if self.training else 0.0
        )
        merged = attended.transpose(1, 2).reshape(num_windows, num_tokens, channels)
        projected: Tensor = self.proj_drop(self.proj(merged))
        return projected


class Mlp(nn.Module):
    """Two linear layers with GELU between, four times as wide inside."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis, C to C."""
        hidden: Tensor = self.drop(F.gelu(self.fc1(x)))
        out: Tensor = self.drop(self.fc2(hidden))
        return out


class SwinBlock(nn.Module):
    """Window attention and MLP, each behind a layer norm and beside a shortcut.

    The volume is padded with zeros *after* the norm, and the padding takes part as ordinary keys.
    """

    def __init__(self, channels: int, num_heads: int, window: int, shift: int, dropout: float) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, num_heads, window, dropout)
        self.drop_path = DropPath(DROP_PATH)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, z, y, x, C) to the same shape."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        z, y, x_side = x.shape[1:4]
        pad_z, pad_y, pad_x = (-side % self.window for side in (z, y, x_side))
        x = F.pad(x, (0, 0, 0, pad_x, 0, pad_y, 0, pad_z))
        padded = (z + pad_z, y + pad_y, x_side + pad_x)
        mask = None
        if self.shift:
            x = x.roll((-self.shift,) * 3, dims=(1, 2, 3))
            mask = shift_mask(padded, self.window, self.shift, x.device)
        x = from_windows(self.attn(to_windows(x, self.window), mask), self.window, padded)
        if self.shift:
            x = x.roll((self.shift,) * 3, dims=(1, 2, 3))
        return x[:, :z, :y, :x_side]


class SwinLayer(nn.Module):
    """A run of Swin blocks, every second one shifted by half a window.

    Parameters
    ----------
    channels, num_heads, depth : int
        Channels, attention heads and number of blocks.
    size : tuple of int
        (z, y, x) of the features at this level. Where the smallest side is no longer than ``window``, the window
        shrinks to that side and no block is shifted, which also changes the bias table's shape.
    window : int
        Side of the cubic window.
    dropout : float
        Inside attention and MLP.
    """

    def __init__(
        self, channels: int, num_heads: int, depth: int, size: tuple[int, int, int], window: int, dropout: float
    ) -> None:
        super().__init__()
        shrinks = min(size) <= window
        self.full_window = window
        self.window = min(size) if shrinks else window
        shift = 0 if shrinks else window // 2
        self.blocks = nn.ModuleList(
            SwinBlock(channels, num_heads, self.window, shift if index % 2 else 0, dropout) for index in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, z, y, x, C) to the same shape."""
        for block in self.blocks:
            x = block(x)
        return x
