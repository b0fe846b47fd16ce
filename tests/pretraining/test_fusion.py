"""Volume Fusion's transforms hold the published invariants, for both recipes."""

from __future__ import annotations

import numpy as np
import pytest

from harness.pretraining.fusion import RandContrast, RandFusionBlocks, RandFusionBoxes, RandZoomedCrop, mix

SIZE = (64, 128, 128)


def seeded(transform, seed):
    return transform.set_random_state(state=np.random.RandomState(seed))


def noise(shape, seed):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize("draw", [RandFusionBoxes, RandFusionBlocks])
@pytest.mark.parametrize("highest", [1, 4, 7])
def test_the_fused_volume_is_the_mixture_that_its_classes_say(draw, highest):
    foreground, background = noise((2, 30, 40, 50), 0), noise((2, 30, 40, 50), 1)
    classes = seeded(draw(highest), 3)((30, 40, 50))
    fused = mix(foreground, background, classes, highest)
    assert classes.dtype == np.uint8
    assert 0 in classes
    assert set(np.unique(classes)) <= set(range(highest + 1))
    assert classes.max() == highest or highest == 7  # so many classes need not all be drawn
    assert np.array_equal(fused[:, classes == 0], background[:, classes == 0])
    assert np.array_equal(fused[:, classes == highest], foreground[:, classes == highest])
    for k in range(highest + 1):
        here = (slice(None), classes == k)
        expected = k / highest * (foreground[here] - background[here])
        np.testing.assert_allclose(fused[here] - background[here], expected, atol=2e-7)


def test_boxes_later_ones_win_and_centres_reach_the_border():
    transform = seeded(RandFusionBoxes(4, boxes=(2, 2), smallest=(40, 40, 40), largest=(40, 40, 40)), 0)
    starts = []
    for _ in range(200):
        classes = transform((40, 40, 40))
        sizes = [(classes == k).sum() for k in range(1, 5)]
        assert sum(size > 0 for size in sizes) <= 2
        starts.append(classes[0, 0, 0])
    assert np.mean(np.array(starts) > 0) > 0.15  # a box inside the volume would have to start at 0 to cover the corner


def test_boxes_leave_the_published_share_of_background():
    transform = seeded(RandFusionBoxes(), 0)
    shares = [(transform(SIZE) == 0).mean() for _ in range(150)]
    assert 0.45 < np.mean(shares) < 0.51
    assert 0.09 < np.std(shares) < 0.17


def test_blocks_leave_the_published_share_of_background():
    transform = seeded(RandFusionBlocks(), 0)
    shares = [(transform(SIZE) == 0).mean() for _ in range(150)]
    assert 0.42 < np.mean(shares) < 0.46
    assert 0.04 < np.std(shares) < 0.08
    assert min(shares) > 0.29


def test_blocks_form_a_grid_with_an_exact_number_chosen():
    side, shape = (7, 9, 11), (30, 40, 50)
    for seed in range(30):
        classes = seeded(RandFusionBlocks(4, side, side), seed)(shape)
        grid = [n // b for n, b in zip(shape, side, strict=True)]
        spread = [n % b for n, b in zip(shape, side, strict=True)]
        found = []
        for offset in np.ndindex(*[n + 1 for n in spread]):
            inner = classes[tuple(slice(at, at + g * b) for at, g, b in zip(offset, grid, side, strict=True))]
            if inner.sum() != classes.sum():
                continue
            blocks = inner.reshape(grid[0], side[0], grid[1], side[1], grid[2], side[2]).transpose(0, 2, 4, 1, 3, 5)
            blocks = blocks.reshape(*grid, -1)
            if np.all(blocks == blocks[..., :1]):
                found.append(blocks[..., 0])
        assert len(found) == 1
        assert (found[0] > 0).sum() == int(0.7 * found[0].size)


def test_chosen_blocks_have_every_class_equally_often():
    transform = seeded(RandFusionBlocks(4, (4, 4, 4), (4, 4, 4)), 0)
    counts = np.bincount(np.concatenate([transform((40, 40, 40)).reshape(-1) for _ in range(20)]), minlength=5)[1:]
    assert np.allclose(counts / counts.sum(), 0.25, atol=0.012)


def test_blocks_larger_than_the_volume_are_cut_to_it():
    classes = seeded(RandFusionBlocks(4, (30, 30, 30), (30, 30, 30), share=1.0), 0)((10, 12, 14))
    assert len(np.unique(classes)) == 1
    assert classes[0, 0, 0] > 0


def test_zoomed_crop_is_linear_keeps_corners_and_stays_inside():
    ramp = np.stack(np.meshgrid(np.arange(40), np.arange(50), np.arange(60), indexing="ij")).astype(np.float32)
    seen_sides, flipped = [], []
    for seed in range(60):
        out = seeded(RandZoomedCrop((20, 24, 28)), seed)(ramp)
        assert out.shape == (3, 20, 24, 28)
        for axis in range(3):
            line = np.moveaxis(out[axis], axis, 0)
            assert np.ptp(line, axis=(1, 2)).max() < 1e-3  # axes do not mix
            steps = np.diff(line[:, 0, 0])
            assert np.allclose(steps, steps[0], atol=1e-3)  # linear
            first, last = sorted((line[0, 0, 0], line[-1, 0, 0]))
            assert first == pytest.approx(round(first), abs=1e-3)  # corner voxels are voxels of the scan
            assert 0 <= first < last <= ramp.shape[axis + 1] - 1 + 1e-3
            seen_sides.append((last - first + 1) / out.shape[axis + 1])
            flipped.append(steps[0] < 0)
    assert 0.68 < min(seen_sides) < 0.75
    assert 1.4 < max(seen_sides) < 1.52
    assert 0.4 < np.mean(flipped) < 0.6


def test_zoomed_crop_of_a_small_volume_takes_what_there_is():
    out = seeded(RandZoomedCrop((20, 20, 20), flip=0.0), 0)(np.arange(1000, dtype=np.float16).reshape(1, 10, 10, 10))
    assert out.shape == (1, 20, 20, 20)
    assert out.max() - out.min() <= 999


def test_contrast_spans_the_range_and_agrees_with_exact_percentiles():
    volume = np.random.default_rng(0).gamma(2.0, 1.0, (1, 32, 40, 40)).astype(np.float32) - 3
    for seed in range(10):
        out = seeded(RandContrast(), seed)(volume)
        assert (out.min(), out.max()) == (0, 1)
        random = np.random.RandomState(seed)
        percentiles, gamma = (random.uniform(0.1, 2), random.uniform(98, 99.9)), random.uniform(0.7, 1.5)
        v0, v1 = np.percentile(volume, percentiles)
        expected = np.interp(volume, [volume.min(), v0, v1, volume.max()], [0, 0.1, 0.9, 1]) ** gamma
        # one voxel of rank, and a 1/65536 of the range, is what the fast percentiles may be off by
        np.testing.assert_allclose(out, expected, atol=2e-3)


def test_contrast_of_degenerate_volumes_is_defined():
    assert np.array_equal(seeded(RandContrast(), 0)(np.full((1, 4, 4, 4), 7.0, np.float32)), np.zeros((1, 4, 4, 4)))
    air = np.zeros((1, 10, 10, 10), np.float32)
    air[0, 0, 0, :3] = 0.2, 0.5, 1.0
    out = seeded(RandContrast(), 0)(air)
    assert np.all(np.isfinite(out))
    assert (out[air == 0] == 0).all()
    assert out.max() == 1
