"""What turns the Med3D encoder into a usable network: three segmentation heads at full resolution, one classifier.

The released files are encoders. ``conv_seg`` is the authors' public head; the U-Net and DenseASPP decoders stand for
the unpublished ones of the paper and are approximations: their widths are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UserError
from harness.networks.med3d_resnet import Med3DResNet, Shortcut, initialise_like_med3d

__all__ = ["ConvSegHead", "Decoder", "DenseASPPDecoder", "Med3DClassification", "Med3DSegmentation", "UNetDecoder"]

Decoder = Literal["conv_seg", "unet", "dense_aspp"]

_ASPP_DILATIONS = (3, 6, 12, 18, 24)
_SAME_GRID = ("layer2", "layer3", "layer4")


class Med3DSegmentation(Med3DResNet):
    """The Med3D encoder with a segmentation head; the encoder keeps its published tensor names at the top level.

    Parameters
    ----------
    depth, shortcut, in_channels, shortcut_gradient, base_width
        As for :class:`~harness.networks.med3d_resnet.Med3DResNet`.
    num_classes : int
        Output channels, background included where the task has one.
    decoder : {"conv_seg", "unet", "dense_aspp"}
        "conv_seg" is the authors' public head, tensors ``conv_seg.*``; "unet" follows the paper's lung experiment and
        "dense_aspp" its LiTS experiment, tensors ``decoder.*``.

    Raises
    ------
    UserError
        The depth, shortcut or decoder is not known.

    Notes
    -----
    ``(N, in_channels, D, H, W)`` to logits ``(N, num_classes, D, H, W)``; any size.

    References
    ----------
    Chen, Ma, Zheng: Med3D, arXiv:1904.00625; Tencent/MedicalNet at 20f76aa.
    """

    def __init__(
        self,
        *,
        depth: int,
        shortcut: Shortcut,
        num_classes: int,
        decoder: Decoder,
        in_channels: int = 1,
        shortcut_gradient: bool = False,
        base_width: int = 64,
    ) -> None:
        super().__init__(
            depth=depth,
            shortcut=shortcut,
            in_channels=in_channels,
            shortcut_gradient=shortcut_gradient,
            base_width=base_width,
        )
        if decoder not in _HEADS:
            raise UserError(f"Med3D has no decoder called {decoder!r}; choose one of {', '.join(_HEADS)}.")
        self.head_name = "conv_seg" if decoder == "conv_seg" else "decoder"
        self.add_module(self.head_name, _HEADS[decoder](self.channels, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits on the grid of ``x``."""
        head = self._head()
        logits: Tensor = head.to_grid(head(self.features(x)), x.shape[2:])
        return logits

    def named_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Return the encoder's maps and ``logits`` on the head's own grid: 1/4 (conv_seg), 1/8 (dense_aspp) or 1/1."""
        features = self.features(x)
        named = {name: value for name, value in features.items() if name != "stem"}
        return named | {"logits": self._head()(features)}

    def _head(self) -> _Head:
        head = getattr(self, self.head_name)
        assert isinstance(head, _Head)
        return head


class Med3DClassification(Med3DResNet):
    """The Med3D encoder, global average pooling and one linear layer (``classifier``).

    The paper's nodule experiment does not say what its head was; this is the plainest one.

    Parameters
    ----------
    depth, shortcut, in_channels, shortcut_gradient, base_width
        As for :class:`~harness.networks.med3d_resnet.Med3DResNet`.
    num_classes : int
        Output logits: ``(N, in_channels, D, H, W)`` to ``(N, num_classes)``.
    """

    def __init__(
        self,
        *,
        depth: int,
        shortcut: Shortcut,
        num_classes: int,
        in_channels: int = 1,
        shortcut_gradient: bool = False,
        base_width: int = 64,
    ) -> None:
        super().__init__(
            depth=depth,
            shortcut=shortcut,
            in_channels=in_channels,
            shortcut_gradient=shortcut_gradient,
            base_width=base_width,
        )
        self.classifier = nn.Linear(self.out_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return one row of class logits per volume."""
        return self._class_logits(self.features(x))

    def named_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Return the encoder's maps and ``class_logits``."""
        features = self.features(x)
        named = {name: value for name, value in features.items() if name != "stem"}
        return named | {"class_logits": self._class_logits(features)}

    def _class_logits(self, features: dict[str, Tensor]) -> Tensor:
        logits: Tensor = self.classifier(features["layer4"].mean(dim=(2, 3, 4)))
        return logits


class _Head(nn.Module):
    """A segmentation head: encoder maps to logits on its own grid, and from there to the input's."""

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def to_grid(self, logits: Tensor, size: torch.Size) -> Tensor:
        """Resample ``logits`` linearly to ``size``."""
        return F.interpolate(logits, size=size, mode="trilinear", align_corners=False)


