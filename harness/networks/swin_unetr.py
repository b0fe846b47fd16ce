"""Swin UNETR and the Swin pretext network of BrainSegFounder, under their published tensor names.

Blocks and tensor names are MONAI's; the order of patch merging is not left to MONAI, which changed it under the same
name (see swin_merging.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.networks.nets.swin_unetr import SwinTransformer, WindowAttention
from monai.networks.nets.swin_unetr import SwinUNETR as _MonaiSwinUNETR
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.errors import UserError
from harness.networks.errors import InputShapeError, format_size
from harness.networks.swin_merging import Merging, merging_layer

__all__ = ["DIVISOR", "SwinSSL", "SwinUNETR"]

DIVISOR = 32
"""Every side of the input is a multiple of it: a stem of stride 2 and four mergings."""

_STAGES = 4
_CONTRASTIVE_WIDTH = 512


class SwinUNETR(_MonaiSwinUNETR):  # type: ignore[misc]  # MONAI has no types
    """Swin UNETR: a Swin transformer (``swinViT.*``) with a convolutional encoder and decoder around it.

    Parameters
    ----------
    in_channels, out_channels : int
        BrainSegFounder's BraTS files: FLAIR, T1ce, T1, T2 in; tumour core, whole tumour, enhancing tumour out.
    feature_size : int
        Width of the stem, a multiple of 12.
    depths : sequence of int
        Transformer blocks of the four stages; the published are (2, 2, 2, 2), (2, 2, 6, 2) and (2, 2, 18, 2).
    num_heads : sequence of int
        Attention heads of the four stages.
    window_size : int
        Voxels on a side of the windows in which tokens attend to each other. A property of the weights; 7 in all that
        are published. A window of 4 has a fifth of the voxels, and costs a small machine that much less.
    merging : {"legacy", "monai_1_5", "v2"}
        Order of patch merging. A property of the weights: everything published before MONAI 1.5 needs "legacy".
    drop_rate, attn_drop_rate, drop_path_rate : float
        Dropout on tokens and projections, on attention weights, and stochastic depth.
    gradient_checkpointing : bool
        Recompute the transformer blocks in the backward pass: less memory, the same numbers.

    Raises
    ------
    UserError
        Widths, depths and heads do not fit each other, or there is no such merging order.

    Notes
    -----
    ``(N, in_channels, X, Y, Z)`` to logits ``(N, out_channels, X, Y, Z)``, in MONAI's axis order; BrainSegFounder's
    files were trained on x, y, z arrays. Sides are multiples of 32, and not all of them 32: the instance norm of the
    deepest map needs two voxels. New layers start as MONAI's do.

    References
    ----------
    Hatamizadeh et al.: Swin UNETR, arXiv:2201.01266; Cox et al.: BrainSegFounder, doi:10.1016/j.media.2024.103301;
    lab-smile/BrainSegFounder at c58e9e6 on MONAI a23c7f54.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        merging: Merging = "legacy",
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        _check_sizes(feature_size, depths, num_heads, window_size)
        with _WithoutPositions():
            super().__init__(
                in_channels=in_channels,
                out_channels=out_channels,
                feature_size=feature_size,
                depths=tuple(depths),
                num_heads=tuple(num_heads),
                window_size=window_size,
                drop_rate=drop_rate,
                attn_drop_rate=attn_drop_rate,
                dropout_path_rate=drop_path_rate,
                normalize=True,
                patch_norm=False,
                use_checkpoint=gradient_checkpointing,
                spatial_dims=3,
                downsample=merging_layer(merging),
                use_v2=False,
            )
        _place_positions(self, window_size)
        self.in_channels, self.merging = in_channels, merging

    def forward(self, x: Tensor) -> Tensor:
        """Return logits on the grid of ``x``."""
        _check_input("Swin UNETR", x, self.in_channels)
        logits: Tensor = super().forward(x)
        return logits

    def named_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Return ``hidden0`` to ``hidden4``, the transformer's normalised maps at 1/2 to 1/32, and ``logits``."""
        seen: list[list[Tensor]] = []

        def keep(_module: nn.Module, _inputs: Any, hidden: list[Tensor]) -> None:
            seen.append(hidden)

        handle = self.swinViT.register_forward_hook(keep)
        try:
            logits = self.forward(x)
        finally:
            handle.remove()
        return _name_hidden(seen[0]) | {"logits": logits}


