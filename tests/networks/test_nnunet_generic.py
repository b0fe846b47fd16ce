"""nnU-Net v1: against MONAI's DynUNet with the same weights, for pools, kernels and classes of all sorts."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DynUNet

from harness.errors import UserError
from harness.networks.nnunet_generic import NNUNetGeneric

POOLS = [(2, 2, 2), (1, 2, 2), (2, 2, 1)]
KERNELS = [(1, 3, 3), (3, 3, 3), (3, 1, 3), (3, 3, 3)]


def _network(**changes: object) -> NNUNetGeneric:
    arguments = {"in_channels": 2, "num_classes": 4, "pool_kernels": POOLS, "conv_kernels": KERNELS}
    return NNUNetGeneric(**(arguments | {"base_features": 8, "max_features": 20} | changes))


def _as_dynunet(network: NNUNetGeneric) -> DynUNet:
    """MONAI's port of nnU-Net with our weights, matched by their place in the network.

    DynUNet has no convolution bias; ours is followed by an instance norm, which removes it.
    """
    widths = [8, 16, 20, 20]
    theirs = DynUNet(
        spatial_dims=3,
        in_channels=2,
        out_channels=4,
        kernel_size=KERNELS,
        strides=[(1, 1, 1), *POOLS],
        upsample_kernel_size=POOLS,
        filters=widths,
        norm_name=("INSTANCE", {"affine": True}),
    )

    def copy(block: torch.nn.Module, first: torch.nn.Module, second: torch.nn.Module) -> None:
        for number, ours in ((1, first), (2, second)):
            getattr(block, f"conv{number}").conv.weight.data.copy_(ours.conv.weight)
            getattr(block, f"norm{number}").load_state_dict(ours.instnorm.state_dict())

    context = [list(stage.blocks) for stage in list(network.conv_blocks_context)[:-1]]
    context.append([part.blocks[0] for part in network.conv_blocks_context[-1]])
    for block, (first, second) in zip(
        [theirs.input_block, *theirs.downsamples, theirs.bottleneck], context, strict=True
    ):
        copy(block, first, second)
    for up, tu, parts in zip(theirs.upsamples, network.tu, network.conv_blocks_localization, strict=True):
        up.transp_conv.conv.weight.data.copy_(tu.weight)
        copy(up.conv_block, parts[0].blocks[0], parts[1].blocks[0])
    theirs.output_block.conv.conv.weight.data.copy_(network.seg_outputs[-1].weight)
    torch.nn.init.zeros_(theirs.output_block.conv.conv.bias)
    return theirs


@pytest.mark.parametrize("size", [(16, 16, 16), (4, 24, 8)])
def test_equals_monais_dynunet(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours = _network().eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    theirs = _as_dynunet(ours).eval()
    volume = torch.randn(2, 2, *size)
    with torch.inference_mode():
        torch.testing.assert_close(ours(volume), theirs(volume), rtol=1e-4, atol=1e-4)


def test_deep_supervision_gives_every_scale_finest_first_and_only_in_training() -> None:
    network, volume = _network(deep_supervision=True), torch.randn(1, 2, 16, 16, 16)
    with torch.inference_mode():
        scales = network(volume)
        alone = network.eval()(volume)
        torch.testing.assert_close(scales[0], alone)
        torch.testing.assert_close(network.named_outputs(volume)["out_logits"], alone)
    assert [tuple(scale.shape) for scale in scales] == [(1, 4, 16, 16, 16), (1, 4, 8, 8, 8), (1, 4, 8, 4, 4)]


def test_only_the_coarser_heads_are_without_gradient() -> None:
    network = _network()
    network(torch.randn(2, 2, 16, 16, 16)).square().mean().backward()
    # A bias in front of an instance norm has no effect, so its gradient is rounding error: not tested.
    dead = {name for name, p in network.named_parameters() if p.grad is None}
    assert dead == {"seg_outputs.0.weight", "seg_outputs.1.weight"}


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 2, 16, 10, 16), "multiples of 4x8x4"),
        ((1, 2, 4, 8, 4), "not all equal"),
        ((1, 1, 16, 16, 16), "built for"),
        ((2, 16, 16, 16), "built for"),
    ],
)
def test_refuses_an_input_it_cannot_compute(shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        _network()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"conv_kernels": KERNELS[:3]}, "3 pool and 3 convolution"),
        ({"pool_kernels": [(2, 2)], "conv_kernels": None}, "three sides"),
        ({"conv_kernels": [(5, 5, 5)] * 4}, "sides 1 and 3"),
        ({"convs_per_stage": 1}, "at least two"),
        ({"pool_kernels": []}, "at least one"),
    ],
)
def test_refuses_kernels_that_do_not_fit(changes: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        _network(**changes)
