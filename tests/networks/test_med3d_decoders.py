"""Med3D's heads: full resolution for any size and class count, gradients everywhere, published encoder names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.errors import UserError
from harness.networks.med3d_decoders import Decoder, Med3DClassification, Med3DSegmentation
from harness.networks.med3d_resnet import Med3DResNet

DECODERS: list[Decoder] = ["conv_seg", "unet", "dense_aspp"]


def _network(decoder: Decoder, depth: int = 10, num_classes: int = 3) -> Med3DSegmentation:
    return Med3DSegmentation(
        depth=depth, shortcut="A" if depth == 18 else "B", num_classes=num_classes, decoder=decoder
    )


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("size", "num_classes"), [((32, 24, 16), 1), ((17, 31, 25), 5)])
def test_logits_lie_on_the_input_grid(decoder: Decoder, size: tuple[int, ...], num_classes: int) -> None:
    network = _network(decoder, num_classes=num_classes).eval()
    with torch.inference_mode():
        assert network(torch.randn(2, 1, *size)).shape == (2, num_classes, *size)


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_encoder_keeps_its_published_names(decoder: Decoder) -> None:
    with torch.device("meta"):
        encoder, network = Med3DResNet(depth=50, shortcut="B"), _network(decoder, depth=50)
    names = list(network.state_dict())
    published = list(encoder.state_dict())
    assert names[: len(published)] == published
    prefix = "conv_seg." if decoder == "conv_seg" else "decoder."
    assert all(name.startswith(prefix) for name in names[len(published) :])


@pytest.mark.parametrize(("decoder", "depth"), [("conv_seg", 10), ("dense_aspp", 10), ("unet", 18)])
def test_gradients_reach_every_parameter(decoder: Decoder, depth: int) -> None:
    torch.manual_seed(0)
    network = _network(decoder, depth)
    network(torch.randn(2, 1, 16, 16, 24)).square().mean().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_volume_does_not_depend_on_its_batch_in_evaluation(decoder: Decoder) -> None:
    torch.manual_seed(0)
    network, volumes = _network(decoder).eval(), torch.randn(2, 1, 20, 24, 16)
    with torch.inference_mode():
        together, alone = network(volumes), network(volumes[:1])
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-4 * float(alone.std()))


@pytest.mark.parametrize(
    ("decoder", "grid"), [("conv_seg", (8, 6, 4)), ("unet", (32, 24, 16)), ("dense_aspp", (4, 3, 2))]
)
def test_named_logits_are_the_heads_own(decoder: Decoder, grid: tuple[int, ...]) -> None:
    with torch.inference_mode():
        named = _network(decoder).eval().named_outputs(torch.randn(1, 1, 32, 24, 16))
    assert list(named) == ["maxpool", "layer1", "layer2", "layer3", "layer4", "logits"]
    assert named["logits"].shape[2:] == grid


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_head_is_not_blind_to_where_things_are(decoder: Decoder) -> None:
    """A bright block in one corner must move the logits of that corner most: no axis is swapped or flipped."""
    torch.manual_seed(0)
    network = _network(decoder).eval()
    empty, bright = torch.zeros(1, 1, 32, 48, 64), torch.zeros(1, 1, 32, 48, 64)
    bright[:, :, :16, -24:, :32] = 5.0
    with torch.inference_mode():
        change = (network(bright) - network(empty)).abs().sum(dim=1)[0]
    octants = {
        (i, j, k): float(change[i * 16 :, j * 24 :, k * 32 :][:16, :24, :32].mean())
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    }
    assert max(octants, key=lambda octant: octants[octant]) == (0, 1, 0)


def test_classification_pools_over_the_whole_volume() -> None:
    torch.manual_seed(0)
    network = Med3DClassification(depth=10, shortcut="B", num_classes=2).eval()
    volume = torch.randn(2, 1, 24, 17, 32)
    with torch.inference_mode():
        named = network.named_outputs(volume)
        logits: Tensor = network(volume)
    expected = named["layer4"].flatten(2).mean(dim=2) @ network.classifier.weight.T + network.classifier.bias
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(named["class_logits"], logits)


def test_an_unknown_decoder_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="'aspp'; choose one of conv_seg, unet, dense_aspp"):
        Med3DSegmentation(depth=10, shortcut="B", num_classes=2, decoder="aspp")
