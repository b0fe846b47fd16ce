"""FMUNet beside parity: other modes, sizes and class counts, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.networks.errors import InputShapeError
from harness.networks.fmunet import FMUNet


def _small(**settings: Any) -> FMUNet:
    torch.manual_seed(0)
    return FMUNet(**{"num_classes": 3, "feature_channels": (4, 4, 8, 8, 8), **settings})


@pytest.mark.parametrize(("mode", "size"), [(0, (16, 32, 48)), (1, (8, 32, 16)), (2, (12, 16, 32))])
def test_every_mode_computes_every_scale(mode: int, size: tuple[int, int, int]) -> None:
    network = _small(res_mode=mode, in_channels=2, num_classes=4).eval()
    with torch.inference_mode():
        x = torch.randn(2, 2, *size)
        outputs = network.named_outputs(x)
        torch.testing.assert_close(network(x), outputs["out0"])
    z, y, x_side = size
    depths = {0: (z, z // 2, z // 4, z // 8), 1: (z, z, z // 2, z // 4), 2: (z, z, z, z // 2)}[mode]
    for scale, depth in enumerate(depths):
        assert outputs[f"out{scale}"].shape == (2, 4, depth, y >> scale, x_side >> scale)
    assert outputs["bottleneck"].shape == (2, 8, depths[3] // 2, y // 16, x_side // 16)


def test_flat_modes_have_flat_kernels_where_the_authors_have_them() -> None:
    def flat(mode: int) -> set[str]:
        convolutions = (item for item in _small(res_mode=mode).named_modules() if isinstance(item[1], nn.Conv3d))
        return {re.sub(r"\.(conv_list|up|down|conv)\..*", "", n) for n, m in convolutions if m.kernel_size == (1, 3, 3)}

    first = {"project", "encoder.en_conv0", "encoder.down0", "decoder.upcat0", "decoder.de_conv0", "out_layers.0.2"}
    second = {"encoder.en_conv1", "encoder.down1", "decoder.upcat1", "decoder.de_conv1", "out_layers.1.2"}
    assert [flat(0), flat(1), flat(2)] == [set(), first, first | second]


def test_dropout_is_in_the_deep_levels_only() -> None:
    rates = {n: m.p for n, m in _small(dropout=0.3).named_modules() if isinstance(m, nn.Dropout)}
    assert len(rates) == 20
    assert {n for n, rate in rates.items() if rate == 0.0} == {n for n in rates if re.search(r"conv[01]\.", n)}
    assert set(rates.values()) == {0.0, 0.3}


def test_a_fresh_network_has_he_weights_and_no_bias() -> None:
    network = _small(feature_channels=(4, 4, 8, 8, 128))
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    assert all(not module.bias.any() for module in convolutions)
    widest = network.encoder.en_conv4.conv_list[0][3].weight
    assert widest.std().item() == pytest.approx((2 / (1 + 0.01**2) / (128 * 27)) ** 0.5, rel=0.01)


def test_deep_supervision_returns_four_scales_in_training_only() -> None:
    network = _small(deep_supervision=True)
    x = torch.randn(1, 1, 16, 32, 32)
    assert [tuple(out.shape[2:]) for out in network.train()(x)] == [(16, 32, 32), (8, 16, 16), (4, 8, 8), (2, 4, 4)]
    assert isinstance(network.eval()(x), Tensor)
    assert isinstance(_small().train()(x), Tensor)


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_exactly_the_unused_parameters_get_no_gradient(deep_supervision: bool) -> None:
    network = _small(deep_supervision=deep_supervision).train()
    outputs = network(torch.randn(2, 1, 16, 32, 32))
    sum(output.square().mean() for output in (outputs if deep_supervision else [outputs])).backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert without == set(network.unused_parameters())
    assert len(without) == (0 if deep_supervision else 12)


def test_each_volume_of_a_batch_is_computed_alone() -> None:
    network = _small().double().eval()  # instance norm of four voxels magnifies float32 noise
    x = torch.randn(3, 1, 16, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(network(x)[1:2], network(x[1:2]))


@pytest.mark.parametrize(("mode", "size"), [(0, (24, 32, 32)), (1, (12, 32, 32)), (2, (4, 32, 24)), (0, (0, 16, 16))])
def test_a_size_that_cannot_be_divided_is_refused(mode: int, size: tuple[int, int, int]) -> None:
    with pytest.raises(InputShapeError, match=f"with res_mode {mode} the sides must be multiples of"):
        _small(res_mode=mode)(torch.zeros(1, 1, *size))


@pytest.mark.parametrize("error", [UserError, ValueError])
@pytest.mark.parametrize(("mode", "size"), [(0, (16, 16, 16)), (1, (8, 16, 16)), (2, (4, 16, 16))])
def test_a_bottleneck_of_one_voxel_is_refused(mode: int, size: tuple[int, int, int], error: type[Exception]) -> None:
    with pytest.raises(error, match="to a single voxel"):
        _small(res_mode=mode).eval()(torch.zeros(1, 1, *size))


def test_other_axes_channels_and_settings_are_refused() -> None:
    with pytest.raises(InputShapeError, match="five axes; this input has 4"):
        _small()(torch.zeros(1, 16, 32, 32))
    with pytest.raises(InputShapeError, match=r"built for 1 input channel\(s\); this input has 3"):
        _small()(torch.zeros(1, 3, 16, 32, 32))
    with pytest.raises(ValueError, match="resolution mode is -1"):
        _small(res_mode=-1)
    with pytest.raises(ValueError, match="4 values; FMUNet needs 5"):
        _small(feature_channels=(4, 4, 8, 8))
