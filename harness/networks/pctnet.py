"""PCT-Net, the network of MIS-FM: a U-shaped pyramid whose three deep levels join convolution and window attention.

Source: G. Wang et al., "MIS-FM: 3D Medical Image Segmentation using Foundation Models Pretrained on a
Large-Scale Unannotated Dataset", arXiv 2306.16925, IEEE TIP 34:6041-6052, 2025, doi:10.1109/TIP.2025.3610249;
openmedlab/MIS-FM, Apache-2.0. Written anew from the description; parameter names are those of the published files.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from harness.networks.anisotropic import FLAT_LEVELS, conv3d, total_stride
from harness.networks.errors import InputShapeError, SettingError, check_volume_batch, format_size
from harness.networks.pctnet_blocks import ConvBlock, ConvLayer, ConvTransBlock, DownSample, UpCatBlock

__all__ = ["PCTNet"]


class PatchEmbedding(nn.Module):
    """The two full-detail encoder levels and the step down to the pyramid."""

    def __init__(
        self, in_channels: int, channels: Sequence[int], flat: tuple[bool, bool], dropout: Sequence[float]
    ) -> None:
        super().__init__()
        self.proj = conv3d(in_channels, channels[0], flat=flat[0])
        self.conv0 = ConvBlock(channels[0], flat=flat[0], dropout=dropout[0])
        self.conv1 = ConvBlock(channels[1], flat=flat[1], dropout=dropout[1])
        self.down1 = DownSample(channels[0], channels[1], flat_pool=flat[0], flat_conv=flat[1])
        self.down2 = DownSample(channels[1], channels[2], flat_pool=flat[1], flat_conv=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features at full detail, one step down and two steps down."""
        x0 = self.conv0(self.proj(x))
        x1 = self.conv1(self.down1(x0))
        return x0, x1, self.down2(x1)


