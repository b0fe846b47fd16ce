"""PCT-Net beside parity: other modes, sizes and class counts, and the attention against its definition."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.errors import UserError
from harness.networks.errors import InputShapeError
from harness.networks.pctnet import PCTNet
from harness.networks.pctnet_attention import SwinBlock, SwinLayer, relative_position_index

SMALL = {"feature_channels": (4, 4, 8, 8, 16), "num_heads": (2, 2, 4), "input_size": (16, 32, 32)}


def _small(**settings: Any) -> PCTNet:
    torch.manual_seed(0)
    return PCTNet(**{"num_classes": 3, **SMALL, **settings})


def _attend_by_definition(block: SwinBlock, x: Tensor, window: int, shift: int) -> Tensor:
    """Compute window attention voxel by voxel, from the words of its definition. ``x``: (z, y, x, C), normalised."""
    size = x.shape[:3]
    padded = tuple(-(-side // window) * window for side in size)
    attention, heads = block.attn, block.attn.num_heads
    channels = x.shape[3] // heads

    def place(voxel: tuple[int, ...]) -> tuple[list[int], list[bool], list[int]]:
        """Where the roll puts a voxel: its window, whether it was carried around the end, its seat inside."""
        rolled = [(v - shift) % side for v, side in zip(voxel, padded, strict=True)]
        around = [v < shift for v in voxel]
        return [r // window for r in rolled], around, [r % window for r in rolled]

    def project(voxel: tuple[int, ...]) -> Tensor:
        inside = all(v < side for v, side in zip(voxel, size, strict=True))
        token = x[voxel] if inside else torch.zeros(x.shape[3])
        return attention.qkv(token).reshape(3, heads, channels)

    voxels = list(itertools.product(*(range(side) for side in padded)))
    places = {voxel: place(voxel) for voxel in voxels}
    projected = {voxel: project(voxel) for voxel in voxels}
    out = torch.zeros(*size, x.shape[3])
    for voxel in itertools.product(*(range(side) for side in size)):
        mine, around, seat = places[voxel]
        neighbours = [other for other in voxels if places[other][0] == mine]
        scores = []
        for other in neighbours:
            step = [a - b + window - 1 for a, b in zip(seat, places[other][2], strict=True)]
            row = (3 * window - 1) * step[0] + (2 * window - 1) * step[1] + step[2]
            score = (projected[voxel][0] * projected[other][1]).sum(-1) / channels**0.5
            cut = -100.0 if places[other][1] != around else 0.0
            scores.append(score + attention.relative_position_bias_table[row] + cut)
        weights = torch.stack(scores).softmax(0)
        values = torch.stack([projected[other][2] for other in neighbours])
        out[voxel] = attention.proj((weights[..., None] * values).sum(0).reshape(-1))
    return out


@pytest.mark.parametrize(("window", "shift"), [(3, 0), (3, 1), (2, 1)])
def test_window_attention_is_its_definition(window: int, shift: int) -> None:
    torch.manual_seed(1)
    block = SwinBlock(4, 2, window, shift, dropout=0.0).eval()
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    x = torch.randn(2, 4, 5, 3, 4)
    with torch.inference_mode():
        expected = torch.stack([_attend_by_definition(block, block.norm1(one), window, shift) for one in x]) + x
        expected = expected + block.mlp(block.norm2(expected))
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("window", [1, 4, 6])
def test_position_index_is_the_authors_formula(window: int) -> None:
    index = relative_position_index(window)
    seats = list(itertools.product(range(window), repeat=3))
    for (i, a), (j, b) in [
        ((0, seats[0]), (len(seats) - 1, seats[-1])),
        ((3 % len(seats), seats[3 % len(seats)]),) * 2,
    ]:
        dz, dy, dx = (p - q + window - 1 for p, q in zip(a, b, strict=True))
        assert index[i, j] == (3 * window - 1) * dz + (2 * window - 1) * dy + dx
    assert index.shape == (window**3, window**3)
    assert index.dtype == torch.int64
    if window == 6:
        assert sorted(index.unique().tolist()) == list(range(291))


@pytest.mark.parametrize(
    ("size", "rows", "shifts"),
    [
        ((56, 112, 112), 1331, [0, 3]),  # the smallest size at which every level is as published
        ((64, 96, 96), 1331, [0, 0]),  # 6 voxels at the bottleneck: fits the file, but is not shifted
        ((32, 64, 64), 343, [0, 0]),  # 4 voxels: another table
    ],
)
def test_a_small_bottleneck_shrinks_the_window(size: tuple[int, int, int], rows: int, shifts: list[int]) -> None:
    with torch.device("meta"):
        layer = PCTNet(num_classes=5, input_size=size).pyramid_ct.convtrans_e4.trans
    assert [block.shift for block in layer.blocks] == shifts
    assert {tuple(block.attn.relative_position_bias_table.shape) for block in layer.blocks} == {(rows, 16)}


def test_a_shrunken_window_still_covers_the_longer_sides() -> None:
    torch.manual_seed(2)
    layer = SwinLayer(4, 2, 2, (2, 5, 4), window=6, dropout=0.0).eval()
    assert [block.window for block in layer.blocks] == [2, 2]
    x = torch.randn(1, 2, 5, 4, 4)
    with torch.inference_mode():
        expected = x
        for block in layer.blocks:
            attended = _attend_by_definition(block, block.norm1(expected[0]), 2, 0)[None] + expected
            expected = attended + block.mlp(block.norm2(attended))
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("mode", "size"), [(0, (32, 32, 16)), (1, (8, 32, 16)), (2, (4, 32, 48))])
def test_every_mode_computes_every_scale(mode: int, size: tuple[int, int, int]) -> None:
    network = _small(resolution_mode=mode, input_size=size, in_channels=2, num_classes=4).eval()
    with torch.inference_mode():
        x = torch.randn(2, 2, *size)
        outputs = network.named_outputs(x)
        torch.testing.assert_close(network(x), outputs["out0"])
    z, y, x_side = size
    depths = {0: (z, z // 2, z // 4, z // 8), 1: (z, z, z // 2, z // 4), 2: (z, z, z, z // 2)}[mode]
    for scale, depth in enumerate(depths):
        assert outputs[f"out{scale}"].shape == (2, 4, depth, y >> scale, x_side >> scale)
    assert outputs["bottleneck"].shape == (2, 16, depths[3] // 2, y // 16, x_side // 16)
    assert outputs["embed_x2"].shape == (2, 8, depths[2], y // 4, x_side // 4)


def test_the_modes_share_their_names_and_differ_in_what_they_compute() -> None:
    networks = [_small(resolution_mode=mode, input_size=(32, 32, 32)) for mode in (0, 1, 2)]
    assert networks[0].state_dict().keys() == networks[1].state_dict().keys() == networks[2].state_dict().keys()
    shapes = [network.eval().named_outputs(torch.zeros(1, 1, 32, 32, 32))["embed_x2"].shape for network in networks]
    assert [shape[2] for shape in shapes] == [8, 16, 32]


def test_deep_supervision_returns_four_scales_in_training_only() -> None:
    network = _small(deep_supervision=True)
    x = torch.randn(1, 1, 16, 32, 32)
    outputs = network.train()(x)
    assert [tuple(output.shape[2:]) for output in outputs] == [(16, 32, 32), (16, 16, 16), (8, 8, 8), (4, 4, 4)]
    assert isinstance(network.eval()(x), Tensor)
    assert isinstance(_small().train()(x), Tensor)


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("mode", [0, 1, 2])
def test_exactly_the_unused_parameters_get_no_gradient(mode: int, deep_supervision: bool) -> None:
    network = _small(resolution_mode=mode, deep_supervision=deep_supervision, dropout=(0.0,) * 5)
    outputs = network.train()(torch.randn(2, 1, 16, 32, 32))
    sum(output.square().mean() for output in (outputs if deep_supervision else [outputs])).backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert without == set(network.unused_parameters())
    assert any(".norm_layer." in name for name in without)


def test_each_volume_of_a_batch_is_computed_alone_in_evaluation() -> None:
    network = _small().eval()
    x = torch.randn(3, 1, 16, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(x)[1:2], network(x[1:2]))


def test_half_precision_stays_close() -> None:
    network = _small().eval()
    x = torch.randn(1, 1, 16, 32, 32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        half = network(x)
    with torch.inference_mode():
        whole = network(x)
    assert (half.float() - whole).abs().max() < 0.05 * whole.std()


@pytest.mark.parametrize("error", [UserError, ValueError])
def test_another_size_is_refused(error: type[Exception]) -> None:
    with pytest.raises(error, match=re.escape("built for 16x32x32 (z, y, x)") + ".*this input is 32x32x16"):
        _small()(torch.zeros(1, 1, 32, 32, 16))


def test_other_axes_and_channels_are_refused() -> None:
    with pytest.raises(InputShapeError, match="five axes; this input has 3"):
        _small()(torch.zeros(16, 32, 32))
    with pytest.raises(InputShapeError, match=r"built for 1 input channel\(s\); this input has 2"):
        _small()(torch.zeros(1, 2, 16, 32, 32))


@pytest.mark.parametrize(("mode", "size"), [(0, (24, 32, 32)), (1, (12, 32, 32)), (2, (4, 32, 24)), (1, (0, 32, 32))])
def test_a_size_that_cannot_be_divided_is_refused(mode: int, size: tuple[int, int, int]) -> None:
    with pytest.raises(InputShapeError, match=f"in resolution mode {mode} the sides must be multiples of"):
        _small(resolution_mode=mode, input_size=size)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resolution_mode": 3}, "resolution mode is 3"),
        ({"feature_channels": (4, 4, 8)}, "feature_channels is .* 3 values; PCT-Net needs 5"),
        ({"depths": (2, 2)}, "depths is .* 2 values; PCT-Net needs 3"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _small(**settings)
