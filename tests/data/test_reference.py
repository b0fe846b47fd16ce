"""Reference labels: label maps, renumbered label maps, and label maps painted from structures."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from harness.data.case import Case
from harness.data.reference import read_reference
from harness.errors import UserError

AFFINE = np.diag([-1.0, -1.0, 2.5, 1.0])


def save(path, data, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def case(label=None, **more):
    return Case(id="a", images=(Path("image.nii.gz"),), label=label, **more)


def test_a_label_map_is_read_as_it_is(tmp_path):
    labels = np.random.default_rng(0).integers(0, 5, (4, 5, 6)).astype(np.float32)
    found = read_reference(case(save(tmp_path / "l.nii.gz", labels)))
    np.testing.assert_array_equal(found.labels, labels)
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.grid.matrix, AFFINE)
    assert (found.not_annotated, found.sha256) == (frozenset(), None)


def test_stored_values_are_renumbered(tmp_path):
    stored = np.array([0, 1, 2, 4, 4, 2, 0, 0], np.uint8).reshape(2, 2, 2)
    found = read_reference(case(save(tmp_path / "l.nii.gz", stored), remap=((0, 0), (1, 2), (2, 1), (4, 3), (9, 5))))
    assert found.labels.ravel().tolist() == [0, 2, 1, 3, 3, 1, 0, 0]


def test_a_stored_value_without_a_place_is_refused(tmp_path):
    stored = np.array([0, 1, 3, 3, 0, 0, 0, 7], np.uint8).reshape(2, 2, 2)
    wrong = case(save(tmp_path / "l.nii.gz", stored), remap=((0, 0), (1, 1)))
    with pytest.raises(UserError, match=r"label values \[3, 7\], which .* it has \[0, 1\]"):
        read_reference(wrong)
    kept = read_reference(wrong, keep_unknown=True)
    assert kept.unknown == {3: 2, 7: 1}
    assert kept.labels.ravel().tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


def test_the_hash_covers_the_renumbering(tmp_path):
    path = save(tmp_path / "l.nii.gz", np.zeros((2, 2, 2), np.uint8))
    hashes = {
        read_reference(case(path, remap=remap), hashed=True).sha256
        for remap in ((), ((0, 0), (1, 1)), ((0, 0), (1, 2)))
    }
    assert len(hashes) == 3


def structure(path, box, affine=AFFINE, value=1):
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[box] = value
    return save(path, mask, affine)


def test_structures_are_painted_in_order_and_the_later_wins(tmp_path):
    low = structure(tmp_path / "low.nii.gz", np.s_[:4], value=255)
    high = structure(tmp_path / "high.nii.gz", np.s_[3:])
    found = read_reference(case(tmp_path, structures=((5, low), (2, high))))
    assert found.labels[:, 0, 0].tolist() == [5, 5, 5, 2, 2, 2]
    found = read_reference(case(tmp_path, structures=((2, high), (5, low))))
    assert found.labels[:, 0, 0].tolist() == [5, 5, 5, 5, 2, 2]


def test_a_structure_that_nobody_drew_is_not_absent(tmp_path):
    low = structure(tmp_path / "low.nii.gz", np.s_[:4])
    empty = structure(tmp_path / "empty.nii.gz", np.s_[:0])
    found = read_reference(case(tmp_path, structures=((5, low), (2, tmp_path / "none.nii.gz"), (3, empty))))
    assert found.not_annotated == {2}


def test_structures_without_any_file_are_refused(tmp_path):
    with pytest.raises(UserError, match="none of its structures"):
        read_reference(case(tmp_path, structures=((2, tmp_path / "none.nii.gz"),)))


def test_structures_on_different_grids_are_refused(tmp_path):
    low = structure(tmp_path / "low.nii.gz", np.s_[:4])
    moved = structure(tmp_path / "moved.nii.gz", np.s_[:4], AFFINE + np.array([[0, 0, 0, 5]] + [[0] * 4] * 3))
    with pytest.raises(UserError, match="do not lie on one grid"):
        read_reference(case(tmp_path, structures=((5, low), (2, moved))))


def test_the_hash_covers_every_structure_and_the_missing_ones(tmp_path):
    low, high = structure(tmp_path / "low.nii.gz", np.s_[:4]), structure(tmp_path / "high.nii.gz", np.s_[3:])
    none = tmp_path / "none.nii.gz"
    ways = [
        ((5, low), (2, high)),
        ((2, high), (5, low)),
        ((5, low), (2, none)),
        ((5, low),),
        ((5, high), (2, high)),
        ((5, none), (2, low)),
    ]
    hashes = [read_reference(case(tmp_path, structures=way), hashed=True).sha256 for way in ways]
    assert len(set(hashes)) == len(ways)
    assert read_reference(case(tmp_path, structures=ways[0]), hashed=True).sha256 == hashes[0]


def test_structures_in_nrrd_lie_in_ras(tmp_path):
    mask = sitk.GetImageFromArray(np.ones((4, 5, 6), np.uint8))
    mask.SetOrigin((1, 2, 3))
    sitk.WriteImage(mask, str(tmp_path / "m.nrrd"))
    found = read_reference(case(tmp_path, structures=((1, tmp_path / "m.nrrd"),)))
    assert found.labels.shape == (6, 5, 4)
    assert found.grid.axcodes == "LPS"
    np.testing.assert_array_equal(found.grid.matrix[:3, 3], (-1, -2, 3))


def test_a_case_without_labels_is_refused():
    with pytest.raises(UserError, match="'a' has no label"):
        read_reference(case())
