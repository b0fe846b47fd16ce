"""The page of a check: complete in itself, honest about bad cases, and its pictures the right way up."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from harness.cards.base import parse
from harness.cards.dataset import DatasetCard
from harness.data.case import Case
from harness.data.check import check
from harness.data.layouts import find_cases
from harness.data.nifti_writing import write_volume
from harness.data.page import thumbnail, write_page
from harness.data.synthetic import write
from harness.errors import HarnessError
from harness.grid import Grid, GridSpec


def page(card, folder):
    cases = find_cases(card, folder)
    report = check(card, cases)
    write_page(folder / "page.html", card, cases, report)
    return report, (folder / "page.html").read_text(encoding="utf-8")


def test_the_page_shows_every_case(tmp_path):
    report, text = page(write(tmp_path, cases=3), tmp_path)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == 3
    assert all(Image.open(io.BytesIO(base64.b64decode(picture))).size[1] == 160 for picture in pictures)
    assert report.fingerprint() in text
    assert "Nothing is wrong." in text
    assert "http" not in text  # nothing comes from elsewhere


def test_a_case_that_cannot_be_read_is_said_so(tmp_path):
    card = write(tmp_path, cases=3)
    path = tmp_path / "images/case001.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    _, text = page(card, tmp_path)
    assert text.count("<img") == 2
    assert '<td>case001<td colspan="6" class="error">cannot be read' in text
    assert '<li class="error">error: case case001: image' in text


def test_a_label_of_another_shape_is_reported_and_the_scan_drawn_without_it(tmp_path):
    card = write(tmp_path, cases=3)
    write_volume(tmp_path / "labels/case001.nii.gz", np.ones((3, 4, 5), np.uint8), Grid((3, 4, 5), np.eye(4)))
    _, text = page(card, tmp_path)
    assert text.count("<img") == 3
    assert '<li class="error">error: case case001: shape of case001.nii.gz' in text


def test_names_cannot_break_the_page(tmp_path):
    card = parse(DatasetCard, {**write(tmp_path, cases=3).model_dump(), "title": "<script>alert(1)</script>"}, "a test")
    for kind in ("images", "labels"):
        (tmp_path / kind / "case000.nii.gz").rename(tmp_path / kind / "<b>0.nii.gz")
    _, text = page(card, tmp_path)
    assert "<script>" not in text
    assert "<b>" not in text


def test_a_page_that_cannot_be_written_is_the_machine_s_fault(tmp_path):
    card = write(tmp_path, cases=3)
    (tmp_path / "file").write_text("a file where a folder is needed", encoding="utf-8")
    with pytest.raises(HarnessError):
        write_page(tmp_path / "file/page.html", card, {}, check(card, {}))


RAS = Grid((32, 32, 32), np.eye(4))


def slices(tmp_path, bright, labels=None, axcodes="RAS"):
    """Draw a thumbnail of a dark volume with one bright box, stored in any axis order; return its three pictures."""
    spec = GridSpec.plan(RAS, axcodes=axcodes)
    image = np.zeros(RAS.shape, np.int16)
    image[bright] = 100
    write_volume(tmp_path / "i.nii.gz", spec.apply(image, order="nearest", fill=0), spec.target)
    label = None
    if labels is not None:
        label = tmp_path / "l.nii.gz"
        write_volume(label, spec.apply(labels, order="nearest", fill=0), spec.target)
    picture = np.asarray(Image.open(io.BytesIO(thumbnail(Case("a", (tmp_path / "i.nii.gz",), label)))))
    return [picture[:, start : start + 160] for start in (0, 164, 328)]


def centre(picture):
    """Where the bright pixels of one slice lie: row and column, from 0 to 1."""
    return np.argwhere(picture.sum(axis=2) > 600).mean(axis=0) / 160


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SPL", "AIR"])
def test_right_is_on_the_left_front_is_up_and_head_is_up(tmp_path, axcodes):
    """A box at the patient's right, front and head, that reaches the middle planes by its own labels."""
    bright = np.s_[24:30, 22:28, 26:32]
    labels = np.zeros(RAS.shape, np.uint8)
    labels[26:28, 24:26, 28:30] = 1  # the slices go through here
    axial, coronal, sagittal = (centre(one) for one in slices(tmp_path, bright, labels, axcodes))
    np.testing.assert_allclose(axial, (1 - 25 / 32, 1 - 27 / 32), atol=0.02)  # row: front is up; column: right is left
    np.testing.assert_allclose(coronal, (1 - 29 / 32, 1 - 27 / 32), atol=0.02)  # row: head is up
    np.testing.assert_allclose(sagittal, (1 - 29 / 32, 1 - 25 / 32), atol=0.02)  # column: front is left


def test_labels_are_outlined_and_their_inside_stays_visible(tmp_path):
    labels = np.zeros(RAS.shape, np.uint8)
    labels[8:24, 8:24, 8:24] = 1
    for one in slices(tmp_path, np.s_[:], labels):
        coloured = (one == (86, 180, 233)).all(axis=2)
        assert coloured[80, 35:45].any()
        assert not coloured[60:100, 60:100].any()


def test_flat_voxels_are_made_square(tmp_path):
    image = np.random.default_rng(0).integers(0, 100, (40, 40, 10)).astype(np.int16)
    write_volume(tmp_path / "i.nii.gz", image, Grid(image.shape, np.diag([1, 1, 2.0, 1])))
    picture = np.asarray(Image.open(io.BytesIO(thumbnail(Case("a", (tmp_path / "i.nii.gz",), None)))))
    coronal = picture[:, 164:324].max(axis=(1, 2))
    assert np.flatnonzero(coronal).max() == 79  # 40 mm wide and 20 mm high: half of 160 pixels


def test_a_scan_of_nothing_but_nan_has_a_picture(tmp_path):
    write_volume(tmp_path / "i.nii.gz", np.full((8, 8, 8), np.nan, np.float32), Grid((8, 8, 8), np.eye(4)))
    assert thumbnail(Case("a", (tmp_path / "i.nii.gz",), None)).startswith(b"\x89PNG")
