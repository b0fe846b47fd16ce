"""BrainSegFounder's views: turned in plane, blocks dropped within the budget, pasted from the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from harness.pretraining.contrastive import nt_xent
from harness.pretraining.corruption import RandBlockDrop, RandQuarterTurn, two_views


def seeded(transform, seed):
    return transform.set_random_state(state=np.random.RandomState(seed))


def test_quarter_turns_are_uniform_and_in_the_last_two_axes():
    volume = np.random.default_rng(0).random((2, 3, 5, 5), dtype=np.float32)
    transform = seeded(RandQuarterTurn(), 0)
    seen = []
    for _ in range(400):
        out, turns = transform(volume)
        seen.append(turns)
        np.testing.assert_array_equal(out, np.rot90(volume, turns, (2, 3)))
        np.testing.assert_array_equal(np.sort(out[:, 1], axis=None), np.sort(volume[:, 1], axis=None))
    assert np.allclose(np.bincount(seen, minlength=4) / 400, 0.25, atol=0.09)


def test_dropped_blocks_keep_to_the_budget_and_to_their_sizes():
    volume = np.full((1, 40, 40, 40), 5.0, np.float32)
    shares = []
    for seed in range(200):
        out = seeded(RandBlockDrop(), seed)(volume)
        dropped = out != 5
        shares.append(dropped.mean())
        assert out[dropped].size == 0 or (out[dropped].min() >= 0 and out[dropped].max() <= 1)
    assert np.all(volume == 5)
    assert max(shares) <= 0.3 + 0.25**3
    # uniform between 0 and 0.3, less what overlaps, more for the block that crosses the budget
    assert 0.12 < np.mean(shares) < 0.155
    assert min(shares) < 0.02


def test_one_block_is_between_a_twentieth_and_a_quarter_of_a_side():
    volume = np.full((1, 40, 60, 80), 5.0, np.float32)
    sides = []
    for seed in range(300):
        out = seeded(RandBlockDrop(most=1e-9), seed)(volume)
        where = np.argwhere(out[0] != 5)
        sides.append(np.ptp(where, axis=0) + 1)
        assert len(where) == np.prod(sides[-1])
    assert np.max(sides, axis=0).tolist() == [10, 15, 20]
    inner = np.array(sides)
    assert np.median(inner[:, 2]) > 8


def test_pasted_blocks_show_the_other_volume_at_the_same_place():
    own = np.zeros((2, 32, 32, 32), np.float32)
    other = 1 + np.random.default_rng(0).random((2, 32, 32, 32), dtype=np.float32)
    out = seeded(RandBlockDrop(), 1)(own, other)
    pasted = out != 0
    assert pasted.any()
    np.testing.assert_array_equal(out[pasted], other[pasted])
    np.testing.assert_array_equal(pasted[0], pasted[1])


def test_a_block_of_one_voxel_gives_no_nan():
    out = seeded(RandBlockDrop(smallest=0.01, largest=0.01), 0)(np.ones((1, 8, 8, 8), np.float32))
    assert np.all(np.isfinite(out))


def test_views_come_first_first_and_targets_are_only_turned():
    crops = [np.random.default_rng(n).random((1, 20, 20, 20), dtype=np.float32) for n in range(3)]
    images, targets, turns = two_views(crops, RandBlockDrop(), np.random.RandomState(0))
    assert len(images) == len(targets) == len(turns) == 6
    for n in range(6):
        np.testing.assert_array_equal(targets[n], np.rot90(crops[n % 3], turns[n], (2, 3)))
        assert 0 < (images[n] != targets[n]).mean() < 0.65
    assert not np.array_equal(images[0], images[3])


def test_nt_xent_of_known_embeddings():
    torch.manual_seed(0)
    rows = torch.randn(6, 8)
    unit = (rows / rows.norm(dim=1, keepdim=True)).double()
    expected = []
    for n in range(6):
        similar = {m: math.exp(float(unit[n] @ unit[m]) / 0.5) for m in range(6) if m != n}
        expected.append(-math.log(similar[(n + 3) % 6] / sum(similar.values())))
    assert nt_xent(rows, 0.5).item() == pytest.approx(sum(expected) / 6, rel=1e-5)
    assert nt_xent(torch.ones(8, 4)).item() == pytest.approx(math.log(7), rel=1e-5)
    apart = torch.eye(4).repeat(2, 1) * 3
    assert nt_xent(apart, 0.05) < 1e-3
