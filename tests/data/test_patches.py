from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data import cache as cache_module
from harness.data.cache import Cache
from harness.data.patches import PatchSource
from harness.data.preprocessing import prepare
from harness.data.settings import Augmentation, IntensityRule, Patches, Preprocessing
from harness.errors import UserError

NOTHING = Augmentation()
EVERYTHING = Augmentation.model_validate(
    {
        "transforms": [
            {"name": "flip", "axes": [0, 1, 2]},
            {"name": "affine", "rotate": [15, 15, 15], "zoom": [0.8, 1.2], "translate": [2, 2, 2]},
            {"name": "scale_intensity"},
            {"name": "shift_intensity"},
            {"name": "gaussian_noise"},
            {"name": "gaussian_smooth"},
            {"name": "gamma"},
            {"name": "low_resolution"},
            {"_target_": "monai.transforms.RandBiasField", "prob": 0.5},
        ]
    }
)


@pytest.fixture
def cache(card, ct_scans, tmp_path):
    settings = Preprocessing(intensity=IntensityRule(rule="window", window=(-1000, 1000), to=(0.25, 1)))
    return prepare(card, ct_scans.cases, ct_scans.cases, settings, tmp_path / "cache")


def source(cache, ids=None, augmentation=NOTHING, seed=1, **settings):
    settings = Patches(**{"size": (12, 10, 8), "batch": 2, **settings})
    return PatchSource(cache, list(cache) if ids is None else ids, settings, augmentation, seed)


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_batch_has_the_promised_shapes_and_types(cache):
    batch = source(cache, batch=3).batch(0)
    assert batch["image"].shape == (3, 1, 12, 10, 8)
    assert batch["image"].dtype == torch.float32
    assert batch["label"].shape == (3, 1, 12, 10, 8)
    assert batch["label"].dtype == torch.int64


def test_a_batch_is_what_its_places_say(cache):
    patches = source(cache)
    for step in range(20):
        batch = patches.batch(step)
        for index, place in enumerate(patches.places(step)):
            case = cache.case(place.case)
            box = tuple(slice(at, at + n) for at, n in zip(place.start, (12, 10, 8), strict=True))
            assert np.array_equal(batch["image"][index, 0].numpy(), case.image[0][box].astype(np.float32))
            assert np.array_equal(batch["label"][index, 0].numpy(), case.label[box])


@pytest.mark.parametrize("augmentation", [NOTHING, EVERYTHING], ids=["plain", "augmented"])
def test_a_batch_depends_on_seed_and_step_alone(cache, augmentation):
    one, two = source(cache, augmentation=augmentation), source(cache, augmentation=augmentation)
    in_order = [one.batch(step) for step in range(12)]
    assert all(equal(two.batch(step), in_order[step]) for step in (11, 3, 7, 0, 7))
    assert not equal(in_order[0], in_order[1])
    assert not equal(source(cache, augmentation=augmentation, seed=2).batch(0), in_order[0])


