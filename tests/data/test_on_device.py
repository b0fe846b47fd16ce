"""Augmentation on the device: drawn per sample on the host, the same arithmetic as on the host, noise without state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.data.appearance import CHANGES
from harness.data.on_device import augment, draw
from harness.data.patches import PatchSource
from harness.data.preprocessing import prepare
from harness.data.settings import (
    Augmentation,
    Flip,
    Gamma,
    GaussianNoise,
    IntensityRule,
    Patches,
    Preprocessing,
    ScaleIntensity,
    ShiftIntensity,
)

ALL = (
    Flip(axes=(0, 2)),
    ScaleIntensity(probability=0.5),
    ShiftIntensity(probability=0.5),
    GaussianNoise(probability=0.5, std=0.2),
    Gamma(probability=0.5),
)


def image(count=2):
    return torch.rand(count, 2, 6, 5, 4, generator=torch.Generator().manual_seed(0)) - 0.3


def applied(transforms, rows, picture, **more):
    return augment(transforms, {"image": picture, "augment": torch.tensor(rows, dtype=torch.float64), **more})


class Given:
    """A generator that draws what it is told, so that the host's transform gets the device's number."""

    def __init__(self, number):
        self.number = number

    def uniform(self, *_):
        return self.number


@pytest.mark.parametrize("transform", [ScaleIntensity(), ShiftIntensity(), Gamma()])
def test_a_value_changes_as_on_the_host(transform):
    number = 0.07 if not isinstance(transform, Gamma) else 1.4
    column = 1 + number if isinstance(transform, ScaleIntensity) else number
    found = applied([transform], [[column], [column]], image())["image"]
    for one, original in zip(found, image(), strict=True):
        expected = original.numpy().copy()
        CHANGES[type(transform)](transform, expected, Given(number))
        assert np.allclose(one.numpy(), expected, atol=1e-6)


def test_each_sample_is_flipped_by_itself_and_its_label_with_it():
    label = torch.arange(2 * 120).reshape(2, 1, 6, 5, 4)
    found = applied([Flip(axes=(0, 1, 2))], [[1, 0, 0], [0, 1, 1]], image(), label=label)
    assert "augment" not in found
    for name, original in (("image", image()), ("label", label)):
        assert torch.equal(found[name][0], original[0].flip(1))
        assert torch.equal(found[name][1], original[1].flip(2, 3))


def test_noise_is_normal_and_every_sample_has_its_own():
    noise = applied([GaussianNoise()], [[2.0, 7], [2.0, 8], [2.0, 7], [0.0, 9]], torch.zeros(4, 1, 40, 40, 40))["image"]
    assert torch.equal(noise[0], noise[2])
    assert noise[3].abs().max() == 0
    values = noise[0].flatten() / 2
    assert values.mean().abs() < 0.01
    assert values.std() == pytest.approx(1, abs=0.01)
    assert (values.pow(4).mean() / 3).item() == pytest.approx(1, abs=0.05)
    for other in (noise[1].flatten() / 2, values.roll(1), values.roll(40)):
        assert abs(torch.corrcoef(torch.stack([values, other]))[0, 1]) < 0.02


def test_a_constant_patch_survives_gamma():
    assert torch.equal(
        applied([Gamma()], [[1.3]], torch.full((1, 1, 2, 2, 2), 0.5))["image"].unique(), torch.tensor([0.5])
    )


def test_what_is_not_drawn_changes_nothing():
    never = [transform.model_copy(update={"probability": 0.0}) for transform in ALL]
    rows = [draw(never, np.random.default_rng(seed)) for seed in range(2)]
    assert torch.equal(applied(never, rows, image())["image"], image())


def test_draws_have_the_chances_and_ranges_of_the_settings():
    rows = np.array([draw(ALL, np.random.default_rng(seed)) for seed in range(2000)])
    assert rows[:, [0, 2]].mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.05)
    assert rows[:, 1].max() == 0  # not opted in
    for column, neutral, (low, high) in ((3, 1, (0.9, 1.1)), (4, 0, (-0.1, 0.1)), (5, 0, (0, 0.2)), (7, 1, (0.7, 1.5))):
        changed = rows[rows[:, column] != neutral, column]
        assert len(changed) / len(rows) == pytest.approx(0.5, abs=0.05)
        assert low <= changed.min() < changed.max() <= high
        assert changed.max() - changed.min() > 0.9 * (high - low)


def test_workers_and_parts_draw_the_same(card, ct_scans, tmp_path):
    settings = Preprocessing(intensity=IntensityRule(rule="window", window=(-1000, 1000), to=(0, 1)))
    cache = prepare(card, ct_scans.cases, ct_scans.cases, settings, tmp_path / "cache")
    source = PatchSource(cache, list(cache), Patches(size=(12, 10, 8), batch=4), Augmentation(device=ALL), 3)
    whole = [source.augment(batch) for batch in source.loader(0, 3, workers=0)]
    ahead = [source.augment(batch) for batch in source.loader(0, 3, workers=2)]
    parts = [[source.augment(source.batch(step, part=(n, 2))) for n in range(2)] for step in range(3)]
    for one, other, halves in zip(whole, ahead, parts, strict=True):
        for name, tensor in one.items():
            assert torch.equal(tensor, other[name])
            assert torch.equal(tensor, torch.cat([half[name] for half in halves]))
    plain = PatchSource(cache, list(cache), Patches(size=(12, 10, 8), batch=4), Augmentation(), 3).batch(0)
    assert not torch.equal(plain["image"], whole[0]["image"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_device_does_not_matter():
    rows = [draw(ALL, np.random.default_rng(seed)) for seed in range(2)]
    numbers = torch.tensor(rows, dtype=torch.float64)
    host = augment(ALL, {"image": image(), "augment": numbers})["image"]
    device = augment(ALL, {"image": image().cuda(), "augment": numbers.cuda()})["image"].cpu()
    assert torch.allclose(host, device, atol=1e-5)