class ConvSegHead(nn.Sequential, _Head):
    """The authors' public head: layer4 at 1/8 to logits at 1/4 of the input; tensors ``0.weight`` to ``6.weight``."""

    def __init__(self, channels: dict[str, int], num_classes: int) -> None:
        super().__init__(
            nn.ConvTranspose3d(channels["layer4"], 32, kernel_size=2, stride=2),
            nn.BatchNorm3d(32),
            nn.ReLU(inplace=True),
            nn.Conv3d(32, 32, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm3d(32),
            nn.ReLU(inplace=True),
            nn.Conv3d(32, num_classes, kernel_size=1, bias=False),
        )
        self.apply(initialise_like_med3d)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return logits at twice the grid of layer4."""
        x = features["layer4"]
        for layer in self:
            x = layer(x)
        return x

    def to_grid(self, logits: Tensor, size: torch.Size) -> Tensor:
        """Resample linearly with the corner voxels aligned: the authors' inference zooms with SciPy, which does so."""
        return F.interpolate(logits, size=size, mode="trilinear", align_corners=True)


class UNetDecoder(_Head):
    """Skip-connection decoder over the encoder's maps: 1/8, 1/4 (layer1), 1/2 (stem), 1/1, then 1x1x1 logits.

    layer2, layer3 and layer4 share one grid, so they meet by concatenation. Each of the three groups is a transposed
    3x3x3 convolution that doubles the grid and a plain one.

    Parameters
    ----------
    channels : dict of str to int
        Widths of the encoder's maps by name.
    num_classes : int
        Output channels.
    widths : tuple of int
        At 1/8, 1/4, 1/2 and 1/1. The paper prints 256 and 128 for its first group; the rest go on halving.
    """

    def __init__(
        self, channels: dict[str, int], num_classes: int, widths: tuple[int, int, int, int] = (256, 128, 64, 32)
    ) -> None:
        super().__init__()
        self.fuse = _conv_bn_relu(sum(channels[name] for name in _SAME_GRID), widths[0], kernel_size=1)
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(wide, narrow, kernel_size=3, stride=2, padding=1, output_padding=1)
            for wide, narrow in pairwise(widths)
        )
        skips = (channels["layer1"], channels["stem"], 0)
        self.blocks = nn.ModuleList(
            _conv_bn_relu(narrow + skip, narrow, kernel_size=3) for narrow, skip in zip(widths[1:], skips, strict=True)
        )
        self.logits = nn.Conv3d(widths[-1], num_classes, kernel_size=1)
        self.apply(initialise_like_med3d)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return logits at twice the grid of the stem: the input's size, odd sides rounded up."""
        x: Tensor = self.fuse(torch.cat([features[name] for name in _SAME_GRID], dim=1))
        for up, block, skip in zip(self.ups, self.blocks, (features["layer1"], features["stem"], None), strict=True):
            x = up(x)
            if skip is not None:
                x = torch.cat([_cut(x, skip.shape[2:]), skip], dim=1)
            x = block(x)
        logits: Tensor = self.logits(x)
        return logits

    def to_grid(self, logits: Tensor, size: torch.Size) -> Tensor:
        """Cut the voxel that an odd side was rounded up by."""
        return _cut(logits, size)


class DenseASPPDecoder(_Head):
    """Densely connected dilated convolutions on layer4's grid (1/8), then 1x1x1 logits.

    Each of the five layers (dilation 3, 6, 12, 18, 24) sees the reduced map and every earlier layer's output.

    Parameters
    ----------
    channels : dict of str to int
        Widths of the encoder's maps by name.
    num_classes : int
        Output channels.
    reduced : int
        Width after the first 1x1x1 convolution.
    inner, growth : int
        Width of each layer's 1x1x1 and of its dilated convolution.

    References
    ----------
    Yang et al.: DenseASPP for Semantic Segmentation in Street Scenes, CVPR 2018; here with 3-D kernels.
    """

    def __init__(
        self, channels: dict[str, int], num_classes: int, reduced: int = 256, inner: int = 128, growth: int = 64
    ) -> None:
        super().__init__()
        self.reduce = _conv_bn_relu(channels["layer4"], reduced, kernel_size=1)
        self.layers = nn.ModuleList(
            nn.Sequential(
                _conv_bn_relu(reduced + i * growth, inner, kernel_size=1),
                _conv_bn_relu(inner, growth, kernel_size=3, dilation=dilation),
            )
            for i, dilation in enumerate(_ASPP_DILATIONS)
        )
        self.logits = nn.Conv3d(reduced + len(_ASPP_DILATIONS) * growth, num_classes, kernel_size=1)
        self.apply(initialise_like_med3d)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return logits on the grid of layer4."""
        x: Tensor = self.reduce(features["layer4"])
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        logits: Tensor = self.logits(x)
        return logits


_HEADS: dict[str, Callable[[dict[str, int], int], _Head]] = {
    "conv_seg": ConvSegHead,
    "unet": UNetDecoder,
    "dense_aspp": DenseASPPDecoder,
}


def _cut(x: Tensor, size: torch.Size) -> Tensor:
    depth, height, width = size
    return x[:, :, :depth, :height, :width]


def _conv_bn_relu(channels_in: int, channels_out: int, *, kernel_size: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv3d(channels_in, channels_out, kernel_size, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(channels_out), nn.ReLU(inplace=True))
