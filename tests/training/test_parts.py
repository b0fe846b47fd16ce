"""Losses, schedules and optimisers: each against a value worked out by hand or by the library it wraps."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss
from torch.nn import functional as F

from harness.training.objective import SegmentationLoss
from harness.training.optim import lr_factor, make_optimizer
from harness.training.settings import Loss, Optimizer, Schedule

LOGITS = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
TARGET = torch.randint(0, 3, (2, 1, 4, 4, 4), generator=torch.Generator().manual_seed(1))


def test_the_sum_is_monais_dice_and_cross_entropy() -> None:
    ours = SegmentationLoss(Loss(dice=0.5, cross_entropy=2.0), "softmax")(LOGITS, TARGET)
    monais = DiceCELoss(include_background=False, softmax=True, to_onehot_y=True, lambda_dice=0.5, lambda_ce=2.0)
    assert ours.item() == pytest.approx(monais(LOGITS, TARGET).item(), rel=1e-6)


def test_regions_overlap_under_sigmoid() -> None:
    target = (LOGITS > 0.2).float()
    loss = SegmentationLoss(Loss(dice=0.0, cross_entropy=1.0), "sigmoid")(LOGITS, target)
    assert loss.item() == pytest.approx(F.binary_cross_entropy_with_logits(LOGITS, target).item())


def test_deep_supervision_halves_each_scale() -> None:
    coarse = LOGITS[:, :, ::2, ::2, ::2]
    loss = SegmentationLoss(Loss(dice=0.0), "softmax")
    fine = F.cross_entropy(LOGITS, TARGET[:, 0])
    small = F.cross_entropy(coarse, TARGET[:, 0, ::2, ::2, ::2])
    assert loss([LOGITS, coarse], TARGET).item() == pytest.approx(((fine + 0.5 * small) / 1.5).item(), rel=1e-6)


def test_half_precision_logits_are_compared_in_float32() -> None:
    loss = SegmentationLoss(Loss(), "softmax")(LOGITS.half(), TARGET)
    assert loss.dtype is torch.float32


def test_nothing_to_minimise_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to minimise"):
        Loss(dice=0, cross_entropy=0)


@pytest.mark.parametrize(
    ("schedule", "step", "wanted"),
    [
        (Schedule(name="constant"), 99, 1.0),
        (Schedule(name="cosine"), 0, 1.0),
        (Schedule(name="cosine"), 50, 0.5),
        (Schedule(name="cosine", final_fraction=0.2), 50, 0.6),
        (Schedule(name="poly", power=0.9), 50, 0.5**0.9),
        (Schedule(name="cosine", warmup_steps=10), 4, 0.5),
        (Schedule(name="cosine", warmup_steps=10), 55, (1 + math.cos(math.pi / 2)) / 2),
    ],
)
def test_schedules(schedule: Schedule, step: int, wanted: float) -> None:
    assert lr_factor(schedule, step, 100) == pytest.approx(wanted)


def test_frozen_parameters_are_left_out() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    network[0].requires_grad_(requires_grad=False)
    (group,) = make_optimizer(Optimizer(), network).param_groups
    assert len(group["params"]) == 2
