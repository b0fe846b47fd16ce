"""Swin UNETR: against MONAI's own class in the two orders MONAI still has, and what holds for the third."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from monai.networks.nets import SwinUNETR as MonaiSwinUNETR
from torch import nn

from harness.errors import UserError
from harness.networks.swin_merging import MERGING_ORDERS, Merging, merging_layer
from harness.networks.swin_unetr import SwinSSL, SwinUNETR

SMALL = {"in_channels": 2, "out_channels": 3, "feature_size": 12, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 4, 8)}
PRETEXT = {key: value for key, value in SMALL.items() if key != "out_channels"}


def _eval(network: nn.Module, volume: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        out: torch.Tensor = network.eval()(volume)
    return out


@pytest.mark.parametrize(
    ("merging", "name", "size", "window"),
    [("v2", "mergingv2", (32, 64, 32), {}), ("monai_1_5", "merging", (64, 32, 32), {"window_size": 4})],
)
def test_equals_monais_own_network(merging: Merging, name: str, size: tuple[int, ...], window: dict) -> None:
    torch.manual_seed(0)
    ours = SwinUNETR(merging=merging, **SMALL, **window)
    theirs = MonaiSwinUNETR(downsample=name, **SMALL, **window)
    indices = {key: value for key, value in theirs.state_dict().items() if key.endswith("relative_position_index")}
    assert len(indices) == 5  # one for each block
    assert all(torch.equal(ours.state_dict()[key], value) for key, value in indices.items())
    theirs.load_state_dict(ours.state_dict())
    volume = torch.randn(1, 2, *size)
    torch.testing.assert_close(_eval(ours, volume), _eval(theirs, volume))


def test_the_orders_differ_from_each_other_in_the_output() -> None:
    torch.manual_seed(0)
    encoders = {merging: SwinUNETR(merging=merging, **SMALL).swinViT for merging in MERGING_ORDERS}
    for encoder in encoders.values():
        encoder.load_state_dict(encoders["legacy"].state_dict())
    volume = torch.randn(1, 2, 32, 32, 64)
    with torch.inference_mode():
        deepest = {merging: encoder.eval()(volume)[-1] for merging, encoder in encoders.items()}
    for one, other in (("legacy", "monai_1_5"), ("legacy", "v2"), ("monai_1_5", "v2")):
        assert float((deepest[one] - deepest[other]).abs().max()) > 0.05


@pytest.mark.parametrize("merging", MERGING_ORDERS)
def test_each_order_joins_the_sub_lattices_it_names(merging: Merging) -> None:
    layer = merging_layer(merging)(dim=1)
    layer.norm, layer.reduction = nn.Identity(), nn.Identity()
    i, j, k = torch.meshgrid(torch.arange(2), torch.arange(2), torch.arange(2), indexing="ij")
    block = (100 * i + 10 * j + k)[None, ..., None]
    joined = [f"{int(value):03d}" for value in layer(block).flatten()]
    assert joined == ["".join(map(str, octant)) for octant in MERGING_ORDERS[merging]]


def test_legacy_sees_two_sub_lattices_twice_and_two_never() -> None:
    seen = Counter(MERGING_ORDERS["legacy"])
    assert {octant for octant, times in seen.items() if times == 2} == {(0, 1, 0), (0, 0, 1)}
    assert set(MERGING_ORDERS["v2"]) - set(seen) == {(1, 1, 0), (0, 1, 1)}


def test_named_outputs_are_those_of_the_forward_pass() -> None:
    torch.manual_seed(0)
    network, volume = SwinUNETR(**SMALL).eval(), torch.randn(1, 2, 64, 32, 32)
    with torch.inference_mode():
        named = network.named_outputs(volume)
        torch.testing.assert_close(named["logits"], network(volume), rtol=0, atol=0)
    assert {name: tuple(value.shape) for name, value in named.items()} == {
        "hidden0": (1, 12, 32, 16, 16),
        "hidden1": (1, 24, 16, 8, 8),
        "hidden2": (1, 48, 8, 4, 4),
        "hidden3": (1, 96, 4, 2, 2),
        "hidden4": (1, 192, 2, 1, 1),
        "logits": (1, 3, 64, 32, 32),
    }
    assert not network.swinViT._forward_hooks


def test_the_pretext_network_gives_its_three_heads() -> None:
    torch.manual_seed(0)
    network, volume = SwinSSL(**PRETEXT).eval(), torch.randn(2, 2, 32, 32, 64)
    with torch.no_grad():
        named = network.named_outputs(volume)
        rotation, contrastive, reconstruction = network(volume)
    assert rotation.shape == (2, 4)
    assert contrastive.shape == (2, 512)
    assert reconstruction.shape == volume.shape
    with torch.no_grad():
        first, second = named["hidden4"].flatten(2)[:, :, :2].unbind(dim=2)
        torch.testing.assert_close(rotation, network.rotation_head(first))
        torch.testing.assert_close(contrastive, network.contrastive_head(second))


def test_the_transformer_is_shared_name_by_name() -> None:
    pretext, network = SwinSSL(**PRETEXT), SwinUNETR(**SMALL)
    encoder = {k: v.shape for k, v in network.state_dict().items() if k.startswith("swinViT.")}
    assert {k: v.shape for k, v in pretext.state_dict().items() if k.startswith("swinViT.")} == encoder


@pytest.mark.parametrize("kind", [SwinUNETR, SwinSSL])
def test_gradients_reach_every_parameter(kind: type[nn.Module]) -> None:
    _assert_all_alive(_after_backward(kind(**(SMALL if kind is SwinUNETR else PRETEXT))))


def test_checkpointing_changes_no_gradient() -> None:
    plain, checkpointed = (_after_backward(SwinSSL(gradient_checkpointing=on, **PRETEXT)) for on in (False, True))
    _assert_all_alive(checkpointed)
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def _after_backward(network: nn.Module) -> nn.Module:
    numbers = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.1, generator=numbers)
    out = network(torch.randn((1, 2, 64, 32, 32), generator=numbers))
    sum(part.square().mean() for part in (out if isinstance(out, tuple) else (out,))).backward()
    return network


def _assert_all_alive(network: nn.Module) -> None:
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


@pytest.mark.parametrize("kind", [SwinUNETR, SwinSSL])
@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 2, 64, 48, 64), "64x48x64: every side must be a multiple of 32"),
        ((1, 2, 32, 32, 32), "at least one more than 32"),
        ((1, 1, 64, 64, 64), r"built for \(batch, 2,"),
        ((2, 64, 64, 64), "missing axes"),
    ],
)
def test_refuses_an_input_it_cannot_compute(kind: type[nn.Module], shape: tuple[int, ...], says: str) -> None:
    network = kind(**(SMALL if kind is SwinUNETR else PRETEXT))
    with pytest.raises(UserError, match=says):
        network(torch.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"merging": "merging"}, "choose one of legacy, monai_1_5, v2"),
        ({"depths": (2, 2, 2)}, "4 stages"),
        ({"feature_size": 50}, "multiple of 12"),
        ({"num_heads": (5, 6, 12, 24)}, "5 heads do not divide"),
        ({"window_size": 1}, "nothing to attend to"),
    ],
)
def test_refuses_sizes_that_do_not_fit(changes: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        SwinUNETR(**(SMALL | changes))
