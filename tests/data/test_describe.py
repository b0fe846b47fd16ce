"""A file is described as nibabel sees it, and one that cannot be read is refused."""

from __future__ import annotations

import json
from collections import Counter

import nibabel
import numpy as np
import pytest

from harness.data.describe import describe
from harness.errors import UserError

AFFINE = np.array([[0, -1.2, 0, 5], [0.9, 0, 0.1, 6], [0, 0, 3.0, 7], [0, 0, 0, 1]])


def save(path, data, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def scan(dtype=np.int16):
    return np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(dtype)


def test_a_scan(tmp_path):
    path = save(tmp_path / "x.nii.gz", scan())
    image = nibabel.load(path)
    canonical = nibabel.as_closest_canonical(image)
    found = json.loads(json.dumps(describe(path), allow_nan=False))
    assert found["path"] == str(path)
    assert (found["shape"], found["dtype"]) == ([4, 5, 6], "int16")
    np.testing.assert_allclose(found["spacing"], image.header.get_zooms(), rtol=1e-6)
    assert found["orientation"] == "".join(nibabel.aff2axcodes(image.affine)) == "ALS"
    np.testing.assert_array_equal(found["affine"], image.affine)
    assert tuple(found["canonical_shape"]) == canonical.shape == (5, 4, 6)
    assert (found["min"], found["max"], found["non_finite"]) == (scan().min(), scan().max(), 0)
    assert found["mean"] == pytest.approx(scan().mean())
    assert (found["qform_code"], found["sform_code"]) == (0, 2)
    assert found["header"]["affine_from"] == "sform"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_labels_are_counted_whatever_their_type(tmp_path, dtype):
    labels = np.random.default_rng(0).integers(0, 4, (4, 5, 6))
    found = describe(save(tmp_path / "x.nii.gz", labels.astype(dtype)))
    assert found["label_counts"] == {str(value): count for value, count in Counter(labels.ravel().tolist()).items()}


@pytest.mark.parametrize("kind", ["many values", "fractions", "fractions in the last plane"])
def test_scans_have_no_label_counts(tmp_path, kind):
    data = np.arange(4 * 5 * 60).reshape(4, 5, 60).astype(np.int32)
    if kind != "many values":
        data = np.zeros((4, 5, 60), np.float32)
        data[0, 0, 0 if kind == "fractions" else -1] = 0.25
    assert describe(save(tmp_path / "x.nii.gz", data))["label_counts"] is None


def test_voxels_that_are_no_numbers_are_counted_and_left_out(tmp_path):
    data = scan(np.float32)
    data[0, 0, :2] = np.nan, np.inf
    found = describe(save(tmp_path / "x.nii.gz", data))
    rest = data[np.isfinite(data)]
    assert (found["non_finite"], found["min"], found["max"]) == (2, rest.min(), rest.max())
    assert found["mean"] == pytest.approx(rest.mean(dtype=float))
    assert found["label_counts"] is None


def test_nothing_but_nan(tmp_path):
    found = describe(save(tmp_path / "x.nii.gz", np.full((2, 2, 2), np.nan, np.float32)))
    assert (found["min"], found["max"], found["mean"], found["non_finite"]) == (None, None, None, 8)


def test_channels_come_last(tmp_path):
    found = describe(save(tmp_path / "x.nii.gz", np.zeros((4, 5, 6, 3), np.int16)))
    assert (found["shape"], found["canonical_shape"]) == ([4, 5, 6, 3], [5, 4, 6, 3])


def test_a_damaged_file_is_refused(tmp_path):
    path = save(tmp_path / "x.nii.gz", scan())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="cannot be decompressed"):
        describe(path)
