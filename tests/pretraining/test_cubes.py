"""Cubes come from where the rule allows, and from nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import UserError
from harness.pretraining.cubes import AUTHORS_RULE, Cubes, CubeSampler, LungContent
from harness.pretraining.randomness import sample_state
from harness.pretraining.volumes import Loaded, cut


def numbered(shape):
    return Loaded(np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape))


def test_corners_are_uniform_over_the_whole_volume():
    volume = numbered((14, 12, 11))
    sampler = CubeSampler({"v": volume}, ["v"], Cubes(size=(12, 10, 10)))
    starts = [sampler.draw(sample_state(0, "t", step)) for step in range(300)]
    assert {cube.start for cube in starts} == {(a, b, c) for a in range(3) for b in range(3) for c in range(2)}
    for cube in starts[:20]:
        a, b, c = cube.start
        np.testing.assert_array_equal(cube.data, volume.image[:, a : a + 12, b : b + 10, c : c + 10])


def test_small_volumes_are_padded_evenly_with_their_own_fill():
    image = np.ones((2, 10, 12, 10), np.float16)
    sampler = CubeSampler({"v": Loaded(image, fill=(-1.0, 0.25))}, ["v"], Cubes(size=(13, 12, 10)))
    cube = sampler.draw(sample_state(0, "t", 0))
    assert cube.start == (-2, 0, 0)
    assert cube.data.dtype == np.float32
    assert np.all(cube.data[0, :2] == -1)
    assert np.all(cube.data[1, 12:] == 0.25)
    assert np.all(cube.data[:, 2:12] == 1)


@pytest.mark.parametrize("start", [(-20, 0, 0), (0, 30, 0)])
def test_a_box_wholly_outside_is_all_fill(start):
    assert np.all(cut(np.ones((1, 10, 10, 10)), start, (5, 5, 5), (0.5,)) == 0.5)


def test_without_padding_small_volumes_are_skipped_and_said_so(volumes):
    sampler = CubeSampler(volumes, volumes, Cubes(size=(24, 24, 18), padding=False))
    assert sampler.usable == ("a", "b", "c")
    assert "no room" in sampler.skipped["small"]
    drawn = {sampler.draw(sample_state(1, "t", step)).case for step in range(40)}
    assert drawn == {"a", "b", "c"}


def test_authors_rule_finds_nothing_in_small_scans_and_names_the_way_out(volumes):
    with pytest.raises(UserError, match=r"30 slices, the rule asks for 96.*padding true"):
        CubeSampler({"a": volumes["a"]}, ["a"], AUTHORS_RULE)


def test_authors_rule_keeps_its_borders_and_takes_lung():
    image = np.full((1, 268, 266, 98), 0.05, np.float16)
    image[:, :, :, 58:] = 0.5
    sampler = CubeSampler({"v": Loaded(image)}, ["v"], AUTHORS_RULE)
    cubes = [sampler.draw(sample_state(0, "t", step)) for step in range(20)]
    for cube in cubes:
        assert all(100 <= at <= n - 164 for at, n in zip(cube.start[:2], image.shape[1:3], strict=True))
        # Corners 30 to 36 keep the border. From 30, 4 slices are dense and one is next to a dense one, 4.5 / 32 = 0.14;
        # from 31, 5.5 / 32 = 0.17 is too much.
        assert cube.start[2] == 30
    assert len({cube.start for cube in cubes}) > 5


def test_content_rule_counts_a_half_where_only_the_next_slice_is_dense():
    image = np.zeros((1, 10, 10, 21), np.float32)
    image[:, :, :, 10] = 1.0  # a cube over slices 0-9 ends just before it: mean 0.5 / 10
    rule = {"size": (10, 10, 10), "tries": 5}
    accepts = LungContent(largest_mean=0.05)
    refuses = LungContent(largest_mean=0.049)
    alone = {"v": Loaded(image[..., :11])}
    drawn = {
        CubeSampler(alone, ["v"], Cubes(**rule, content=accepts)).draw(sample_state(0, "t", s)).start for s in range(9)
    }
    assert drawn == {(0, 0, 0)}
    with pytest.raises(UserError, match="content rule accepted no cube"):
        CubeSampler(alone, ["v"], Cubes(**rule, content=refuses)).draw(sample_state(0, "t", 0))


def test_draws_depend_on_seed_purpose_step_and_sample_only():
    values = {
        (seed, purpose, step, sample): sample_state(seed, purpose, step, sample).random_sample()
        for seed in (0, 1)
        for purpose in ("train", "evaluate")
        for step in (0, 7)
        for sample in (0, 1)
    }
    assert len(set(values.values())) == len(values)
    assert values[1, "train", 7, 1] == sample_state(1, "train", 7, 1).random_sample()