class PyramidConvTrans(nn.Module):
    """Three levels of PCT blocks down and two up, shared by all resolution modes."""

    def __init__(
        self,
        size: tuple[int, int, int],
        channels: Sequence[int],
        num_classes: int,
        *,
        dropout: Sequence[float],
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_sizes: Sequence[int],
    ) -> None:
        super().__init__()

        def pct_block(level: int) -> ConvTransBlock:
            return ConvTransBlock(
                channels[level],
                num_heads=num_heads[level],
                depth=depths[level],
                size=(size[0] >> level, size[1] >> level, size[2] >> level),
                window=window_sizes[level],
                dropout=dropout[level],
            )

        # The order of these lines is the order of the entries in a published file.
        self.down3 = DownSample(channels[0], channels[1], flat_pool=False, flat_conv=False)
        self.down4 = DownSample(channels[1], channels[2], flat_pool=False, flat_conv=False)
        self.up3 = UpCatBlock(channels[0], channels[1], flat=False)
        self.up4 = UpCatBlock(channels[1], channels[2], flat=False)
        self.convtrans_e2 = pct_block(0)
        self.convtrans_d2 = pct_block(0)
        self.convtrans_e3 = pct_block(1)
        self.convtrans_d3 = pct_block(1)
        self.convtrans_e4 = pct_block(2)
        self.out_conv2 = ConvLayer(channels[0], num_classes)
        self.out_conv3 = ConvLayer(channels[1], num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the decoded features at this level and one step down, and the bottleneck."""
        e2 = self.convtrans_e2(x)
        e3 = self.convtrans_e3(self.down3(e2))
        e4 = self.convtrans_e4(self.down4(e3))
        d3 = self.convtrans_d3(self.up4(e3, e4))
        d2 = self.convtrans_d2(self.up3(e2, d3))
        return d2, d3, e4


class PredictionHead(nn.Module):
    """The two decoder levels back to full detail."""

    def __init__(
        self, channels: Sequence[int], num_classes: int, flat: tuple[bool, bool], dropout: Sequence[float]
    ) -> None:
        super().__init__()
        self.up1 = UpCatBlock(channels[0], channels[1], flat=flat[0])
        self.up2 = UpCatBlock(channels[1], channels[2], flat=flat[1])
        self.conv0 = ConvBlock(channels[0], flat=flat[0], dropout=dropout[0])
        self.conv1 = ConvBlock(channels[1], flat=flat[1], dropout=dropout[1])
        self.out_conv0 = ConvLayer(channels[0], num_classes)
        self.out_conv1 = ConvLayer(channels[1], num_classes)

    def forward(self, x0: Tensor, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decoded features at full detail and one step down."""
        d1 = self.conv1(self.up2(x1, x2))
        return self.conv0(self.up1(x0, d1)), d1


class PCTNet(nn.Module):
    """PCT-Net for inputs of one size, (batch, channel, z, y, x).

    Parameters
    ----------
    in_channels : int
        Image channels; 1 in the published files.
    num_classes : int
        Output channels, background included; 5 in the published files.
    input_size : tuple of int
        (z, y, x) of every input. Mode 0 needs multiples of 16, 16, 16; mode 1 of 8, 16, 16; mode 2 of 4, 16, 16.
        Where a level of the pyramid is 6 voxels or less on its smallest side, its attention window shrinks and is not
        shifted; below 6 its bias table also has another shape than in the published file. In mode 1 nothing of
        this happens from 56x112x112 upwards.
    feature_channels : sequence of five int
        Channels from full detail to the bottleneck. The published files have these defaults; the authors' code
        defaults to other values.
    dropout : sequence of five float
        Dropout at each level.
    resolution_mode : {0, 1, 2}
        How many of the two first levels leave z alone: none, the first, both. It chooses one of three embeddings
        and one of three heads; all of them are always in the state dict.
    depths, num_heads, window_sizes : sequence of three int
        Attention blocks, heads and window side at each level of the pyramid.
    deep_supervision : bool
        In training mode return the logits of all four scales.
    keep_head : bool
        Whether whoever loads a published file should fill the logits layers, too; computes nothing.

    Raises
    ------
    InputShapeError
        ``input_size`` cannot be divided as the mode needs, or (when called) the input has another size.
    SettingError
        An unknown resolution mode, or a sequence of the wrong length.

    Notes
    -----
    ``norm_layer`` and what belongs to the other two modes is in the state dict but never computed with
    (`unused_parameters`).

    References
    ----------
    G. Wang et al., arXiv 2306.16925 (2023); IEEE TIP 34:6041-6052 (2025), doi:10.1109/TIP.2025.3610249.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        num_classes: int,
        input_size: tuple[int, int, int] = (64, 128, 128),
        feature_channels: Sequence[int] = (24, 48, 128, 256, 512),
        dropout: Sequence[float] = (0.0, 0.0, 0.2, 0.2, 0.2),
        resolution_mode: int = 1,
        depths: Sequence[int] = (2, 2, 2),
        num_heads: Sequence[int] = (4, 8, 16),
        window_sizes: Sequence[int] = (6, 6, 6),
        deep_supervision: bool = False,
        keep_head: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.input_size = (input_size[0], input_size[1], input_size[2])
        self.resolution_mode = resolution_mode
        self.deep_supervision = deep_supervision
        self.keep_head = keep_head
        stride = self.stride = total_stride(resolution_mode)
        _check_lengths(5, feature_channels=feature_channels, dropout=dropout)
        _check_lengths(3, input_size=input_size, depths=depths, num_heads=num_heads, window_sizes=window_sizes)
        _check_input_size(self.input_size, stride, resolution_mode)

        shallow, deep = feature_channels[:3], feature_channels[2:]
        z, y, x = (side // step * 4 for side, step in zip(self.input_size, stride, strict=True))
        self.embeddings = nn.ModuleList(
            PatchEmbedding(in_channels, shallow, flat, dropout) for flat in FLAT_LEVELS.values()
        )
        self.pyramid_ct = PyramidConvTrans(
            (z, y, x),
            deep,
            num_classes,
            dropout=dropout[2:],
            depths=depths,
            num_heads=num_heads,
            window_sizes=window_sizes,
        )
        self.pred_heads = nn.ModuleList(
            PredictionHead(shallow, num_classes, flat, dropout) for flat in FLAT_LEVELS.values()
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits.

        Parameters
        ----------
        x : Tensor of shape (batch, in_channels, *input_size)

        Returns
        -------
        Tensor of shape (batch, num_classes, *input_size), or list of four Tensor
            The list, at full, 1/2, 1/4 and 1/8 in-plane size, in training mode with ``deep_supervision`` only.

        Raises
        ------
        InputShapeError
            The input has another size or number of channels than the network was built for.
        """
        d0, d1, d2, d3, _, _ = self._features(x)
        if self.deep_supervision and self.training:
            return self._logits(d0, d1, d2, d3)
        logits: Tensor = self._head.out_conv0(d0)
        return logits

    def named_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Return what a parity file stores: ``out0`` to ``out3``, ``embed_x2`` and ``bottleneck``.

        ``out0`` to ``out3`` are logits at the four scales, ``embed_x2`` the last output of the embedding in
        use, ``bottleneck`` the output of ``pyramid_ct.convtrans_e4``. ``block_e4_trans``, which has an input of its
        own, is `block_e4_trans`.
        """
        d0, d1, d2, d3, embedded, bottleneck = self._features(x)
        outputs = {f"out{scale}": logits for scale, logits in enumerate(self._logits(d0, d1, d2, d3))}
        return outputs | {"embed_x2": embedded, "bottleneck": bottleneck}

    def block_e4_trans(self, features: Tensor) -> Tensor:
        """Apply only the attention branch of the bottleneck, ``pyramid_ct.convtrans_e4.trans``.

        Parameters
        ----------
        features : Tensor of shape (batch, feature_channels[4], z, y, x)
            At the bottleneck's size: ``input_size`` over the total stride.

        Returns
        -------
        Tensor of the same shape, shortcuts included.
        """
        return self.pyramid_ct.convtrans_e4.attend(features)

    def unused_parameters(self) -> list[str]:
        """Name the parameters that no output at full size depends on: they get no gradient.

        Those of the other two resolution modes and ``norm_layer``; without ``deep_supervision`` also the logits
        at lower scales.
        """
        own = str(self.resolution_mode)

        def unused(name: str) -> bool:
            room, branch, *_ = name.split(".")
            if room in ("embeddings", "pred_heads") and branch != own:
                return True
            auxiliary = any(f".out_conv{scale}." in name for scale in (1, 2, 3))
            return ".norm_layer." in name or (auxiliary and not self.deep_supervision)

        return [name for name, _ in self.named_parameters() if unused(name)]

    @property
    def _head(self) -> PredictionHead:
        head = self.pred_heads[self.resolution_mode]
        assert isinstance(head, PredictionHead)
        return head

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        size = check_volume_batch("PCT-Net", x.shape, self.in_channels)
        if size != self.input_size:
            raise InputShapeError(
                f"PCT-Net was built for {format_size(self.input_size)} (z, y, x) and cannot compute another size; "
                f"this input is {format_size(size)}. Pad or crop it, or build the network with this input_size."
            )
        x0, x1, embedded = self.embeddings[self.resolution_mode](x)
        d2, d3, bottleneck = self.pyramid_ct(embedded)
        d0, d1 = self._head(x0, x1, d2)
        return d0, d1, d2, d3, embedded, bottleneck

    def _logits(self, d0: Tensor, d1: Tensor, d2: Tensor, d3: Tensor) -> list[Tensor]:
        head, pyramid = self._head, self.pyramid_ct
        return [head.out_conv0(d0), head.out_conv1(d1), pyramid.out_conv2(d2), pyramid.out_conv3(d3)]


def _check_lengths(length: int, **settings: Sequence[float]) -> None:
    for name, values in settings.items():
        if len(values) != length:
            raise SettingError(f"{name} is {tuple(values)}, {len(values)} values; PCT-Net needs {length}.")


def _check_input_size(size: tuple[int, int, int], stride: tuple[int, int, int], mode: int) -> None:
    if any(side < step or side % step for side, step in zip(size, stride, strict=True)):
        raise InputShapeError(
            f"PCT-Net cannot be built for {format_size(size)} (z, y, x): in resolution mode {mode} the sides must be "
            f"multiples of {', '.join(map(str, stride))}. Round each side up to the next multiple."
        )
