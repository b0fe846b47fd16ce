"""The reference networks answer on the grid of the volume, for any channels and classes; they start from scratch."""

from __future__ import annotations

import pytest
import torch

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.library import model_card
from harness.errors import UserError


@pytest.mark.parametrize("name", ["unet", "unet_small", "segresnet"])
def test_logits_lie_on_the_grid(name: str) -> None:
    card, _ = model_card(f"baseline.{name}")
    built = build(card, Task("segmentation", 2, 3, (16, 32, 16)), {}, None)
    volume = torch.randn(1, 2, 16, 32, 16, generator=torch.Generator().manual_seed(0))
    assert built.network(volume).shape == (1, 3, 16, 32, 16)
    published = build(card, Task("published"), {}, None)
    assert sum(one.numel() for one in published.network.parameters()) == card.parameters
    assert card.checkpoint is None
    assert built.report is None


def test_what_it_cannot_do_is_said() -> None:
    card, _ = model_card("baseline.unet_small")
    with pytest.raises(UserError, match="no classification network"):
        build(card, Task("classification", 1, 2), {}, None)
    with pytest.raises(UserError, match="dropoot"):
        build(card, Task("segmentation", 1, 2), {"dropoot": 0.1}, None)
