from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from harness.errors import UserError
from harness.records.cases import CaseRow
from harness.records.pictures import PREDICTION_COLOUR, REFERENCE_COLOUR, choose, hash_pictures, write_slices


def volumes(shape=(40, 30, 10)):
    image = np.zeros(shape, np.float32)
    reference = np.zeros(shape, np.uint8)
    reference[10:20, 8:18, 3:7] = 1
    return image, reference, np.roll(reference, 8, axis=0)


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def size(path):
    with Image.open(path) as picture:
        return picture.size


def count(picture, colour):
    return int((picture == np.array(colour)).all(axis=2).sum())


def test_both_outlines_are_drawn_in_their_colours(tmp_path):
    image, reference, prediction = volumes()
    path = write_slices(tmp_path, "best", image, reference, prediction, (1.0, 1.0, 3.0), (0, 1))
    assert path == tmp_path / "best.png"
    picture = pixels(path)[:-18]
    assert count(picture, REFERENCE_COLOUR) > 200
    assert count(picture, PREDICTION_COLOUR) > 100
    nothing = write_slices(tmp_path, "none", image, np.zeros_like(reference), np.zeros_like(reference), (1, 1, 3))
    assert count(pixels(nothing)[:-18], REFERENCE_COLOUR) == 0


def test_pixels_are_square_in_millimetres(tmp_path):
    """An axial slice of 40 x 30 mm, a coronal of 40 x 30 mm (10 slices of 3 mm) and a sagittal of 30 x 30 mm."""
    image, reference, prediction = volumes()
    assert size(write_slices(tmp_path, "x", image, reference, prediction, (1.0, 1.0, 3.0))) == (368, 138)
    tall = size(write_slices(tmp_path, "y", image, reference, prediction, (1.0, 1.0, 12.0)))
    assert tall[1] - 18 == pytest.approx(120 / 0.75, abs=1)


def test_the_slice_is_the_largest_cross_section(tmp_path):
    image = np.zeros((20, 20, 8), np.float32)
    reference = np.zeros(image.shape, np.uint8)
    reference[9:11, 9:11, 2:7] = 1
    reference[3:17, 3:17, 5] = 1
    image[..., 5] = 1.0  # bright only where the section is largest
    path = write_slices(tmp_path, "x", image, reference, np.zeros_like(reference), (1, 1, 1), (0, 1))
    axial = pixels(path)[:120, :120]
    assert (axial[2, 2] == 255).all()


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SAR", "PIR"])
def test_patients_lie_alike_whatever_the_axes_of_the_file(tmp_path, axcodes):
    """A volume that is bright to the patient's right, front and head looks the same from any storage order."""
    ras = np.zeros((12, 14, 16), np.float32)
    ras[8:, :, :] += 1
    ras[:, 10:, :] += 1
    ras[:, :, 13:] += 1
    label = np.zeros(ras.shape, np.uint8)
    label[5:7, 6:8, 7:9] = 1
    places = ["RL", "AP", "SI"]
    order = [next(i for i, pair in enumerate(places) if code in pair) for code in axcodes]
    flip = tuple(slice(None, None, 1 if code in "RAS" else -1) for code in axcodes)
    turned = [volume.transpose(order)[flip] for volume in (ras, label, label)]
    spacing = [(1.0, 1.5, 2.0)[i] for i in order]
    path = write_slices(tmp_path, axcodes, *turned, spacing, (0, 3), axcodes)
    expected = write_slices(tmp_path, "ras", ras, label, label, (1.0, 1.5, 2.0), (0, 3), "RAS")
    assert path.read_bytes() == expected.read_bytes()
    axial = pixels(expected)[:120, :60].mean(axis=2)
    assert axial[:, :10].mean() > axial[:, -10:].mean()  # the patient's right is on the left of the picture
    assert axial[20:30].mean() > axial[90:100].mean()  # the front is up


def test_the_same_picture_twice_is_the_same_bytes(tmp_path):
    a = write_slices(tmp_path / "a", "x", *volumes(), (1, 1, 3))
    b = write_slices(tmp_path / "b", "x", *volumes(), (1, 1, 3))
    assert a.read_bytes() == b.read_bytes()
    assert hash_pictures(tmp_path / "a") == hash_pictures(tmp_path / "b") != {}
    assert hash_pictures(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b/c", "…", ""])
def test_a_name_never_leaves_the_folder(tmp_path, name):
    path = write_slices(tmp_path / "slices", name, *volumes(), (1, 1, 3))
    assert path.parent == tmp_path / "slices"
    assert path.name.isascii()


def test_shapes_that_differ_are_refused(tmp_path):
    image, reference, prediction = volumes()
    with pytest.raises(UserError, match="one shape"):
        write_slices(tmp_path, "x", image, reference[1:], prediction, (1, 1, 1))
    assert list(tmp_path.iterdir()) == []


def test_a_constant_image_and_an_empty_case_can_be_drawn(tmp_path):
    image = np.full((5, 6, 7), -1000, np.int16)
    empty = np.zeros(image.shape, np.uint8)
    assert write_slices(tmp_path, "x", image, empty, empty, (1, 1, 1)).is_file()


def rows(**scores):
    return [
        CaseRow(case, 1, "x", "dice.hard.native.v1", value, None if value else "failed")
        for case, value in scores.items()
    ]


def test_best_median_and_worst():
    scores = rows(a=0.5, b=0.9, c=0.1, d=0.6, e=None)
    assert choose(scores, "dice.hard.native.v1") == {"best": "b", "worst": "c", "median": "a"}
    assert choose(scores, "dice.hard.native.v1", higher_is_better=False)["best"] == "c"
    assert choose(rows(a=0.5), "dice.hard.native.v1") == {"best": "a"}
    assert choose([], "dice.hard.native.v1") == {}