class SwinSSL(nn.Module):
    """The pretraining network of BrainSegFounder: the Swin transformer and three pretext heads.

    Parameters
    ----------
    in_channels : int
        Channels in, and out of the reconstruction; 1 (stage 1 as released), 2 or 4 (stage 2).
    feature_size, depths, num_heads, window_size, merging, drop_rate
        As for :class:`SwinUNETR`.
    attn_drop_rate, drop_path_rate, gradient_checkpointing
        As for :class:`SwinUNETR`.

    Raises
    ------
    UserError
        Widths, depths and heads do not fit each other, or there is no such merging order.

    Notes
    -----
    Input ``(N, in_channels, X, Y, Z)`` with sides that are multiples of 32 and at least two voxels in the deepest map:
    the rotation head reads its first voxel, the contrastive head its second.

    References
    ----------
    lab-smile/BrainSegFounder at c58e9e6, pretrain/models/ssl_head.py; Tang et al., arXiv:2111.14791.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        merging: Merging = "legacy",
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check_sizes(feature_size, depths, num_heads, window_size)
        self.in_channels, self.merging = in_channels, merging
        with _WithoutPositions():
            self.swinViT = SwinTransformer(
                in_chans=in_channels,
                embed_dim=feature_size,
                window_size=(window_size,) * 3,
                patch_size=(2, 2, 2),
                depths=tuple(depths),
                num_heads=tuple(num_heads),
                drop_rate=drop_rate,
                attn_drop_rate=attn_drop_rate,
                drop_path_rate=drop_path_rate,
                patch_norm=False,
                use_checkpoint=gradient_checkpointing,
                spatial_dims=3,
                downsample=merging_layer(merging),
                use_v2=False,
            )
        _place_positions(self, window_size)
        width = 2**_STAGES * feature_size
        self.rotation_head = nn.Linear(width, 4)
        self.contrastive_head = nn.Linear(width, _CONTRASTIVE_WIDTH)
        layers: list[nn.Module] = []
        for narrower in (width // 2, width // 4, width // 8, width // 16, width // 16):
            layers += [nn.Conv3d(width, narrower, kernel_size=3, padding=1), nn.InstanceNorm3d(narrower)]
            layers += [nn.LeakyReLU(), nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)]
            width = narrower
        layers.append(nn.Conv3d(width, in_channels, kernel_size=1))
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotation logits ``(N, 4)``, contrastive embedding ``(N, 512)`` and the reconstruction of ``x``."""
        out = self.named_outputs(x)
        return out["rotation"], out["contrastive"], out["reconstruction"]

    def named_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Return ``hidden0`` to ``hidden4``, ``rotation``, ``contrastive`` and ``reconstruction``."""
        _check_input("The Swin pretext network", x, self.in_channels)
        hidden = self.swinViT(x.contiguous(), normalize=True)
        tokens = hidden[-1].flatten(start_dim=2)
        return _name_hidden(hidden) | {
            "rotation": self.rotation_head(tokens[:, :, 0]),
            "contrastive": self.contrastive_head(tokens[:, :, 1]),
            "reconstruction": self.conv(hidden[-1]),
        }


class _WithoutPositions(TorchFunctionMode):
    """Let MONAI number the voxel pairs of a window of one voxel: for the real one that takes long, in every block."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        return func(*((1,) if func is torch.arange else args), **(kwargs or {}))


def _place_positions(network: nn.Module, window: int) -> None:
    """Give every attention the position index that MONAI computes, after it was computed once."""
    along = torch.arange(window, device="cpu")
    offset = along[:, None] - along + window - 1  # from 0, of one voxel to another on one axis
    steps = 2 * window - 1
    pairs = (
        offset[:, None, None, :, None, None] * steps**2
        + offset[None, :, None, None, :, None] * steps
        + offset[None, None, :, None, None, :]
    ).reshape(window**3, window**3)
    for module in network.modules():
        if isinstance(module, WindowAttention):
            module.relative_position_index = pairs.to(module.relative_position_bias_table.device, copy=True)


def _name_hidden(hidden: list[Tensor]) -> dict[str, Tensor]:
    return {f"hidden{i}": value for i, value in enumerate(hidden)}


def _check_sizes(feature_size: int, depths: Sequence[int], num_heads: Sequence[int], window: int) -> None:
    """Refuse sizes that would fail deep inside MONAI, or not fail at all."""
    if len(depths) != _STAGES or len(num_heads) != _STAGES:
        raise UserError(
            f"Swin UNETR has {_STAGES} stages; depths {tuple(depths)} and num_heads {tuple(num_heads)} must have "
            f"{_STAGES} numbers each."
        )
    if feature_size % 12:
        raise UserError(f"feature_size {feature_size} is not a multiple of 12; the published sizes are 24, 48 and 96.")
    if window < 2:
        raise UserError(f"window_size {window} leaves a token nothing to attend to; the published size is 7.")
    for stage, heads in enumerate(num_heads):
        if (feature_size * 2**stage) % heads:
            raise UserError(
                f"Stage {stage + 1} is {feature_size * 2**stage} wide, which {heads} heads do not divide; change "
                "num_heads or feature_size."
            )


def _check_input(network: str, x: Tensor, in_channels: int) -> None:
    """Refuse a batch that the network cannot compute, with the sizes it can."""
    if x.ndim != 5 or x.shape[1] != in_channels:
        raise InputShapeError(
            f"{network} was built for (batch, {in_channels}, x, y, z); this input is {tuple(x.shape)}. Add the missing "
            "axes (x[None, None] for a bare volume), or select the channels that the weights expect."
        )
    size = tuple(x.shape[2:])
    if any(side % DIVISOR for side in size) or all(side == DIVISOR for side in size):
        raise InputShapeError(
            f"{network} cannot take a volume of {format_size(size)}: every side must be a multiple of {DIVISOR}, "
            f"and at least one more than {DIVISOR}. Pad it, or choose such a patch."
        )
