"""The 3-D U-Net of nnU-Net version 1 (``Generic_UNet``) under its published tensor names.

It is what Models Genesis' nnU-Net weights were trained in. Only the variant that nnU-Net itself runs in 3-D is here:
strided convolutions down, transposed convolutions up, instance norm, leaky ReLU, no dropout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.networks.errors import InputShapeError, format_size

__all__ = ["GENESIS_POOL_KERNELS", "NNUNetGeneric"]

Size = tuple[int, int, int]

GENESIS_POOL_KERNELS: tuple[Size, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
"""Poolings of ``genesis_nnunet_luna16_006.model``."""

_SLOPE = 0.01


class NNUNetGeneric(nn.Module):
    """nnU-Net v1 ``Generic_UNet`` in 3-D.

    Parameters
    ----------
    in_channels, num_classes : int
        Channels in, logits out.
    pool_kernels : sequence of (int, int, int)
        One per pooling, shallow to deep; the strides of the stages after the first.
    conv_kernels : sequence of (int, int, int), optional
        One per stage and one for the bottleneck, sides 1 or 3; 3x3x3 throughout where omitted. As in nnU-Net, decoder
        stage k uses the k-th kernel from the end, i.e. that of the stage below it.
    base_features, max_features : int
        Width of the first stage, which doubles with every pooling up to the maximum.
    convs_per_stage : int
        Convolutions of one stage.
    deep_supervision : bool
        Whether ``forward`` in training mode returns the logits of every decoder stage, finest first. Without it the
        coarser heads, which the file always holds, are idle.

    Raises
    ------
    UserError
        The numbers of kernels do not fit, or a convolution has a side other than 1 or 3.

    Notes
    -----
    ``(N, in_channels, a, b, c)`` to logits ``(N, num_classes, a, b, c)``: no activation at the end. Each side must be
    divisible by the product of the pool kernels on its axis (``divisor``), and the deepest map needs more than one
    voxel. Axes are whatever the weights saw: x, y, z in Models Genesis' pretraining, z, y, x in nnU-Net. Convolutions
    start as nnU-Net's (He normal for slope 0.01, zero bias).

    References
    ----------
    Isensee et al.: nnU-Net, doi:10.1038/s41592-020-01008-z; nnunet 1.7.1; MrGiovanni/ModelsGenesis at 12f7feb,
    competition/Genesis_nnUNet.py.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        num_classes: int = 2,
        pool_kernels: Sequence[Sequence[int]] = GENESIS_POOL_KERNELS,
        conv_kernels: Sequence[Sequence[int]] | None = None,
        base_features: int = 32,
        max_features: int = 320,
        convs_per_stage: int = 2,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        pools = [_as_size(kernel) for kernel in pool_kernels]
        convs = [_as_size(kernel) for kernel in conv_kernels or [(3, 3, 3)] * (len(pools) + 1)]
        _check_kernels(pools, convs, convs_per_stage)
        self.in_channels, self.deep_supervision = in_channels, deep_supervision
        self.divisor: Size = _product(pools)
        widths = [min(base_features * 2**level, max_features) for level in range(len(pools) + 1)]
        strides = [(1, 1, 1), *pools]
        skips, bottom = widths[:-1], widths[-1]
        again = convs_per_stage - 1

        # Registered in the authors' order, so that a listing of our tensors reads like theirs.
        self.conv_blocks_localization = nn.ModuleList()
        self.conv_blocks_context = nn.ModuleList()
        self.tu = nn.ModuleList()
        self.seg_outputs = nn.ModuleList()
        width = in_channels
        for level, wider in enumerate(skips):
            block = _StackedConvs(width, wider, convs_per_stage, convs[level], strides[level])
            self.conv_blocks_context.append(block)
            width = wider
        deepest = _StackedConvs(width, bottom, again, convs[-1], strides[-1])
        self.conv_blocks_context.append(nn.Sequential(deepest, _StackedConvs(bottom, bottom, 1, convs[-1])))
        width = bottom
        for skip, pool, kernel in zip(reversed(skips), reversed(pools), reversed(convs[1:]), strict=True):
            self.tu.append(nn.ConvTranspose3d(width, skip, kernel_size=pool, stride=pool, bias=False))
            first = _StackedConvs(2 * skip, skip, again, kernel)
            self.conv_blocks_localization.append(nn.Sequential(first, _StackedConvs(skip, skip, 1, kernel)))
            self.seg_outputs.append(nn.Conv3d(skip, num_classes, kernel_size=1, bias=False))
            width = skip
        self.apply(_initialise_like_nnunet)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits on the grid of ``x``; with deep supervision in training, those of every scale, finest first."""
        maps = self._decode(self._encode(x))
        if self.deep_supervision and self.training:
            return [head(y) for head, y in zip(self.seg_outputs, maps, strict=True)][::-1]
        logits: Tensor = self.seg_outputs[-1](maps[-1])
        return logits

    def named_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Return ``bottleneck``, the deepest map, and ``out_logits``."""
        maps = self._encode(x)
        return {"bottleneck": maps[-1], "out_logits": self.seg_outputs[-1](self._decode(maps)[-1])}

    def _encode(self, x: Tensor) -> list[Tensor]:
        """Return the output of every context stage, the bottleneck last."""
        self._check_input(x)
        maps = []
        for block in self.conv_blocks_context:
            x = block(x)
            maps.append(x)
        return maps

    def _decode(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the output of every localization stage, the finest last."""
        x, outputs = maps[-1], []
        for up, block, skip in zip(self.tu, self.conv_blocks_localization, reversed(maps[:-1]), strict=True):
            x = block(torch.cat([up(x), skip], dim=1))
            outputs.append(x)
        return outputs

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 5 or x.shape[1] != self.in_channels:
            raise InputShapeError(
                f"This nnU-Net was built for (batch, {self.in_channels}, and three spatial axes); this input is "
                f"{tuple(x.shape)}. Add the missing axes, or select the channels that the weights expect."
            )
        size = tuple(x.shape[2:])
        if any(side % by for side, by in zip(size, self.divisor, strict=True)) or size == self.divisor:
            raise InputShapeError(
                f"This nnU-Net cannot take a volume of {format_size(size)}: its sides must be multiples of "
                f"{format_size(self.divisor)} and not all equal to it. Pad it, or choose such a patch."
            )


class _ConvNormNonlin(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: Size, stride: Size) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.conv = nn.Conv3d(channels_in, channels_out, kernel, stride=stride, padding=padding)
        self.instnorm = nn.InstanceNorm3d(channels_out, eps=1e-5, affine=True)
        self.lrelu = nn.LeakyReLU(_SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lrelu(self.instnorm(self.conv(x)))
        return out


class _StackedConvs(nn.Module):
    """A few convolutions of which the first may stride."""

    def __init__(
        self, channels_in: int, channels_out: int, count: int, kernel: Size, first_stride: Size = (1, 1, 1)
    ) -> None:
        super().__init__()
        first = _ConvNormNonlin(channels_in, channels_out, kernel, first_stride)
        rest = [_ConvNormNonlin(channels_out, channels_out, kernel, (1, 1, 1)) for _ in range(count - 1)]
        self.blocks = nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


def _initialise_like_nnunet(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check_kernels(pools: list[Size], convs: list[Size], convs_per_stage: int) -> None:
    if not pools or len(convs) != len(pools) + 1:
        raise UserError(
            f"nnU-Net needs one convolution kernel more than pool kernels, and at least one of these; given are "
            f"{len(pools)} pool and {len(convs)} convolution kernels."
        )
    if any(side not in (1, 3) for kernel in convs for side in kernel):
        raise UserError(f"nnU-Net v1 has convolution kernels with sides 1 and 3 only; given are {convs}.")
    if convs_per_stage < 2:
        raise UserError(f"nnU-Net needs at least two convolutions per stage; convs_per_stage is {convs_per_stage}.")


def _as_size(kernel: Sequence[int]) -> Size:
    if len(kernel) != 3:
        raise UserError(f"A kernel of a 3-D network has three sides; {tuple(kernel)} has {len(kernel)}.")
    return int(kernel[0]), int(kernel[1]), int(kernel[2])


def _product(kernels: list[Size]) -> Size:
    a = b = c = 1
    for kernel in kernels:
        a, b, c = a * kernel[0], b * kernel[1], c * kernel[2]
    return a, b, c
