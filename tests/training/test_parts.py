"""Losses, schedules and optimisers: each against a value worked out by hand or by the library it wraps."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, GeneralizedDiceLoss
from torch.nn import functional as F

from harness.training.objective import SegmentationLoss
from harness.training.optim import Plateau, lr_factor, make_optimizer, make_scheduler
from harness.training.settings import Loss, Optimizer, Schedule, Selection, Training

LOGITS = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
TARGET = torch.randint(0, 3, (2, 1, 4, 4, 4), generator=torch.Generator().manual_seed(1))


def test_the_sum_is_monais_dice_and_cross_entropy() -> None:
    ours = SegmentationLoss(Loss(dice=0.5, cross_entropy=2.0), "softmax")(LOGITS, TARGET)
    monais = DiceCELoss(include_background=False, softmax=True, to_onehot_y=True, lambda_dice=0.5, lambda_ce=2.0)
    assert ours.item() == pytest.approx(monais(LOGITS, TARGET).item(), rel=1e-6)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("squared", [False, True])
def test_every_form_of_dice_is_monais(background: bool, batch: bool, squared: bool) -> None:
    chosen = Loss(cross_entropy=0, include_background=background, batch_dice=batch, squared=squared, smooth=0.3)
    monais = DiceLoss(
        include_background=background,
        softmax=True,
        to_onehot_y=True,
        batch=batch,
        squared_pred=squared,
        smooth_nr=0.3,
        smooth_dr=0.3,
    )
    assert SegmentationLoss(chosen, "softmax")(LOGITS, TARGET).item() == pytest.approx(monais(LOGITS, TARGET).item())
    regions = (LOGITS > 0.2).float()
    monais = DiceLoss(sigmoid=True, batch=batch, squared_pred=squared, smooth_nr=0.3, smooth_dr=0.3)
    assert SegmentationLoss(chosen, "sigmoid")(LOGITS, regions).item() == pytest.approx(monais(LOGITS, regions).item())


@pytest.mark.parametrize("batch", [False, True])
def test_generalised_dice_is_monais_also_where_a_class_is_absent(batch: bool) -> None:
    target = TARGET.clamp(max=1)
    target[0] = 0
    chosen = Loss(cross_entropy=0, include_background=True, batch_dice=batch, dice_weighting="inverse_volume")
    monais = GeneralizedDiceLoss(include_background=True, softmax=True, to_onehot_y=True, batch=batch)
    ours = SegmentationLoss(chosen, "softmax")(LOGITS, target).item()
    assert ours == pytest.approx(monais(LOGITS, target).item(), rel=1e-4)


def test_shares_of_classes_on_a_coarse_grid() -> None:
    coarse = LOGITS[:, :, :2, :2, :2]
    loss = SegmentationLoss(Loss(dice=0, coarse_target="average"), "softmax")
    shares = F.avg_pool3d(F.one_hot(TARGET[:, 0], 3).movedim(-1, 1).float(), 2)
    by_hand = -(shares * coarse.log_softmax(1)).sum(1).mean()
    fine = F.cross_entropy(LOGITS, TARGET[:, 0])
    assert loss([LOGITS, coarse], TARGET).item() == pytest.approx(((fine + 0.5 * by_hand) / 1.5).item(), rel=1e-6)


def test_regions_overlap_under_sigmoid() -> None:
    target = (LOGITS > 0.2).float()
    loss = SegmentationLoss(Loss(dice=0.0, cross_entropy=1.0), "sigmoid")(LOGITS, target)
    assert loss.item() == pytest.approx(F.binary_cross_entropy_with_logits(LOGITS, target).item())


def test_foreground_voxels_weigh_more_and_the_mean_is_taken_over_weights() -> None:
    chosen = Loss(dice=0.0, cross_entropy=1.0, foreground_weight=8.0)
    per_voxel = F.cross_entropy(LOGITS, TARGET[:, 0], reduction="none")
    weights = torch.where(TARGET[:, 0] > 0, 8.0, 1.0)
    by_hand = (weights * per_voxel).sum() / weights.sum()
    assert SegmentationLoss(chosen, "softmax")(LOGITS, TARGET).item() == pytest.approx(by_hand.item(), rel=1e-6)

    target = (LOGITS > 0.2).float()
    per_voxel = F.binary_cross_entropy_with_logits(LOGITS, target, reduction="none")
    by_hand = (torch.where(target > 0, 8.0, 1.0) * per_voxel).mean()
    assert SegmentationLoss(chosen, "sigmoid")(LOGITS, target).item() == pytest.approx(by_hand.item(), rel=1e-6)


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
        (Schedule(name="step", step_size=40, gamma=0.5), 39, 1.0),
        (Schedule(name="step", step_size=40, gamma=0.5), 80, 0.25),
        (Schedule(name="step", step_size=10, gamma=0.1, final_fraction=0.05), 80, 0.05),
        # a rate that changes once per validation interval: the 2024 left-atrium recipe, 24 intervals in its 6,000 steps
        (Schedule(name="poly", power=0.8, hold=25), 49, 0.75**0.8),
        # an epoch of 2 steps, 10 epochs of warm-up that begin at nothing: epoch 3 has 3/9 of the rate
        (Schedule(name="cosine", warmup_steps=20, warmup_start="zero", hold=2), 7, 3 / 9),
        (Schedule(name="cosine", warmup_steps=20, warmup_start="zero", hold=2), 0, 0.0),
    ],
)
def test_schedules(schedule: Schedule, step: int, wanted: float) -> None:
    assert lr_factor(schedule, step, 100) == pytest.approx(wanted)


def test_frozen_parameters_are_left_out() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    network[0].requires_grad_(requires_grad=False)
    (group,) = make_optimizer(Optimizer(), network).param_groups
    assert len(group["params"]) == 2


def test_adams_numbers_reach_the_optimiser() -> None:
    (group,) = make_optimizer(Optimizer(name="adam", betas=(0.5, 0.9), eps=1e-7), torch.nn.Linear(2, 2)).param_groups
    assert (group["betas"], group["eps"], group["fused"]) == ((0.5, 0.9), 1e-7, True)


def test_a_plateau_lowers_the_rate_once_scores_stop_rising() -> None:
    settings = Schedule(name="plateau", patience=2, gamma=0.5, final_fraction=0.3)
    plateau, optimizer = Plateau(settings), make_optimizer(Optimizer(lr=1.0), torch.nn.Linear(2, 2))
    scheduler = make_scheduler(settings, optimizer, 100, plateau)
    rates = []
    for score in (0.1, 0.2, 0.2, 0.2, 0.5, 0.5, 0.5, 0.5, 0.5):
        plateau.saw(score)
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]
    again = Plateau(settings)
    again.load_state_dict(plateau.state_dict())
    assert again.state_dict() == plateau.state_dict()


def test_settings_that_follow_scores_need_scores() -> None:
    with pytest.raises(ValueError, match=r"needs selection\.rule"):
        Training(steps=1, schedule=Schedule(name="plateau"))
    with pytest.raises(ValueError, match="patience counts"):
        Selection(patience=3)
