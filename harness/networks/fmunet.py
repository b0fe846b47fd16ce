"""FMUNet, the convolutional network of MIS-FM: a residual U-Net with instance norm before every convolution.

Source: G. Wang et al., arXiv 2306.16925; openmedlab/MIS-FM and HiLab-git/PyMIC (``net3d/fmunet.py``), Apache-2.0.
Written anew from the description; parameter names are those of the published file.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.networks.anisotropic import FLAT_LEVELS, conv3d, step_of, total_stride
from harness.networks.errors import InputShapeError, SettingError, check_volume_batch, format_size

__all__ = ["FMUNet"]

HE_SLOPE = 0.01  # of the leaky ReLU that He initialisation assumes; also torch's default slope of LeakyReLU


def norm_act(channels: int) -> tuple[nn.Module, nn.Module]:
    """Return what stands before every convolution but the first: instance norm and leaky ReLU."""
    return nn.InstanceNorm3d(channels, affine=True), nn.LeakyReLU(HE_SLOPE)


class ResConv(nn.Module):
    """A run of pre-activated convolutions, each beside its own shortcut."""

    def __init__(self, channels: int, *, flat: bool, dropout: float, depth: int) -> None:
        super().__init__()
        self.conv_list = nn.ModuleList(
            nn.Sequential(*norm_act(channels), nn.Dropout(dropout), conv3d(channels, channels, flat=flat))
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, z, y, x) to the same shape."""
        for conv in self.conv_list:
            x = conv(x) + x
        return x


class DownSample(nn.Module):
    """A pre-activated convolution with stride."""

    def __init__(self, in_channels: int, out_channels: int, *, flat: bool) -> None:
        super().__init__()
        conv = conv3d(in_channels, out_channels, flat=flat, stride=step_of(flat=flat))
        self.down = nn.Sequential(*norm_act(in_channels), conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, z, y, x) to (B, out, z / 1 or 2, y / 2, x / 2)."""
        out: Tensor = self.down(x)
        return out


class UpCat(nn.Module):
    """Reduce the channels, enlarge (trilinear, corners aligned), put behind the skip features, merge."""

    def __init__(self, deep_channels: int, skip_channels: int, *, flat: bool) -> None:
        super().__init__()
        self.up = nn.Sequential(
            *norm_act(deep_channels),
            nn.Conv3d(deep_channels, skip_channels, kernel_size=1),
            nn.Upsample(scale_factor=step_of(flat=flat), mode="trilinear", align_corners=True),
        )
        self.conv = nn.Sequential(*norm_act(2 * skip_channels), conv3d(2 * skip_channels, skip_channels, flat=flat))

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Return features of the shape of ``skip``."""
        out: Tensor = self.conv(torch.cat([skip, self.up(deep)], dim=1))
        return out


class Encoder(nn.Module):
    """Five levels down. ``flat`` and ``dropout`` have one value for each level."""

    def __init__(self, channels: Sequence[int], flat: Sequence[bool], dropout: Sequence[float], depth: int) -> None:
        super().__init__()
        for level in range(5):
            block = ResConv(channels[level], flat=flat[level], dropout=dropout[level], depth=depth)
            self.add_module(f"en_conv{level}", block)
        for level in range(4):
            self.add_module(f"down{level}", DownSample(channels[level], channels[level + 1], flat=flat[level]))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of the five levels, full detail first."""
        features = [self.get_submodule("en_conv0")(x)]
        for level in range(4):
            down = self.get_submodule(f"down{level}")(features[-1])
            features.append(self.get_submodule(f"en_conv{level + 1}")(down))
        return features


class Decoder(nn.Module):
    """Refine the bottleneck, then four levels up."""

    def __init__(self, channels: Sequence[int], flat: Sequence[bool], dropout: Sequence[float], depth: int) -> None:
        super().__init__()
        for level in range(4):
            self.add_module(f"upcat{level}", UpCat(channels[level + 1], channels[level], flat=flat[level]))
        for level in range(5):
            block = ResConv(channels[level], flat=flat[level], dropout=dropout[level], depth=depth)
            self.add_module(f"de_conv{level}", block)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the decoded features of the four levels above the bottleneck, full detail first."""
        x = self.get_submodule("de_conv4")(features[4])
        decoded = []
        for level in (3, 2, 1, 0):
            merged = self.get_submodule(f"upcat{level}")(x, features[level])
            x = self.get_submodule(f"de_conv{level}")(merged)
            decoded.append(x)
        return decoded[::-1]


