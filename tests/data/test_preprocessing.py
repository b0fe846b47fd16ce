from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from harness.data.preprocessing import prepare, prepare_image
from harness.data.settings import IntensityRule, Preprocessing
from harness.errors import UserError
from harness.grid import Grid

CT_WINDOW = IntensityRule(rule="window", window=(-1000, 1000), to=(0, 1))


def window(values):
    return ((np.clip(values.astype(np.float64), -1000, 1000) + 1000) / 2000).astype(np.float64)


def stored_image(scan):
    import nibabel

    return np.asarray(nibabel.load(scan.images[0]).dataobj)


def stored_label(scan):
    import nibabel

    return np.asarray(nibabel.load(scan.label).dataobj)


def grid(shape, affine=None):
    affine = np.diag([1.5, 1.0, 2.0, 1.0]) if affine is None else affine
    return Grid(shape, tuple(tuple(row) for row in affine))


def test_a_window_is_mapped_within_the_stated_error_of_float16(card, ct_scans, tmp_path):
    cache = prepare(card, ct_scans.cases, ct_scans.cases, Preprocessing(intensity=CT_WINDOW), tmp_path / "cache")
    case = cache.case("case0")
    expected = window(stored_image(ct_scans.cases["case0"]))
    error = np.abs(case.image[0].astype(np.float64) - expected).max()
    assert case.image.dtype == np.float16
    assert 0 < error <= 2.5e-4
    assert case.fill == (0.0,)


def test_float32_is_kept_where_asked(card, ct_scans, tmp_path):
    settings = Preprocessing(intensity=CT_WINDOW, dtype="float32")
    cache = prepare(card, ct_scans.cases, ct_scans.cases, settings, tmp_path / "cache")
    image = cache.case("case0").image
    assert image.dtype == np.float32
    assert np.abs(image[0] - window(stored_image(ct_scans.cases["case0"]))).max() < 1e-6


