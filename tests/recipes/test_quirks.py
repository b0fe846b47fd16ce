"""The quirks of published recipes by name: an option, off by default, on in recipes that have it, with an effect."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.library import model_card
from harness.config import Protocol, run_config
from harness.data.augmentation import Augmenter
from harness.data.settings import Augmentation, ScaleIntensity
from harness.inference.settings import Inference
from harness.inference.sliding_window import predict_logits
from harness.inference.windows import Tiling
from harness.recording.shared import loss_words
from harness.resources import shipped
from harness.training.objective import SegmentationLoss
from harness.training.settings import Loss, Training

CELL = ["model=models_genesis.narrow8", "dataset=ct_headneck_oar", "init=scratch"]


@functools.cache
def protocol(name: str) -> Protocol:
    return run_config([*CELL, f"protocol={name}"]).protocol


@dataclass(frozen=True)
class Quirk:
    """How to see in a protocol whether the quirk is on, and which recipes have it."""

    is_on: Callable[[Protocol], bool]
    recipes: frozenset[str]


def flips(one: Protocol) -> list[tuple[int, ...]]:
    return [step.axes for step in one.augmentation.transforms if getattr(step, "name", "") == "flip"]


def normalises_patches(one: Protocol) -> bool:
    return any(getattr(step, "target", "").endswith(".NormalizeIntensity") for step in one.augmentation.transforms)


GENESIS = frozenset({"genesis_bms", "genesis_ecc", "genesis_lcs", "genesis_ncc", "genesis_ncs"})
QUIRKS = {
    "statistics of the batch, also in evaluation": Quirk(
        lambda one: one.network.get("models_genesis", {}).get("normalization") == "batch", GENESIS
    ),
    "a flip that never turns depth": Quirk(
        lambda one: bool(flips(one)) and 0 not in flips(one)[0], frozenset({"misfm_atriaseg", "pymic_lctsc"})
    ),
    "cross entropy of probabilities": Quirk(
        lambda one: one.training.loss.cross_entropy_of != "logits", frozenset({"misfm_atriaseg", "pymic_lctsc"})
    ),
    "border windows repeated": Quirk(
        lambda one: one.inference.repeat_border, frozenset({"misfm_atriaseg", "pymic_lctsc"})
    ),
    "z-score of the crop in training, of the scan in validation": Quirk(
        normalises_patches, frozenset({"misfm_atriaseg", "swin_unetr_brats21", "brainsegfounder_brats21"})
    ),
    "two formulas of Dice side by side": Quirk(
        lambda one: {"dice", "soft_dice"} <= set(one.scoring.metrics),
        frozenset({"genesis_bms", "genesis_lcs", "genesis_ncs", "swin_unetr_brats21", "brainsegfounder_brats21"}),
    ),
}


@pytest.mark.parametrize("name", QUIRKS)
def test_a_quirk_is_on_where_it_was_published_and_nowhere_else(name: str) -> None:
    every = [path.stem for path in (shipped("configs") / "protocol").glob("*.yaml")]
    found = {recipe for recipe in every if QUIRKS[name].is_on(protocol(recipe))}
    assert found == QUIRKS[name].recipes
    assert all(protocol(recipe).status != "ours" for recipe in found)


def test_every_quirk_is_off_by_default() -> None:
    assert Loss().cross_entropy_of == "logits"
    assert not Inference().repeat_border
    assert Augmentation().transforms == ()


def test_batch_statistics_change_an_answer_that_running_ones_do_not() -> None:
    card, _ = model_card("models_genesis.narrow8")
    volume = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    for normalization, differs in (("batch", True), ("running", False)):
        torch.manual_seed(0)
        network = build(card, Task("segmentation", 1, 2), {"normalization": normalization}, None).network.eval()
        with torch.no_grad():
            together, alone = network(volume)[:1], network(volume[:1])
        assert (float((together - alone).abs().max()) > 1e-3) == differs


def test_a_flip_of_two_axes_never_turns_the_first() -> None:
    still = ScaleIntensity(probability=0.0)  # what follows it is applied to the patch, not to where it is read
    for recipe, may_turn in (("misfm_atriaseg", False), ("swin_unetr_brats21", True)):
        flip = next(step for step in protocol(recipe).augmentation.transforms if getattr(step, "name", "") == "flip")
        augmenter = Augmenter(Augmentation(transforms=(still, flip)))
        turned = False
        for seed in range(30):
            patch = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
            augmenter.change(patch, None, [0.0], np.random.default_rng(seed))
            turned |= bool((patch[0, 0] >= 4).all())  # the second plane came first
        assert turned == may_turn


def test_the_cross_entropy_of_probabilities_can_give_nan() -> None:
    target = torch.zeros(1, 1, 1, 1, 2)

    def loss(gap: float, of: Any) -> float:
        logits = torch.tensor([gap, 0.0]).reshape(1, 2, 1, 1, 1).expand(1, 2, 1, 1, 2)
        return float(SegmentationLoss(Loss(dice=0.0, cross_entropy_of=of), "softmax")(logits, target))

    assert loss(3.0, "probabilities") == pytest.approx(loss(3.0, "logits"), rel=1e-5)
    assert math.isnan(loss(200.0, "probabilities"))
    assert loss(200.0, "logits") == 0
    assert loss(200.0, "softened_probabilities") == pytest.approx(-math.log(0.9995), rel=1e-3)
    assert loss(3.0, "softened_probabilities") != pytest.approx(loss(3.0, "logits"), rel=1e-4)
    words = loss_words(Training(steps=1, loss=Loss(cross_entropy_of="softened_probabilities")))
    assert words == "1 Dice + 1 cross entropy of softened probabilities"


def test_border_windows_are_repeated_and_count_twice() -> None:
    shape, patch = (88, 160, 256), (64, 128, 128)
    once, again = (Tiling.plan(shape, patch, 0.5, repeat_border=on) for on in (False, True))
    assert again.starts == ((0, 24, 24), (0, 32, 32), (0, 64, 128, 128))
    assert (len(once), len(again), len(set(again.windows()))) == (12, 36, 12)

    class Place(torch.nn.Module):
        """Answers with the first value of its window, so that which windows count how often shows."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, :1, :1, :1].expand_as(x).contiguous()

    volume = torch.arange(6.0).reshape(1, 6, 1, 1)
    settings = {"overlap": 0.5, "blending": "constant"}
    plain, quirk = (
        predict_logits(Place(), volume, Inference(**settings, repeat_border=on), (4, 1, 1), "cpu")[0, :, 0, 0].tolist()
        for on in (False, True)
    )
    assert plain == [0, 0, 1, 1, 2, 2]
    assert quirk == pytest.approx([0, 0, 4 / 3, 4 / 3, 2, 2])


def test_the_z_score_of_a_crop_is_not_that_of_the_scan() -> None:
    for recipe in ("misfm_atriaseg", "swin_unetr_brats21"):
        step = next(s for s in protocol(recipe).augmentation.transforms if hasattr(s, "target"))
        crop = np.arange(5, 45, 5, dtype=np.float32).reshape(1, 2, 2, 2)  # of a scan with mean 0 and deviation 1
        Augmenter(Augmentation(transforms=(step,))).change(crop, None, [0.0], np.random.default_rng(0))
        assert float(crop.mean()) == pytest.approx(0, abs=1e-5)
        assert float(crop.std()) == pytest.approx(1, abs=1e-4)
