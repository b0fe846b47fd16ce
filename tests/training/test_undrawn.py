"""Structures that nobody drew are ignored by the loss: no gradient from their scans, from the cache to the network."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.cards.library import dataset_card
from harness.data.check import check
from harness.data.layouts import find_cases
from harness.data.patches import PatchSource
from harness.data.preprocessing import prepare
from harness.data.settings import Augmentation, IntensityRule, Patches, Preprocessing
from harness.data.synthesis.writing import synthesize
from harness.training.objective import SegmentationLoss
from harness.training.regions import Regions
from harness.training.segmentation import SegmentationTask
from harness.training.settings import Loss

GENERATOR = torch.Generator().manual_seed(0)
SHAPE = (2, 4, 4, 4, 4)
DRAWN = torch.tensor([[True, True, True, True], [True, True, False, True]])


def labels(activation: str) -> Tensor:
    if activation == "sigmoid":
        return torch.randint(0, 2, SHAPE, generator=GENERATOR)
    found = torch.randint(0, 4, (2, 1, 4, 4, 4), generator=GENERATOR)
    found[1][found[1] == 2] = 0  # nobody drew class 2 in the second scan
    return found


def gradient(loss: SegmentationLoss, logits: Tensor, target: Tensor, drawn: Tensor | None) -> Tensor:
    logits = logits.clone().requires_grad_()
    value = loss(logits, target, drawn)
    assert math.isfinite(value.item())
    value.backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("weighting", ["uniform", "inverse_volume"])
def test_an_undrawn_class_gets_no_gradient(activation: str, batch_dice: bool, weighting: str) -> None:
    chosen = Loss.model_validate({"batch_dice": batch_dice, "dice_weighting": weighting})
    loss = SegmentationLoss(chosen, activation)  # type: ignore[arg-type]
    logits, target = torch.randn(SHAPE, generator=GENERATOR), labels(activation)
    found = gradient(loss, logits, target, DRAWN)
    assert (found[1, 2] == 0).all()
    assert found.isfinite().all()
    others = [(sample, channel) for sample in (0, 1) for channel in range(4) if (sample, channel) != (1, 2)]
    background = activation == "softmax" and not chosen.include_background and not chosen.cross_entropy
    assert all(found[place].any() for place in others if not (background and place[1] == 0))
    assert gradient(loss, logits, target, None)[1, 2].any()  # without the mask it would be taught to be absent


def test_what_it_answers_for_an_undrawn_class_changes_nothing() -> None:
    loss = SegmentationLoss(Loss(), "softmax")
    logits, target = torch.randn(SHAPE, generator=GENERATOR), labels("softmax")
    other = logits.clone()
    other[1, 2] += 7
    assert loss(other, target, DRAWN).item() == loss(logits, target, DRAWN).item()
    assert loss(other, target).item() != loss(logits, target).item()


def test_with_all_drawn_it_is_the_loss_without_a_mask() -> None:
    loss = SegmentationLoss(Loss(), "softmax")
    logits, target = torch.randn(SHAPE, generator=GENERATOR), labels("softmax")
    assert loss(logits, target, torch.ones(2, 4, dtype=torch.bool)).item() == loss(logits, target).item()


def test_coarse_scales_ignore_it_too() -> None:
    loss = SegmentationLoss(Loss(), "softmax")
    scales = [torch.randn((2, 4, n, n, n), generator=GENERATOR).requires_grad_() for n in (4, 2)]
    loss(scales, labels("softmax"), DRAWN).backward()
    for scale in scales:
        assert scale.grad is not None
        assert (scale.grad[1, 2] == 0).all()
        assert scale.grad[0, 2].any()


def test_from_a_missing_file_to_the_network(tmp_path: Path) -> None:
    """PDDCA without two of nine structures in one case: the output layer learns nothing about them from that case."""
    card, _ = dataset_card("pddca")
    ids = sorted({case for split in card.splits for part in split.parts.values() for case in part})
    synthesize("pddca", tmp_path / "x", ids=ids, cases=2, fault="missing-structure", shape=(24, 24, 24))
    cases = find_cases(card, tmp_path / "x")
    facts = check(card, cases).facts
    whole, partial = sorted(cases)
    settings = Preprocessing(intensity=IntensityRule(rule="zscore"))
    cache = prepare(card, cases, facts, settings, tmp_path / "cache")
    assert (cache.case(whole).undrawn, cache.case(partial).undrawn) == ((), (3, 9))

    network = nn.Conv3d(1, len(card.labels), 1)
    for case, undrawn in ((whole, []), (partial, [3, 9])):
        source = PatchSource(cache, [case], Patches(size=(16, 16, 16), batch=2), Augmentation(), seed=0)
        batch = source.batch(0)
        assert ("drawn" in batch) == bool(undrawn)
        network.zero_grad()
        SegmentationTask(source, SegmentationLoss(Loss(), "softmax"), lambda _: 0.0, 0).loss(network, batch).backward()
        assert network.bias is not None
        assert network.bias.grad is not None
        assert (network.bias.grad == 0).nonzero().flatten().tolist() == undrawn

    both = PatchSource(cache, [whole, partial], Patches(size=(16, 16, 16), batch=2), Augmentation(), seed=0)
    first = [place.case for place in both.places(0)]
    assert both.batch(0)["drawn"].all(dim=1).tolist() == [case == whole for case in first]


def test_a_region_with_an_undrawn_part_is_not_drawn() -> None:
    regions = Regions.of({"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}, (0, 1, 2, 4))
    classes = torch.tensor([[True] * 4, [True, True, False, True], [True, False, True, True]])
    assert regions.drawn(classes).tolist() == [[True] * 3, [False, True, True], [False, False, True]]
