"""The dilated 3-D ResNet of Med3D (MedicalNet) under its published tensor names. Heads live in med3d_decoders.py.

MONAI's ResNet loads the same files strictly and computes something else: its layer3 and layer4 have stride 2 and no
dilation, the authors' have stride 1 and dilation 2 and 4.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UserError
from harness.networks.errors import check_volume_batch

__all__ = ["DEPTHS", "FEATURES", "PUBLISHED_SHORTCUT", "Med3DResNet", "Shortcut"]

Shortcut = Literal["A", "B"]

DEPTHS: dict[int, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Residual blocks of layer1 to layer4 for every published depth."""

PUBLISHED_SHORTCUT: dict[int, Shortcut] = {10: "B", 18: "A", 34: "A", 50: "B", 101: "B", 152: "B", 200: "B"}
"""Shortcut type of the released file of each depth."""

FEATURES = ("stem", "maxpool", "layer1", "layer2", "layer3", "layer4")
"""Feature maps of :meth:`Med3DResNet.features`, shallow to deep; their strides are 2, 4, 4, 8, 8, 8."""

_BOTTLENECK_FROM = 50
_PUBLISHED_WIDTH = 64
_PLANES = (64, 128, 256, 512)  # at that width; they grow and shrink with it
_STRIDES = (1, 2, 1, 1)
_DILATIONS = (1, 1, 2, 4)


class Med3DResNet(nn.Module):
    """Med3D's encoder: input at full resolution, features at 1/8 of it.

    Parameters
    ----------
    depth : {10, 18, 34, 50, 101, 152, 200}
        Basic blocks below 50, bottlenecks from there on.
    shortcut : {"A", "B"}
        "A" strides and appends zero channels, without parameters; "B" projects with a 1x1x1 convolution and a batch
        norm. It is a property of the file: see ``PUBLISHED_SHORTCUT``.
    in_channels : int
        The published files have one.
    shortcut_gradient : bool
        Whether gradients flow through shortcut A. The authors' code cuts them, which no forward pass can show;
        fine-tuning as they did needs False.
    base_width : int
        Channels of the stem, 64 in every published file; the stages have 1, 2, 4 and 8 times as many.

    Raises
    ------
    UserError
        The depth or the shortcut is not one of the published.

    Notes
    -----
    Input is ``(N, in_channels, D, H, W)``, with D the slice axis; any size, every stride rounds up. ``forward`` returns
    layer4, ``(N, out_channels, ceil(D/8), ceil(H/8), ceil(W/8))``. New convolutions start from a Kaiming normal
    (fan out), as the authors'.

    References
    ----------
    Chen, Ma, Zheng: Med3D, arXiv:1904.00625. Layout: Tencent/MedicalNet at 20f76aa, MIT licence.
    """

    def __init__(
        self,
        *,
        depth: int,
        shortcut: Shortcut,
        in_channels: int = 1,
        shortcut_gradient: bool = False,
        base_width: int = _PUBLISHED_WIDTH,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise UserError(f"Med3D has no ResNet of depth {depth}; published are {', '.join(map(str, DEPTHS))}.")
        if shortcut not in ("A", "B"):
            raise UserError(f"Med3D has no shortcut type {shortcut!r}; choose 'A' or 'B'.")
        block = _BasicBlock if depth < _BOTTLENECK_FROM else _Bottleneck
        self.depth = depth
        self.conv1 = nn.Conv3d(in_channels, base_width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(base_width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(kernel_size=3, stride=2, padding=1)
        make_shortcut = partial(_make_shortcut, shortcut, shortcut_gradient)
        stages: list[nn.Sequential] = []
        width, widths = base_width, [planes * base_width // _PUBLISHED_WIDTH for planes in _PLANES]
        for planes, blocks, stride, dilation in zip(widths, DEPTHS[depth], _STRIDES, _DILATIONS, strict=True):
            outgoing = planes * block.expansion
            first = block(width, planes, stride, dilation, make_shortcut(width, outgoing, stride))
            rest = [block(outgoing, planes, 1, dilation, None) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            width = outgoing
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels: dict[str, int] = {"stem": base_width, "maxpool": base_width} | {
            f"layer{i + 1}": planes * block.expansion for i, planes in enumerate(widths)
        }
        self.out_channels = width
        self.apply(initialise_like_med3d)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return every feature map by name, in the order of ``FEATURES``."""
        check_volume_batch(f"Med3D ResNet-{self.depth}", x.shape, self.conv1.in_channels)
        out = {"stem": self.relu(self.bn1(self.conv1(x)))}
        out["maxpool"] = self.maxpool(out["stem"])
        out["layer1"] = self.layer1(out["maxpool"])
        out["layer2"] = self.layer2(out["layer1"])
        out["layer3"] = self.layer3(out["layer2"])
        out["layer4"] = self.layer4(out["layer3"])
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer4 features of ``x``."""
        return self.features(x)["layer4"]

    def named_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Return the arrays that a reference forward pass stores: ``maxpool`` and ``layer1`` to ``layer4``."""
        return {name: value for name, value in self.features(x).items() if name != "stem"}


def initialise_like_med3d(module: nn.Module) -> None:
    """Give one layer the authors' starting values; transposed convolutions and linear layers keep PyTorch's."""
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.BatchNorm3d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


class _ZeroPadShortcut(nn.Module):
    """Shortcut A: every stride-th voxel, then zero channels up to the new width."""

    def __init__(self, extra_channels: int, stride: int, gradient: bool) -> None:
        super().__init__()
        self.extra_channels, self.stride, self.gradient = extra_channels, stride, gradient

    def forward(self, x: Tensor) -> Tensor:
        strided = x[:, :, :: self.stride, :: self.stride, :: self.stride]
        padded = F.pad(strided, (0, 0, 0, 0, 0, 0, 0, self.extra_channels))
        return padded if self.gradient else padded.detach()


def _make_shortcut(
    kind: Shortcut, gradient: bool, channels_in: int, channels_out: int, stride: int
) -> nn.Module | None:
    """Build the shortcut of a stage's first block, or None where the identity fits."""
    if stride == 1 and channels_in == channels_out:
        return None
    if kind == "A":
        return _ZeroPadShortcut(channels_out - channels_in, stride, gradient)
    conv = nn.Conv3d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(channels_out))


def _conv3(channels_in: int, channels_out: int, stride: int, dilation: int) -> nn.Conv3d:
    return nn.Conv3d(
        channels_in, channels_out, kernel_size=3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )


class _BasicBlock(nn.Module):
    """Two 3x3x3 convolutions, both dilated."""

    expansion = 1

    def __init__(self, width: int, planes: int, stride: int, dilation: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = _conv3(width, planes, stride, dilation)
        self.bn1 = nn.BatchNorm3d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv3(planes, planes, 1, dilation)
        self.bn2 = nn.BatchNorm3d(planes)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return _add_and_rectify(out, x, self.downsample, self.relu)


class _Bottleneck(nn.Module):
    """1x1x1, 3x3x3 and 1x1x1 convolutions; stride and dilation sit on the middle one."""

    expansion = 4

    def __init__(self, width: int, planes: int, stride: int, dilation: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(width, planes, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = _conv3(planes, planes, stride, dilation)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = nn.Conv3d(planes, planes * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm3d(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return _add_and_rectify(out, x, self.downsample, self.relu)


def _add_and_rectify(out: Tensor, x: Tensor, shortcut: nn.Module | None, relu: nn.Module) -> Tensor:
    residual = x if shortcut is None else shortcut(x)
    result: Tensor = relu(torch.add(out, residual))
    return result
