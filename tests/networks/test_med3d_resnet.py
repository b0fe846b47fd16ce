"""The Med3D encoder: against MONAI's ResNet corrected by hand, its shortcuts, shapes and refusals."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.networks.nets import resnet as monai_resnet
from torch import nn

from harness.errors import UserError
from harness.networks.med3d_resnet import PUBLISHED_SHORTCUT, Med3DResNet


def _randomise(network: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Give every entry, running statistics included, values that leave activations near unit size."""
    numbers = torch.Generator().manual_seed(seed)
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=numbers)
        elif value.ndim > 1:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=numbers)
        elif value.is_floating_point():
            value.normal_(1.0 if name.endswith("weight") else 0.0, 0.1, generator=numbers)
    return state


def _corrected_monai(depth: int) -> nn.Module:
    """MONAI's ResNet with layer3 and layer4 undone to stride 1 and dilated by 2 and 4."""
    network = getattr(monai_resnet, f"resnet{depth}")(
        spatial_dims=3,
        n_input_channels=1,
        conv1_t_size=7,
        conv1_t_stride=2,
        shortcut_type=PUBLISHED_SHORTCUT[depth],
        feed_forward=False,
        bias_downsample=False,
    )
    for stage, dilation in ((network.layer3, 2), (network.layer4, 4)):
        for module in stage.modules():
            if isinstance(module, nn.Conv3d):
                module.stride = (1, 1, 1)
                if module.kernel_size == (3, 3, 3):
                    module.dilation = module.padding = (dilation,) * 3
        if isinstance(stage[0].downsample, partial):
            stage[0].downsample = partial(stage[0].downsample, stride=1)
    return network


@pytest.mark.parametrize(("depth", "size"), [(10, (17, 40, 23)), (18, (32, 16, 24)), (50, (9, 15, 16))])
def test_equals_monais_resnet_with_the_strides_and_dilations_corrected(depth: int, size: tuple[int, ...]) -> None:
    ours = Med3DResNet(depth=depth, shortcut=PUBLISHED_SHORTCUT[depth]).eval()
    theirs = _corrected_monai(depth).eval()
    theirs.load_state_dict(_randomise(ours, seed=depth))
    volume = torch.randn((1, 1, *size), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = ours.features(volume)
        x = theirs.maxpool(theirs.act(theirs.bn1(theirs.conv1(volume))))
        torch.testing.assert_close(features["maxpool"], x)
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(theirs, name)(x)
            torch.testing.assert_close(features[name], x, rtol=1e-4, atol=1e-4 * float(x.std()))
    assert features["layer4"].shape[2:] == tuple(-(-side // 8) for side in size)


def test_the_authors_shortcut_a_lets_no_gradient_through_and_computes_the_same() -> None:
    network = Med3DResNet(depth=18, shortcut="A")
    nn.init.zeros_(network.layer2[0].bn2.weight)  # closes the other way through the block
    volume, answers, largest = torch.randn(1, 1, 16, 16, 24), [], []
    for gradient in (False, True):
        for stage in (network.layer2, network.layer3, network.layer4):
            stage[0].downsample.gradient = gradient
        network.zero_grad()
        answers.append(network(volume))
        answers[-1].sum().backward()
        largest.append(float(network.conv1.weight.grad.abs().max()))
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=0)
    assert largest[0] == 0 < largest[1]


@pytest.mark.parametrize("gradient", [False, True])
def test_the_choice_reaches_every_shortcut(gradient: bool) -> None:
    with torch.device("meta"):
        network = Med3DResNet(depth=34, shortcut="A", shortcut_gradient=gradient)
    assert [s[0].downsample.gradient for s in (network.layer2, network.layer3, network.layer4)] == [gradient] * 3
    assert network.layer1[0].downsample is None


def test_the_counts_of_the_published_backbones() -> None:
    with torch.device("meta"):
        found = {d: Med3DResNet(depth=d, shortcut=s) for d, s in PUBLISHED_SHORTCUT.items()}
    millions = {d: round(sum(p.numel() for p in n.parameters()) / 1e6, 3) for d, n in found.items()}
    assert millions == {10: 14.356, 18: 32.986, 34: 63.296, 50: 46.155, 101: 85.201, 152: 117.360, 200: 126.560}


def test_new_weights_are_kaiming_normal_fan_out() -> None:
    conv = Med3DResNet(depth=10, shortcut="B").layer4[0].conv1  # 256 to 512: fan in and fan out differ
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (512 * 27)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"depth": 42, "shortcut": "B"}, "published are 10, 18"), ({"depth": 10, "shortcut": "C"}, "shortcut type 'C'")],
)
def test_refuses_what_was_never_published(arguments: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Med3DResNet(**arguments)


@pytest.mark.parametrize("shape", [(1, 2, 16, 16, 16), (1, 16, 16, 16)])
def test_refuses_another_channel_count_by_name(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="Med3D ResNet-10"):
        Med3DResNet(depth=10, shortcut="B")(torch.zeros(shape))


def test_several_input_channels() -> None:
    network = Med3DResNet(depth=10, shortcut="B", in_channels=4).eval()
    assert network(torch.zeros(1, 4, 16, 16, 16)).shape == (1, 512, 2, 2, 2)
