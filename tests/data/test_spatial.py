"""Patches read through flips and affine transforms, held against MONAI doing the same to a copy."""

from __future__ import annotations

import math

import monai.transforms as mt
import numpy as np
import pytest
import torch

from harness.data.settings import Affine, Flip
from harness.data.spatial import Motion, _rotation, draw_motion, read_image, read_label

SIZE = (14, 12, 10)
RNG = np.random.default_rng(5)
VOLUME = RNG.normal(size=(2, 40, 36, 30)).astype(np.float32)
LABEL = RNG.integers(0, 5, VOLUME.shape[1:]).astype(np.uint8)


def read(start, motion, volume=VOLUME, fill=(-1.0, -2.0)):
    image, label = np.empty((2, *SIZE), np.float32), np.empty(SIZE, np.int64)
    read_image(volume, fill, start, motion, image)
    read_label(LABEL, start, motion, label)
    return image, label


ROOM = 60
WIDE = np.stack([np.pad(v, ROOM, constant_values=f) for v, f in zip(VOLUME, (-1.0, -2.0), strict=True)])
WIDE_LABEL = np.pad(LABEL, ROOM)


def padded(start, margin=0):
    """Cut the patch, with a margin, from a generously padded copy of the volume."""
    box = tuple(slice(at + ROOM - margin, at + ROOM + n + margin) for at, n in zip(start, SIZE, strict=True))
    return WIDE[(slice(None), *box)], WIDE_LABEL[box]


STARTS = [(10, 9, 8), (0, 0, 0), (26, 24, 20), (-5, 3, -9), (35, -11, 25), (-20, 0, 0), (60, 0, 0)]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    "flips", [(False, False, False), (True, False, False), (False, True, True), (True, True, True)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_copies_and_mirror_images_equal_slicing(start, flips, dtype):
    image, label = read(start, Motion(flips), VOLUME.astype(dtype))
    expected, expected_label = padded(start)
    axes = [axis for axis, flip in enumerate(flips) if flip]
    expected = np.flip(expected, [1 + axis for axis in axes]).astype(dtype).astype(np.float32)
    assert np.array_equal(image, expected)
    assert np.array_equal(label, np.flip(expected_label, axes))


def test_every_finite_float16_is_read_as_itself():
    bits = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = bits[np.isfinite(bits)]
    volume = finite[: 63 * 1000].reshape(1, 63, 10, 100)
    rest = finite[63 * 1000 :].reshape(1, 1, 4, -1)
    for part in (volume, rest):
        out = np.empty(part.shape, np.float32)
        read_image(part, (0.0,), (0, 0, 0), Motion(), out)
        assert np.array_equal(out, part.astype(np.float32))
        assert np.array_equal(np.signbit(out), np.signbit(part))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("zoom", [0.8, 1.0, 1.3])
def test_affine_transforms_equal_monai(start, zoom):
    angles, shift = (0.3, -0.4, 0.2), (1.5, -2.0, 0.75)
    motion = Motion(matrix=_rotation(angles) / zoom, shift=shift)
    image, label = read(start, motion)

    # MONAI transforms a copy with a margin wide enough that its own border never shows.
    margin = 20
    wide, wide_label = padded(start, margin)
    rotated = np.linalg.solve(_rotation(angles), shift)  # MONAI shifts before it rotates
    options = {
        "rotate_params": angles,
        "translate_params": tuple(rotated),
        "scale_params": (1 / zoom,) * 3,
        "padding_mode": "zeros",
        "image_only": True,
    }
    expected = mt.Affine(mode="bilinear", **options)(torch.from_numpy(wide))
    expected_label = mt.Affine(mode="nearest", **options)(torch.from_numpy(wide_label[None].astype(np.float32)))
    middle = tuple(slice(margin, margin + n) for n in SIZE)
    assert np.abs(image - np.asarray(expected)[(slice(None), *middle)]).max() < 1e-4
    # a voxel that lies halfway between two may fall to either
    assert (label == np.asarray(expected_label)[0][middle]).mean() > 0.999


def test_what_turns_into_view_is_anatomy():
    turned = Motion(matrix=_rotation((0, 0, math.pi / 4)))
    image, label = read((13, 12, 10), turned)
    corner = np.array((13, 12, 10)) + (np.array(SIZE) - 1) / 2
    offset = _rotation((0, 0, math.pi / 4)) @ (-(np.array(SIZE) - 1) / 2)
    nearest = tuple(np.floor(corner + offset + 0.5).astype(int))
    assert label[0, 0, 0] == LABEL[nearest]
    assert (image != -1.0).all()


def test_motions_combine_in_the_order_in_which_they_are_given():
    flip = Motion((True, False, False))
    turn = Motion(matrix=_rotation((0.0, 0.0, 0.5)) / 1.1, shift=(1.0, 0.5, 0.0))
    start = (13, 12, 10)
    for first, second in ((flip, turn), (turn, flip)):
        combined, combined_label = read(start, first.after(second))
        large = np.empty((2, 40, 36, 30), np.float32)
        # The first is applied to the whole volume about the centre of the patch, the second to the patch.
        centre = [at - (n - m) / 2 for at, n, m in zip(start, large.shape[1:], SIZE, strict=True)]
        assert all(value == int(value) for value in centre)
        read_image(VOLUME, (-1.0, -2.0), tuple(int(value) for value in centre), first, large)
        inner = tuple((n - m) // 2 for n, m in zip(large.shape[1:], SIZE, strict=True))
        expected = np.empty((2, *SIZE), np.float32)
        read_image(large, (-1.0, -2.0), inner, second, expected)
        assert np.abs(combined - expected).max() < 1e-4
        assert combined_label.any()


def test_two_flips_of_one_axis_cancel():
    flip = Motion((True, True, False))
    assert flip.after(Motion((True, False, False))) == Motion((False, True, False))
    assert flip.after(flip).is_nothing


def test_flips_happen_per_axis_with_their_probability():
    rng = np.random.default_rng(0)
    transforms = [Flip(axes=(0, 2), probability=0.3)]
    flips = np.array([draw_motion(transforms, rng).flips for _ in range(2000)])
    assert flips.mean(axis=0) == pytest.approx([0.3, 0.0, 0.3], abs=0.05)
    assert np.logical_and(flips[:, 0], flips[:, 2]).mean() == pytest.approx(0.09, abs=0.03)


def test_affine_draws_stay_in_range_and_reach_its_ends():
    rng = np.random.default_rng(0)
    transform = Affine(probability=0.5, rotate=(10, 0, 20), zoom=(0.8, 1.25), translate=(3, 0, 1))
    motions = [draw_motion([transform], rng) for _ in range(2000)]
    drawn = [motion for motion in motions if not motion.is_nothing]
    assert len(drawn) == pytest.approx(1000, abs=120)
    zooms = np.array([1 / np.cbrt(np.linalg.det(motion.matrix)) for motion in drawn])
    assert zooms.min() == pytest.approx(0.8, abs=0.005)
    assert zooms.max() == pytest.approx(1.25, abs=0.005)
    assert (zooms > 1).mean() == pytest.approx(0.5, abs=0.08)
    shifts = np.abs([motion.shift for motion in drawn]).max(axis=0)
    assert shifts == pytest.approx((3, 0, 1), abs=0.02)
    # about axis 0, then 2: the first entry holds the cosine of the second angle alone
    second = [math.degrees(math.acos(motion.matrix[0, 0] * zoom)) for motion, zoom in zip(drawn, zooms, strict=True)]
    assert max(second) == pytest.approx(20, abs=0.2)
