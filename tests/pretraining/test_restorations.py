"""The four restorations hold the published invariants, at the published size and others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.errors import UserError
from harness.pretraining.restorations import (
    RandBezierIntensity,
    RandLocalShuffle,
    RandPainting,
    RandRepeatedFlip,
)

PUBLISHED = (1, 64, 64, 32)
SIZES = [PUBLISHED, (1, 48, 48, 32), (2, 10, 17, 33)]
ALL = [RandRepeatedFlip, RandLocalShuffle, RandBezierIntensity, RandPainting]


def distinct(shape):
    """A volume in [0, 1] in which every value tells where it came from."""
    return (np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32)


def seeded(transform, seed):
    return transform.set_random_state(state=np.random.RandomState(seed))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("shape", SIZES)
def test_answer_is_new_seeded_and_of_the_given_type(kind, shape):
    volume = distinct(shape)
    before = volume.copy()
    first, again = (seeded(kind(prob=1.0), 3)(volume) for _ in range(2))
    assert first.shape == shape
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, seeded(kind(prob=1.0), 4)(volume))
    np.testing.assert_array_equal(volume, before)
    tensor = seeded(kind(prob=1.0), 3)(torch.from_numpy(volume))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), first)


@pytest.mark.parametrize("kind", ALL)
def test_probability_zero_changes_nothing(kind):
    volume = distinct((1, 20, 20, 20))
    np.testing.assert_array_equal(seeded(kind(prob=0.0), 0)(volume), volume)


@pytest.mark.parametrize("kind", ALL)
def test_sides_under_ten_voxels_are_refused(kind):
    with pytest.raises(UserError, match=r"\(1, 9, 64, 32\)"):
        kind(prob=1.0)(np.zeros((1, 9, 64, 32), np.float32))


def test_flip_never_touches_the_last_axis_and_can_be_repeated_on_the_target():
    volume = distinct((1, 12, 13, 14))
    allowed = {
        volume.tobytes(),
        volume[:, ::-1].tobytes(),
        volume[:, :, ::-1].tobytes(),
        volume[:, ::-1, ::-1].tobytes(),
    }
    seen, counts = set(), []
    for seed in range(400):
        flip = seeded(RandRepeatedFlip(), seed)
        out = flip(volume)
        seen.add(out.tobytes())
        counts.append(len(flip._drawn))
        np.testing.assert_array_equal(flip(volume, randomize=False), out)
    assert seen == allowed
    # 0.6, 0.4*0.6, 0.4^2*0.6, 0.4^3 of the draws flip 0, 1, 2, 3 times; 4 standard errors
    expected = np.array([0.6, 0.24, 0.096, 0.064])
    frequency = np.bincount(counts, minlength=4) / 400
    assert np.all(np.abs(frequency - expected) < 4 * np.sqrt(expected / 400))


@pytest.mark.parametrize("shape", SIZES)
def test_shuffling_moves_each_value_less_than_a_tenth_of_the_side(shape):
    volume = distinct(shape)
    out = seeded(RandLocalShuffle(prob=1.0), 1)(volume)
    place = {value: at for at, value in np.ndenumerate(volume)}
    came_from = np.array([place[value] for value in out.reshape(-1)])  # KeyError: a value that was not there
    went_to = np.array(list(np.ndindex(shape)))
    distance = np.abs(came_from - went_to).max(axis=0)
    assert distance[0] == 0
    for moved, side in zip(distance[1:], shape[1:], strict=True):
        assert moved == side // 10 - 1
    if shape == PUBLISHED:
        assert distance.tolist() == [0, 5, 5, 2]
        assert 0.76 < (out != volume).mean() < 0.80
        assert len(np.unique(out)) < out.size  # the multiset is not kept: windows read the original, and overlap


def test_shuffling_writes_a_permutation_of_the_original_window_and_later_windows_win(monkeypatch):
    volume = distinct((1, 40, 40, 40))
    first, second = np.array([[2, 3, 4], [3, 3, 4]])
    sides = np.array([[4, 3, 2], [4, 3, 2]])
    monkeypatch.setattr(RandLocalShuffle, "draw_windows", lambda self, shape: (np.array([first, second]), sides))
    out = seeded(RandLocalShuffle(prob=1.0, windows=2), 0)(volume)
    window = (0, slice(3, 7), slice(3, 6), slice(4, 6))
    assert sorted(out[window].reshape(-1)) == sorted(volume[window].reshape(-1))
    rest = (0, slice(2, 3), slice(3, 6), slice(4, 6))
    assert set(out[rest].reshape(-1)) <= set(volume[0, 2:6, 3:6, 4:6].reshape(-1))
    untouched = np.ones(volume.shape, bool)
    untouched[0, 2:7, 3:6, 4:6] = False
    np.testing.assert_array_equal(out[untouched], volume[untouched])


def test_every_permutation_of_a_window_is_equally_likely(monkeypatch):
    volume = distinct((1, 40, 10, 10))
    one = (np.array([[5, 5, 5]]), np.array([[3, 1, 1]]))
    monkeypatch.setattr(RandLocalShuffle, "draw_windows", lambda self, shape: one)
    draws = 1200
    orders = [tuple(seeded(RandLocalShuffle(1.0, 1), seed)(volume)[0, 5:8, 5, 5]) for seed in range(draws)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 6
    chi_square = ((counts - draws / 6) ** 2 / (draws / 6)).sum()
    assert chi_square < 20.5  # 0.1 % level, 5 degrees of freedom


def test_windows_cover_sides_and_corners_uniformly():
    transform = seeded(RandLocalShuffle(), 0)
    corners, sides = transform.draw_windows((64, 64, 32))
    assert sides.min(axis=0).tolist() == [1, 1, 1]
    assert sides.max(axis=0).tolist() == [6, 6, 3]
    assert corners.min() == 0
    assert (corners + sides).max(axis=0).tolist() == [64, 64, 32]
    assert np.allclose(np.bincount(sides[:, 0])[1:] / 10_000, 1 / 6, atol=0.015)


def test_bezier_agrees_with_the_published_way_of_drawing_it():
    volume = np.random.default_rng(1).random((1, 32, 32, 32), dtype=np.float32)
    volume[0, 0, 0, :3] = 0, 1, 0.5
    falling = 0
    for seed in range(40):
        transform = seeded(RandBezierIntensity(prob=1.0), seed)
        out = transform(volume)
        xs, ys = transform.curve(points=100_000)
        np.testing.assert_allclose(out, np.interp(volume, xs, ys), atol=2e-5)
        order = np.argsort(volume.reshape(-1))
        mapped = out.reshape(-1)[order]
        falling += transform._falling
        steps = np.diff(mapped) * (-1 if transform._falling else 1)
        assert steps.min() > -1e-6
        assert (out[0, 0, 0, 0], out[0, 0, 0, 1]) == ((1, 0) if transform._falling else (0, 1))
    assert 8 < falling < 32


def test_bezier_answers_values_beyond_the_range_with_the_end_points():
    volume = np.linspace(-1, 2, 1000, dtype=np.float32).reshape(1, 10, 10, 10)
    out = seeded(RandBezierIntensity(prob=1.0), 0)(volume)
    assert set(out[volume <= 0]) | set(out[volume >= 1]) == {0.0, 1.0}


@pytest.mark.parametrize("shape", SIZES)
def test_painting_stays_inside_the_rim(shape):
    volume = np.full(shape, 2.0, np.float32)  # noise lies in [0, 1), so 2 marks what was kept
    rim = np.ones(shape, bool)
    rim[:, 3:-3, 3:-3, 3:-3] = False
    if min(shape[1:]) >= 14:
        assert np.all(seeded(RandPainting(1.0, inside=1.0), 5)(volume)[rim] == 2)
        assert np.all(seeded(RandPainting(1.0, inside=0.0), 5)(volume)[rim] < 1)
    for seed in range(20):
        kept = seeded(RandPainting(1.0, inside=0.0), seed)(volume) == 2
        assert 0 < kept.mean() < 1


def test_painting_replaces_the_published_shares():
    volume = np.full(PUBLISHED, 2.0, np.float32)
    inside = [(seeded(RandPainting(1.0, inside=1.0), seed)(volume) != 2).mean() for seed in range(300)]
    outside = [(seeded(RandPainting(1.0, inside=0.0), seed)(volume) == 2).mean() for seed in range(300)]
    assert 0.052 < np.mean(inside) < 0.058
    assert max(inside) < 0.1
    assert min(inside) == 0  # one in twenty in-paintings draws no block at all
    assert 0.31 < np.mean(outside) < 0.35
    assert 0.05 < np.std(outside) < 0.08
    mixed = [(seeded(RandPainting(), seed)(volume) == 2).mean() for seed in range(600)]
    assert abs(np.mean([share < 0.7 for share in mixed]) - 0.72) < 0.075
    assert abs(np.mean([share == 1 for share in mixed]) - (0.10 + 0.18 * 0.05)) < 0.05


def test_noise_is_uniform_and_fresh_in_every_voxel():
    out = seeded(RandPainting(1.0, inside=0.0), 0)(np.full(PUBLISHED, 2.0, np.float32))
    noise = out[out != 2]
    assert len(np.unique(noise)) > 0.99 * noise.size
    assert np.allclose(np.histogram(noise, bins=10, range=(0, 1))[0] / noise.size, 0.1, atol=0.01)