class FMUNet(nn.Module):
    """FMUNet for inputs (batch, channel, z, y, x) of any size that its strides divide.

    Parameters
    ----------
    in_channels : int
        Image channels; 1 in the published file.
    num_classes : int
        Output channels, background included; 5 in the published file.
    feature_channels : sequence of five int
        Channels from full detail to the bottleneck.
    dropout : float
        Dropout at the three deep levels; the two first have none.
    depth : int
        Convolutions in a residual run.
    res_mode : {0, 1, 2}
        How many of the first levels leave z alone: none, the first, the first two. Mode 0 is the published one;
        the others have 1x3x3 kernels in these levels, so that its file does not fit them.
    deep_supervision : bool
        In training mode return the logits of all four scales.
    keep_head : bool
        Whether whoever loads a published file should fill the logits layers, too; computes nothing.

    Raises
    ------
    SettingError
        An unknown mode, or not five channel counts.
    InputShapeError
        (When called.) A side is not a multiple of 16, 16, 16 (mode 0), 8, 16, 16 (mode 1) or 4, 16, 16 (mode 2), or
        the bottleneck would be a single voxel, which instance norm cannot normalise: 16x16x16 in mode 0.

    References
    ----------
    G. Wang et al., arXiv 2306.16925 (2023).
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        num_classes: int,
        feature_channels: Sequence[int] = (32, 64, 128, 256, 512),
        dropout: float = 0.2,
        depth: int = 2,
        res_mode: int = 0,
        deep_supervision: bool = False,
        keep_head: bool = False,
    ) -> None:
        super().__init__()
        if len(feature_channels) != 5:
            raise SettingError(
                f"feature_channels is {tuple(feature_channels)}, {len(feature_channels)} values; FMUNet needs 5."
            )
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.res_mode = res_mode
        self.stride = total_stride(res_mode)
        self.deep_supervision = deep_supervision
        self.keep_head = keep_head
        flat = (*FLAT_LEVELS[res_mode], False, False, False)
        rates = (0.0, 0.0, dropout, dropout, dropout)
        self.project = conv3d(in_channels, feature_channels[0], flat=flat[0])
        self.encoder = Encoder(feature_channels, flat, rates, depth)
        self.decoder = Decoder(feature_channels, flat, rates, depth)
        self.out_layers = nn.ModuleList(
            nn.Sequential(*norm_act(channels), conv3d(channels, num_classes, flat=level_is_flat))
            for channels, level_is_flat in zip(feature_channels[:4], flat[:4], strict=True)
        )
        self.apply(_he_initialise)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits.

        Parameters
        ----------
        x : Tensor of shape (batch, in_channels, z, y, x)

        Returns
        -------
        Tensor of shape (batch, num_classes, z, y, x), or list of four Tensor
            The list, at full, 1/2, 1/4 and 1/8 in-plane size, in training mode with ``deep_supervision`` only.

        Raises
        ------
        InputShapeError
            The input has the wrong number of axes or channels, or a size that the network cannot divide.
        """
        decoded = self.decoder(self._encode(x))
        if self.deep_supervision and self.training:
            return self._logits(decoded)
        logits: Tensor = self.out_layers[0](decoded[0])
        return logits

    def named_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Return what a parity file stores: logits ``out0`` to ``out3``, and ``bottleneck``.

        ``bottleneck`` is the encoder's last output, before the decoder's ``de_conv4`` refines it.
        """
        features = self._encode(x)
        logits = self._logits(self.decoder(features))
        return {f"out{scale}": value for scale, value in enumerate(logits)} | {"bottleneck": features[4]}

    def unused_parameters(self) -> list[str]:
        """Name the parameters that get no gradient: without ``deep_supervision`` the logits at lower scales."""
        if self.deep_supervision:
            return []
        names = (name for name, _ in self.named_parameters())
        return [n for n in names if n.startswith("out_layers.") and not n.startswith("out_layers.0.")]

    def _encode(self, x: Tensor) -> list[Tensor]:
        size = check_volume_batch("FMUNet", x.shape, self.in_channels)
        if any(side < step or side % step for side, step in zip(size, self.stride, strict=True)):
            raise InputShapeError(
                f"FMUNet cannot divide {format_size(size)} (z, y, x): with res_mode {self.res_mode} the sides must "
                f"be multiples of {', '.join(map(str, self.stride))}. Pad the input to the next multiple."
            )
        if size == self.stride:
            raise InputShapeError(
                f"FMUNet would reduce {format_size(size)} (z, y, x) to a single voxel, which instance norm cannot "
                "normalise. Make at least one side twice as long."
            )
        features: list[Tensor] = self.encoder(self.project(x))
        return features

    def _logits(self, decoded: Sequence[Tensor]) -> list[Tensor]:
        return [layer(features) for layer, features in zip(self.out_layers, decoded, strict=True)]


def _he_initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, a=HE_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