def test_global_random_state_is_neither_used_nor_moved(cache):
    patches = source(cache, augmentation=EVERYTHING)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global generator is what this test is about
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # noqa: NPY002
    one = [patches.batch(step) for step in range(6)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert all(equal(patches.batch(step), one[step]) for step in range(6))


@pytest.mark.parametrize("augmentation", [NOTHING, EVERYTHING], ids=["plain", "augmented"])
def test_workers_and_resume_do_not_change_the_batches(cache, augmentation):
    patches = source(cache, augmentation=augmentation)
    alone = list(patches.loader(0, 12))
    assert len(alone) == 12
    for workers in (1, 3):
        assert all(equal(*pair) for pair in zip(patches.loader(0, 12, workers), alone, strict=True))
    resumed = list(source(cache, augmentation=augmentation).loader(7, 12, workers=2))
    assert all(equal(*pair) for pair in zip(resumed, alone[7:], strict=True))


def test_the_order_in_which_ids_are_given_does_not_matter(cache):
    ids = list(cache)
    assert equal(source(cache, ids).batch(5), source(cache, ids[::-1]).batch(5))


def test_every_case_is_used_once_before_any_is_used_again(cache):
    patches = source(cache, batch=5)
    rounds = [[place.case for place in patches.places(step)] for step in range(6)]
    assert all(sorted(one) == sorted(cache) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_several_patches_can_come_from_one_case(cache):
    places = [place for step in range(5) for place in source(cache, batch=4, per_case=2).places(step)]
    cases = [place.case for place in places]
    assert cases[::2] == cases[1::2]
    assert Counter(cases[:10:2]) == Counter(cache)
    assert places[0].start != places[1].start


def test_positive_patches_are_centred_on_a_class_drawn_before_the_voxel(cache):
    patches = source(cache, ids=["case0"], batch=300, positive_fraction=0.8)
    places = patches.places(0)
    drawn = Counter(place.centre_class for place in places)
    # 0.8 of 300, a third each for a class of 1296 voxels, one of 8 and one of 1: five standard deviations of room
    assert drawn[None] == pytest.approx(60, abs=35)
    for label_class in (1, 2, 3):
        assert drawn[label_class] == pytest.approx(80, abs=38)
    labels = patches.batch(0)["label"]
    for place, label in zip(places, labels, strict=True):
        if place.centre_class is not None:
            assert (label == place.centre_class).any()
        inside = all(
            0 <= at <= n - m for at, n, m in zip(place.start, cache.case("case0").label.shape, (12, 10, 8), strict=True)
        )
        assert inside


def test_uniform_corners_reach_both_ends_of_every_axis(cache):
    starts = np.array([place.start for place in source(cache, ids=["case0"], batch=800, positive_fraction=0).places(0)])
    room = np.array((30, 28, 20)) - (12, 10, 8)
    assert (starts.min(axis=0) == 0).all()
    assert (starts.max(axis=0) == room).all()
    assert np.abs(starts.mean(axis=0) - room / 2).max() < 5 * 6 / np.sqrt(800)


def test_a_case_without_foreground_gives_uniform_patches(cache):
    assert all(place.centre_class is None for place in source(cache, ids=["case4"], positive_fraction=1).places(0))


def test_a_volume_smaller_than_the_patch_is_padded_evenly_with_its_background(cache):
    patches = source(cache, ids=["case0"], size=(34, 28, 25))
    batch = patches.batch(0)
    case = cache.case("case0")
    assert patches.places(0)[0].start == (-2, 0, -2)
    inner = (slice(2, 32), slice(0, 28), slice(2, 22))
    assert np.array_equal(batch["image"][0, 0].numpy()[inner], case.image[0].astype(np.float32))
    assert np.array_equal(batch["label"][0, 0].numpy()[inner], case.label)
    outside = torch.ones(34, 28, 25, dtype=torch.bool)
    outside[inner] = False
    assert (batch["image"][0, 0][outside] == 0.25).all()
    assert (batch["label"][0, 0][outside] == 0).all()


def test_unlabelled_cases_give_images_alone(card, scans, tmp_path):
    scans.add("bare", np.arange(512, dtype=np.int16).reshape(8, 8, 8))
    cache = prepare(card, scans.cases, scans.cases, Preprocessing(), tmp_path / "cache")
    batch = source(cache, size=(4, 4, 4), augmentation=EVERYTHING).batch(0)
    assert batch.keys() == {"image"}


def test_channels_are_kept_apart(card, scans, tmp_path):
    image = np.stack([np.full((8, 8, 8), value, np.float32) for value in (1, 2, 3)], axis=-1)
    scans.add("three", image)
    cache = prepare(card, scans.cases, scans.cases, Preprocessing(), tmp_path / "cache")
    batch = source(cache, size=(4, 10, 4)).batch(0)["image"]
    assert batch.shape == (2, 3, 4, 10, 4)
    assert batch.mean(dim=(0, 2, 3, 4)).tolist() == [1, 2, 3]


def test_no_cases_and_unknown_cases_are_refused(cache):
    with pytest.raises(UserError, match="train part of this split is empty"):
        source(cache, ids=[])
    with pytest.raises(UserError, match="no prepared case called 'case9'"):
        source(cache, ids=["case9"])


def test_an_abandoned_loader_stops_its_threads(cache):
    import threading

    loader = source(cache).loader(0, 1000, workers=2)
    next(loader)
    loader.close()
    for thread in threading.enumerate():
        if thread.name.startswith("batches"):
            thread.join(timeout=10)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_an_error_in_a_worker_reaches_the_caller(cache):
    patches = source(cache)
    (cache.require("case0") / "spec.json").unlink()
    with pytest.raises(Exception, match="Delete that folder"):
        list(patches.loader(0, 10, workers=2))


def resident(folder):
    """Return the bytes of files below a folder that count as memory of this process, as the system says."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if line[0] in "0123456789abcdef" and "-" in line.split()[0]:
            inside = str(folder) in line
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) << 10
    return total


def test_pages_of_more_cases_than_may_be_held_are_let_go(cache, monkeypatch):
    one = max(cache.case(case).nbytes for case in cache)
    free = [source(cache, batch=4).batch(step) for step in range(6)]
    for case in cache:
        cache.case(case).image.sum()
    folder = cache.require(next(iter(cache))).parent
    held = resident(folder)
    assert held > 3 * one
    monkeypatch.setattr(cache_module, "_RESIDENT_BYTES", 2 * one)
    fresh = Cache({case: cache.require(case) for case in cache}, cache.label_values)
    cache._open.clear()
    cache._resident.clear()
    for step, batch in enumerate(free):
        again = source(fresh, batch=4).batch(step)
        assert all(torch.equal(again[key], batch[key]) for key in batch)
    for case in fresh:
        fresh.case(case).image.sum()
    assert 0 < resident(folder) <= 2 * one + (6 * len(cache) << 12)


def test_an_array_stays_readable_when_its_pages_are_let_go(cache):
    case = cache.case(next(iter(cache)))
    before = case.image.copy(), case.label.copy()
    case.let_go()
    np.testing.assert_array_equal(case.image, before[0])
    np.testing.assert_array_equal(case.label, before[1])