def test_axes_follow_the_axcodes_and_labels_come_back_exactly(card, scans, tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(-1000, 1000, (11, 12, 13)).astype(np.int16)
    label = rng.integers(0, 4, image.shape).astype(np.uint8)
    lps = np.diag([-1.5, -1.0, 2.0, 1.0])
    scans.add("lps", image, label, lps)
    settings = Preprocessing(axcodes="SAR", intensity=CT_WINDOW, minimum_shape=(16, 8, 8), divisible_by=(1, 8, 8))
    case = prepare(card, scans.cases, scans.cases, settings, tmp_path / "cache").case("lps")

    assert case.image.shape == (1, 16, 16, 16)
    turned = window(image)[::-1, ::-1].transpose(2, 1, 0)
    inner = case.image[0, 1:14, 2:14, 2:13]
    assert np.abs(inner.astype(float) - turned).max() < 2.5e-4
    assert case.image[0].sum(dtype=float) == pytest.approx(inner.sum(dtype=float))
    assert np.array_equal(case.spec.restore(case.label, order="nearest", fill=0), label)


def test_spacing_is_per_axis_of_the_prepared_array(card, ct_scans, tmp_path):
    settings = Preprocessing(axcodes="SAR", spacing=(1.0, 2.0, 1.5))
    case = prepare(card, ct_scans.cases, ct_scans.cases, settings, tmp_path / "cache").case("case0")
    assert case.image.shape == (1, 40, 14, 30)
    assert case.spec.target.spacing == pytest.approx((1.0, 2.0, 1.5))


def test_statistics_are_those_of_the_scan_and_not_of_interpolated_values(scans):
    rng = np.random.default_rng(0)
    image = rng.normal(50, 20, (20, 20, 20)).astype(np.float32)
    settings = Preprocessing(spacing=(3.0, 3.0, 3.0), intensity=IntensityRule(rule="zscore"))
    prepared = prepare_image([image], grid(image.shape), settings)
    expected = (image - image.mean()) / image.std()
    assert prepared.fill[0] == pytest.approx(float(expected.min()), abs=1e-4)
    assert prepared.image.std() < 0.7  # interpolation has smoothed the noise, after it was divided by its own spread


@pytest.mark.parametrize(
    ("rule", "check"),
    [
        (IntensityRule(rule="minmax", to=(-1, 1)), lambda x, _: x.min() == -1 and x.max() == 1),
        (IntensityRule(rule="none"), lambda x, image: np.array_equal(x, image)),
        (IntensityRule(rule="zscore"), lambda x, _: abs(x.mean()) < 1e-4 and abs(x.std() - 1) < 1e-4),
        (
            IntensityRule(rule="zscore_nonzero"),
            lambda x, image: (
                (x[image == 0] == 0).all() and abs(x[image != 0].mean()) < 1e-4 and abs(x[image != 0].std() - 1) < 1e-4
            ),
        ),
        (
            IntensityRule(rule="zscore", percentiles=(10, 90)),
            lambda x, image: (x == x.max()).mean() > 0.09 and (x == x.min()).mean() > 0.09 and abs(x.mean()) < 1e-4,
        ),
        (
            IntensityRule(rule="zscore_nonzero", percentiles=(10, 90)),
            lambda x, image: (x[image == 0] == 0).all() and (x == x.max()).mean() > 0.04,
        ),
    ],
)
def test_intensity_rules(rule, check):
    rng = np.random.default_rng(3)
    image = rng.normal(100, 30, (16, 16, 16)).astype(np.float32)
    image[:8] = 0
    assert check(prepare_image([image], grid(image.shape), Preprocessing(intensity=rule)).image[0], image)


@pytest.mark.parametrize("rule", ["zscore", "zscore_nonzero", "minmax"])
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_volume_gives_finite_numbers(rule, value):
    image = np.full((4, 4, 4), value, np.float32)
    prepared = prepare_image([image], grid(image.shape), Preprocessing(intensity=IntensityRule(rule=rule)))
    assert (prepared.image == 0).all()


@pytest.mark.parametrize("spacing", ["native", (2.0, 2.0, 2.0), (0.7, 0.7, 0.7)])
def test_the_foreground_crop_keeps_everything_above_the_background(scans, spacing):
    image = np.zeros((30, 28, 26), np.int16)
    image[5:20, 6:9, 20:26] = 100
    settings = Preprocessing(foreground_crop=True, spacing=spacing)
    prepared = prepare_image([image], grid(image.shape), settings)
    whole = prepare_image([image], grid(image.shape), settings.model_copy(update={"foreground_crop": False}))
    assert prepared.image.sum() == pytest.approx(whole.image.sum(), rel=0.1)
    restored = prepared.spec.restore((prepared.image[0] > 0).astype(np.uint8), order="nearest", fill=0)
    assert (restored[image > 0]).mean() > 0.99
    if spacing == "native":
        assert prepared.image.shape == (1, 15, 3, 6)
    else:
        assert prepared.image.size < whole.image.size / 4


def test_a_volume_without_foreground_is_not_cropped():
    image = np.full((6, 6, 6), -1000, np.int16)
    prepared = prepare_image([image], grid(image.shape), Preprocessing(foreground_crop=True))
    assert prepared.image.shape == (1, 6, 6, 6)


def test_label_values_become_class_indices_and_the_cache_knows_the_values(card_with, scans, tmp_path):
    label = np.zeros((10, 10, 10), np.uint8)
    label[1:3], label[4:6], label[7:9] = 1, 2, 4
    scans.add("brats", np.ones(label.shape, np.float32), label)
    card = card_with({0: "background", 1: "NCR", 2: "ED", 4: "ET"})
    cache = prepare(card, scans.cases, scans.cases, Preprocessing(), tmp_path / "cache")
    case = cache.case("brats")
    assert cache.label_values == (0, 1, 2, 4)
    assert np.array_equal(np.asarray(cache.label_values)[case.label], label)
    assert sorted(case.foreground) == [1, 2, 3]
    assert np.array_equal(case.foreground[3], np.flatnonzero(label == 4))


def test_at_most_so_many_foreground_voxels_are_indexed_and_the_same_ones_each_time(card, ct_scans, tmp_path):
    settings = Preprocessing(foreground_voxels=50)
    one = prepare(card, ct_scans.cases, ct_scans.cases, settings, tmp_path / "one").case("case0")
    two = prepare(card, ct_scans.cases, ct_scans.cases, settings, tmp_path / "two").case("case0")
    assert {name: len(found) for name, found in one.foreground.items()} == {1: 50, 2: 8, 3: 1}
    assert (one.label.reshape(-1)[one.foreground[1]] == 1).all()
    assert np.array_equal(one.foreground[1], two.foreground[1])


def test_a_label_value_outside_the_card_is_refused_and_leaves_nothing(card, scans, tmp_path):
    label = np.zeros((6, 6, 6), np.uint8)
    label[0, 0, 0] = 9
    scans.add("odd", np.zeros((6, 6, 6), np.int16), label)
    with pytest.raises(UserError, match=r"odd_label.nii.gz has label values .*: 9; it lists 0, 1, 2, 3"):
        prepare(card, scans.cases, scans.cases, Preprocessing(), tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".npy" or ".tmp" in path.name]


def test_values_that_float16_cannot_hold_are_refused(card, scans, tmp_path):
    scans.add("counts", np.full((4, 4, 4), 70000, np.int32))
    with pytest.raises(UserError, match="70000 after preprocessing; float16 ends at 65504"):
        prepare(card, scans.cases, scans.cases, Preprocessing(), tmp_path / "cache")
    prepare(card, scans.cases, scans.cases, Preprocessing(dtype="float32"), tmp_path / "cache")


def test_four_dimensional_files_and_several_files_give_channels(card, scans, tmp_path):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(5, 6, 7, 2)).astype(np.float32)
    scans.add("four", image)
    settings = Preprocessing(dtype="float32")
    case = prepare(card, scans.cases, scans.cases, settings, tmp_path / "cache").case("four")
    assert np.array_equal(case.image, np.moveaxis(image, 3, 0))
    assert case.label is None
    assert not case.foreground

    parts = [scans.add(f"part{index}", image[..., index]) for index in range(2)]
    both = dataclasses.replace(parts[0], id="two", images=tuple(part.images[0] for part in parts))
    case = prepare(card, {"two": both}, {"two": both}, settings, tmp_path / "cache").case("two")
    assert np.array_equal(case.image, np.moveaxis(image, 3, 0))


