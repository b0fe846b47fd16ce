"""Activation checkpointing changes memory and time, and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import nn

from harness.errors import UserError
from harness.networks.genesis_unet import GenesisUNet
from harness.training.activations import blocks, recomputed


def gradients(network: nn.Module, wanted: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    with recomputed(network, wanted):
        for _ in range(2):
            network(torch.randn(2, 1, 16, 16, 16)).square().mean().backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return {**found, **{name: buffer.clone() for name, buffer in network.named_buffers()}}


@pytest.mark.parametrize("normalization", ["batch", "running"])
def test_gradients_and_statistics_are_the_same(normalization: str) -> None:
    plain = GenesisUNet(1, 2, 2, normalization).train()  # type: ignore[arg-type]
    saving = copy.deepcopy(plain)
    names = list(saving.state_dict())
    expected, found = gradients(plain, wanted=False), gradients(saving, wanted=True)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert list(saving.state_dict()) == names
    assert not any("forward" in vars(module) for module in saving.modules())


def test_less_is_kept_between_the_passes() -> None:
    network = GenesisUNet(1, 2, 4, "running").train()

    def kept(wanted: bool) -> int:
        held: list[int] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t)
        with recomputed(network, wanted), hooks:
            network(torch.randn(1, 1, 16, 16, 16))
        return sum(held)

    # what checkpoint itself keeps, the blocks' inputs, passes by these hooks: they count what is inside the blocks
    assert kept(wanted=True) < kept(wanted=False) / 3


def test_random_layers_draw_the_same_again() -> None:
    block = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8))
    network = nn.Sequential(block, nn.Linear(8, 1))
    grads = []
    for wanted in (False, True):
        torch.manual_seed(0)
        network.zero_grad()
        with recomputed(network, wanted):
            network(torch.ones(4, 8)).sum().backward()
        grads.append(block[0].weight.grad.clone())
    assert torch.equal(*grads)


def test_the_blocks_of_a_transformer_are_found_one_by_one() -> None:
    network = SwinUNETR(in_channels=1, out_channels=2, feature_size=12)
    kinds = [type(block).__name__ for block in blocks(network)]
    assert kinds.count("SwinTransformerBlock") == 8
    assert "SwinTransformer" not in kinds


def test_a_network_without_blocks_is_refused() -> None:
    with (
        pytest.raises(UserError, match="made of blocks, and Sequential is made of single layers"),
        recomputed(nn.Sequential(nn.Linear(2, 2)), wanted=True),
    ):
        pass
