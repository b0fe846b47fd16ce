"""Changes of values held against the MONAI transform of the same name with the same parameters."""

from __future__ import annotations

import monai.transforms as mt
import numpy as np
import pytest
import torch

from harness.data.appearance import CHANGES, blur, change_gamma, lower_resolution
from harness.data.settings import Gamma, GaussianNoise, GaussianSmooth, LowResolution, ScaleIntensity, ShiftIntensity


@pytest.fixture
def image():
    return np.random.default_rng(1).normal(size=(2, 24, 20, 16)).astype(np.float32)


def monai(transform, image):
    return np.asarray(transform(torch.from_numpy(image.copy())))


@pytest.mark.parametrize("sigma", [(0.5, 1.0, 0.7), (2.0, 0.25, 1.0), (0.05, 0.05, 0.05)])
def test_blur_equals_monai_away_from_the_edges(image, sigma):
    expected = monai(mt.GaussianSmooth(sigma=sigma), image)
    reach = tuple(slice(int(4 * s + 0.5) or 1, -(int(4 * s + 0.5) or 1)) for s in sigma)
    blur(image, list(sigma))
    # MONAI does not normalise its weights: they sum to 0.99994
    assert np.abs(image - expected)[(slice(None), *reach)].max() < 3e-4


def test_blur_keeps_a_constant_up_to_the_edges():
    flat = np.full((1, 9, 5, 3), 3.0, np.float32)
    blur(flat, [1.5, 3.0, 0.5])
    assert np.abs(flat - 3).max() < 1e-5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blur_of_one_axis_leaves_the_others(axis):
    point = np.zeros((1, 9, 9, 9), np.float32)
    point[0, 4, 4, 4] = 1
    sigma = [0.0, 0.0, 0.0]
    sigma[axis] = 1.0
    blur(point, sigma)
    profile = point[0].sum(axis=tuple(other for other in range(3) if other != axis))
    assert (point > 0).sum() == (profile > 0).sum() == 9
    assert profile == pytest.approx(profile[::-1])
    assert profile.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.7, 1.0, 1.5])
def test_gamma_equals_monai(image, gamma):
    expected = monai(mt.AdjustContrast(gamma), image)
    change_gamma(image, gamma)
    assert np.abs(image - expected).max() < 1e-4


def test_gamma_leaves_a_constant_patch():
    flat = np.full((1, 4, 4, 4), -2.0, np.float32)
    change_gamma(flat, 0.5)
    assert (flat == -2).all()


@pytest.mark.parametrize("zoom", [0.5, 0.61, 1.0, 0.01])
def test_low_resolution_equals_monai(image, zoom):
    transform = mt.RandSimulateLowResolution(prob=1.0, zoom_range=(zoom, zoom))
    expected = monai(transform, image)
    lower_resolution(image, zoom)
    assert np.abs(image - expected).max() < 1e-5


def change(transform, image, seed=0):
    changed = image.copy()
    CHANGES[type(transform)](transform, changed, np.random.default_rng(seed))
    return changed


def test_scale_and_shift_are_drawn_from_their_range(image):
    factors = [(change(ScaleIntensity(factors=(-0.2, 0.3)), image, s) / image).mean() for s in range(300)]
    offsets = [(change(ShiftIntensity(offsets=(-0.5, 0.1)), image, s) - image).mean() for s in range(300)]
    assert min(factors) == pytest.approx(0.8, abs=0.02)
    assert max(factors) == pytest.approx(1.3, abs=0.02)
    assert min(offsets) == pytest.approx(-0.5, abs=0.02)
    assert max(offsets) == pytest.approx(0.1, abs=0.02)


def test_noise_has_no_mean_and_a_deviation_up_to_the_given_one(image):
    noise = [change(GaussianNoise(std=0.4), image, seed) - image for seed in range(100)]
    deviations = [part.std() for part in noise]
    assert max(deviations) == pytest.approx(0.4, abs=0.03)
    assert min(deviations) < 0.05
    assert abs(np.mean(noise)) < 0.005
    assert noise[0].std() > 0
    assert not np.array_equal(noise[0], noise[1])


@pytest.mark.parametrize(
    "transform", [GaussianSmooth(sigma=(0.5, 1)), Gamma(), LowResolution(), GaussianNoise(), ScaleIntensity()]
)
def test_equal_generators_give_equal_patches(image, transform):
    assert np.array_equal(change(transform, image, 3), change(transform, image, 3))
    assert not np.array_equal(change(transform, image, 3), change(transform, image, 4))