def test_what_is_prepared_stays_and_only_what_changed_is_made_again(card, ct_scans, tmp_path):
    root, settings = tmp_path / "cache", Preprocessing(intensity=CT_WINDOW)

    def made():
        return {path: path.stat().st_mtime_ns for path in root.rglob("image.npy")}

    prepare(card, ct_scans.cases, ct_scans.cases, settings, root)
    before = made()
    assert len(before) == 5
    prepare(card, ct_scans.cases, ct_scans.cases, settings, root)
    assert made() == before

    ct_scans.add("case0", np.ones((9, 9, 9), np.int16), np.ones((9, 9, 9), np.uint8))
    cache = prepare(card, ct_scans.cases, ct_scans.cases, settings, root)
    assert before.items() <= made().items()
    assert len(made()) == 6
    assert cache.case("case0").image.shape == (1, 9, 9, 9)

    prepare(card, ct_scans.cases, ct_scans.cases, settings.model_copy(update={"divisible_by": (8, 8, 8)}), root)
    assert len(made()) == 11


def test_several_workers_make_the_same_files(card, ct_scans, tmp_path):
    settings = Preprocessing(intensity=CT_WINDOW)
    for workers in (1, 3):
        prepare(card, ct_scans.cases, ct_scans.cases, settings, tmp_path / str(workers), workers=workers)
    one, three = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.npy")}
        for name in ("1", "3")
    )
    assert len(one) == 15
    assert one == three


def test_an_unknown_case_is_named_with_the_nearest(card, ct_scans, tmp_path):
    cache = prepare(card, ct_scans.cases, ct_scans.cases, Preprocessing(), tmp_path / "cache")
    with pytest.raises(UserError, match="Did you mean 'case1'"):
        cache.case("cas1")


def test_open_files_do_not_grow_with_the_number_of_cases(card, scans, tmp_path):
    for index in range(100):
        scans.add(f"case{index}", np.full((4, 4, 4), index, np.int16), np.ones((4, 4, 4), np.uint8))
    cache = prepare(card, scans.cases, scans.cases, Preprocessing(), tmp_path / "cache")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for index in range(100):
        assert cache.case(f"case{index}").image[0, 0, 0, 0] == index
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 3 * 32


def test_a_damaged_cache_says_which_folder_to_delete(card, ct_scans, tmp_path):
    cache = prepare(card, ct_scans.cases, ct_scans.cases, Preprocessing(), tmp_path / "cache")
    image = cache.require("case0") / "image.npy"
    image.write_bytes(image.read_bytes()[:1000])
    with pytest.raises(Exception, match="Delete that folder") as caught:
        cache.case("case0")
    assert caught.value.exit_code == 1
