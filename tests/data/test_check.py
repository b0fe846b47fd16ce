"""The validator finds each fault a downloaded folder can have, names the case, and opens every file once."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest

from harness.cards.base import parse
from harness.cards.dataset import DatasetCard
from harness.cards.library import dataset_card
from harness.data import inspection, reference
from harness.data.check import check
from harness.data.layouts import find_cases
from harness.data.reading import read
from harness.data.synthetic import write
from harness.errors import UserError


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def card(folder):
    return write(folder, cases=4, seed=5)


def report(card, folder, **arguments):
    return check(card, find_cases(card, folder), **arguments)


def changed(card, **update):
    return parse(DatasetCard, {**card.model_dump(), **update}, "a test")


def rewrite(path, data=None, affine=None, header=None):
    image = nibabel.load(path)
    data = np.asanyarray(image.dataobj) if data is None else data
    nibabel.save(nibabel.Nifti1Image(data, image.affine if affine is None else affine, header), path)


def voxels(path):
    """Read a writable copy of the voxels with nibabel."""
    return np.asanyarray(nibabel.load(path).dataobj).copy()


def only(found, level="error"):
    """Assert that there is one finding of a level and return it."""
    (finding,) = [finding for finding in found.findings if finding.level == level]
    assert all([finding.what, finding.expected, finding.found, finding.mend])
    return finding


def test_a_good_set_passes(card, folder):
    found = report(card, folder)
    assert found.findings == ()
    found.refuse()
    assert list(found.facts) == ["case000", "case001", "case002", "case003"]


def test_the_facts_of_a_case(card, folder):
    facts = report(card, folder).facts["case001"]
    image, label = nibabel.load(folder / "images/case001.nii.gz"), nibabel.load(folder / "labels/case001.nii.gz")
    values, counts = np.unique(np.asanyarray(label.dataobj), return_counts=True)
    assert facts.shape == image.shape
    np.testing.assert_allclose(facts.spacing, nibabel.affines.voxel_sizes(image.affine))
    assert facts.axcodes == "".join(nibabel.aff2axcodes(image.affine))
    assert facts.label_histogram == dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert facts.ranges == ((np.asanyarray(image.dataobj).min(), np.asanyarray(image.dataobj).max()),)


@pytest.mark.parametrize("name", ["ct_headneck_oar", "unlabelled_ct", "unlabelled_mr"])
def test_bundled_sets_have_no_finding(name):
    card, home = dataset_card(name)
    assert report(card, home).findings == ()


# ---------------------------------------------------------------- the bad input of the main line


def test_a_case_without_its_label(card, folder):
    (folder / "labels/case002.nii.gz").unlink()
    found = report(card, folder)
    finding = only(found)
    assert (finding.case, finding.what, finding.found) == ("case002", "label", "none")
    with pytest.raises(UserError, match=r"'synthetic' cannot be used; 1 error: \[1\] case case002: label") as caught:
        found.refuse()
    assert caught.value.exit_code == 2


def test_a_label_without_its_image(card, folder):
    (folder / "images/case002.nii.gz").unlink()
    found = report(card, folder)
    assert only(found).case == "case002"
    assert "images/case002.nii.gz" in only(found).mend
    assert "case002" not in found.facts


def test_label_values_outside_the_card(card, folder):
    path = folder / "labels/case001.nii.gz"
    labels = voxels(path)
    labels[0, 0, :2] = 4
    labels[0, 1, 0] = 255
    rewrite(path, labels)
    finding = only(report(card, folder))
    assert (finding.case, finding.what) == ("case001", "label values")
    assert (finding.expected, finding.found) == ("0..3", "4 (2 voxels), 255 (1 voxels)")


def test_labels_that_were_interpolated(card, folder):
    path = folder / "labels/case001.nii.gz"
    rewrite(path, voxels(path) * np.float32(0.5))
    assert "not whole numbers" in only(report(card, folder)).mend


def test_grids_of_different_shape(card, folder):
    path = folder / "labels/case001.nii.gz"
    rewrite(path, voxels(path)[:-1])
    finding = only(report(card, folder))
    assert finding.what == "shape of case001.nii.gz"


@pytest.mark.parametrize(("shift", "same"), [(0.0009, True), (0.0011, False)])
def test_grids_of_different_affine(card, folder, shift, same):
    path = folder / "labels/case000.nii.gz"
    affine = nibabel.load(path).affine
    affine[0, 3] += shift
    rewrite(path, affine=affine)
    found = report(card, folder)
    if same:
        assert found.findings == ()
    else:
        assert only(found).what == "affine of case000.nii.gz"
        assert "0.0011 mm away" in only(found).found


def test_a_flipped_label_is_told_by_its_axes(card, folder):
    path = folder / "labels/case000.nii.gz"
    image = nibabel.load(path)
    nibabel.save(image.as_reoriented(np.array([[0, -1], [1, 1], [2, 1]])), path)
    assert "axes RPS" in only(report(card, folder)).found


def test_channels_on_different_grids(folder):
    card = write(folder, cases=3, channels=2)
    path = folder / "images/case001_c1.nii.gz"
    affine = nibabel.load(path).affine
    affine[2, 3] += 5
    rewrite(path, affine=affine)
    assert only(report(card, folder)).what == "affine of case001_c1.nii.gz"


def test_a_missing_channel(folder):
    card = write(folder, cases=3, channels=2)
    (folder / "images/case001_c1.nii.gz").unlink()
    finding = only(report(card, folder))
    assert finding.case == "case001"
    assert "case001_c1.nii.gz" in finding.mend


def test_a_file_with_too_many_channels(card, folder):
    path = folder / "images/case001.nii.gz"
    data = voxels(path)
    rewrite(path, np.stack([data, data + 1], axis=3))
    finding = only(report(card, folder))
    assert (finding.what, finding.expected, finding.found) == ("number of channels", "1", "2")


@pytest.mark.parametrize("cut", [-4, -2000, 40])
def test_a_truncated_gzip(card, folder, cut):
    path = folder / "images/case003.nii.gz"
    path.write_bytes(path.read_bytes()[:cut])
    found = report(card, folder)
    assert only(found).case == "case003"
    assert "damaged or was cut off" in only(found).mend
    assert "case003" not in found.facts


def test_an_unreadable_header(card, folder):
    path = folder / "labels/case003.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[70:72] = np.int16(9999).tobytes()
    path.write_bytes(gzip.compress(content))
    found = report(card, folder)
    assert (only(found).case, only(found).what) == ("case003", "label")
    assert "header" in only(found).mend
    assert "case003" not in found.facts


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers(card, folder, value):
    path = folder / "images/case000.nii.gz"
    data = voxels(path).astype(np.float32)
    data[3, 4, 5:8] = value
    rewrite(path, data)
    found = report(card, folder)
    assert (only(found).case, only(found).found) == ("case000", "3 NaN or infinite")
    assert np.isfinite(found.facts["case000"].ranges).all()


def test_an_image_of_nothing_but_nan(card, folder):
    path = folder / "images/case000.nii.gz"
    rewrite(path, np.full(nibabel.load(path).shape, np.nan, np.float32))
    assert any("NaN" in finding.found for finding in report(card, folder).errors)


# ---------------------------------------------------------------- more faults


def test_a_constant_image(card, folder):
    path = folder / "images/case000.nii.gz"
    rewrite(path, np.full(nibabel.load(path).shape, -1024, np.int16))
    assert only(report(card, folder)).found == "the one value -1024"


def test_one_image_under_two_ids(card, folder):
    for kind in ("images", "labels"):
        (folder / kind / "case003.nii.gz").write_bytes((folder / kind / "case001.nii.gz").read_bytes())
    finding = only(report(card, folder))
    assert finding.case == "case003"
    assert "case001" in finding.found


def test_a_label_of_nothing_but_background(card, folder):
    path = folder / "labels/case000.nii.gz"
    rewrite(path, np.zeros(nibabel.load(path).shape, np.uint8))
    assert only(report(card, folder), "warning").found == "background only"


@pytest.mark.parametrize(
    ("ranges", "what"),
    [
        ({"spacing": ((1, 3), (1, 3), (1, 2.5))}, "spacing in mm"),
        ({"shape": ((10, 100), (10, 100), (10, 12))}, "shape"),
        ({"values": (-1000, 3000)}, "values of case000.nii.gz"),
    ],
)
def test_implausible_ranges_warn(card, folder, ranges, what):
    found = report(changed(card, ranges=ranges), folder)
    assert found.errors == ()
    assert (found.findings[0].case, found.findings[0].what) == ("case000", what)


def test_the_lack_of_an_orientation_warns(card, folder):
    for kind in ("images", "labels"):
        path = folder / kind / "case000.nii.gz"
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[252:256] = bytes(4)  # qform_code and sform_code
        path.write_bytes(gzip.compress(content))
    assert only(report(card, folder), "warning").what == "orientation"


def test_qform_and_sform_that_disagree_warn(card, folder):
    for kind in ("images", "labels"):
        path = folder / kind / "case000.nii.gz"
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[268:272] = np.float32(77).tobytes()  # qoffset_x
        path.write_bytes(gzip.compress(content))
    assert only(report(card, folder), "warning").what == "qform and sform"


def sided(card, swapped):
    """Name the vessel, which lies to the right of the organ, a right organ, or a left one."""
    names = {0: "background", 1: "left_x", 2: "right_x", 3: "lesion"}
    if swapped:
        names = {0: "background", 1: "right_x", 2: "left_x", 3: "lesion"}
    return changed(card, labels=names)


def test_left_and_right_that_are_swapped(card, folder):
    assert report(sided(card, swapped=False), folder).findings == ()
    found = report(sided(card, swapped=True), folder)
    assert [finding.case for finding in found.errors] == ["case000", "case001", "case002", "case003"]
    assert all(finding.what == "place of right_x" for finding in found.errors)


def test_an_absent_side_is_no_fault(card, folder):
    path = folder / "labels/case000.nii.gz"
    labels = voxels(path)
    labels[labels == 2] = 0
    rewrite(path, labels)
    assert "case000" not in {finding.case for finding in report(sided(card, swapped=True), folder).errors}


# ---------------------------------------------------------------- the set of cases


def test_cases_that_the_split_names_and_nobody_has(card, folder):
    for kind in ("images", "labels"):
        (folder / kind / "case001.nii.gz").unlink()
    found = report(card, folder)
    assert found.errors == ()
    assert [finding.what for finding in found.findings] == ["cases of the split fixed", "number of cases"]
    assert "1 not on disk: case001" in found.findings[0].found
    needed = report(card, folder, needed=["case000", "case001"])
    assert (only(needed).case, only(needed).found) == ("case001", "no file of it")


def test_cases_in_no_part_of_a_split(card, folder):
    parts = {part: ids for part, ids in card.splits[0].parts.items() if part != "val"}
    split = {**card.splits[0].model_dump(), "parts": parts}
    found = report(changed(card, splits=(split,)), folder)
    assert "1 in no part of the split: case002" in only(found, "warning").found


# ---------------------------------------------------------------- the report


def test_errors_come_first_and_many_are_cut_short(card, folder):
    found = report(changed(card, labels={0: "background"}, ranges={"values": (0, 1)}), folder)
    levels = [finding.level for finding in found.findings]
    assert levels == ["error"] * 4 + ["warning"] * 4
    twice = dataclasses.replace(found, findings=found.findings[:4] * 3)
    with pytest.raises(UserError, match=r"12 errors: \[1\] .*\[8\] .* And 4 more\.$"):
        twice.refuse()


def test_the_number_of_threads_changes_nothing(card, folder):
    (folder / "labels/case002.nii.gz").unlink()
    assert report(card, folder, workers=4) == report(card, folder, workers=1)


def test_a_report_is_plain_json(card, folder):
    (folder / "labels/case002.nii.gz").unlink()
    found = report(card, folder)
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["findings"][0]["case"] == "case002"
    assert content["fingerprint"] == found.fingerprint()
    assert set(content["cases"]["case001"]["label_histogram"]) == {"0", "1", "2", "3"}


def test_the_fingerprint_of_some_cases_does_not_depend_on_the_others(card, folder):
    before = report(card, folder)
    path = folder / "labels/case002.nii.gz"
    labels = voxels(path)
    labels[0, 0, 0] = 1
    rewrite(path, labels)
    after = report(card, folder)
    assert before.fingerprint() != after.fingerprint()
    assert before.fingerprint(["case003"]) == after.fingerprint(["case003"])
    assert before.facts["case002"].image_sha256 == after.facts["case002"].image_sha256


def test_every_file_is_opened_once(card, folder, monkeypatch):
    opened = Counter()

    def counting(path, **arguments):
        opened[Path(path)] += 1
        return read(path, **arguments)

    monkeypatch.setattr(inspection, "read", counting)
    monkeypatch.setattr(reference, "read", counting)
    report(card, folder)
    assert set(opened.values()) == {1}
    assert len(opened) == 8


def test_unchanged_files_are_read_once(card, folder, monkeypatch):
    memory = folder / "memory"
    (folder / "labels/case002.nii.gz").unlink()
    first = report(card, folder, cache=memory)
    inspected = []

    def counting(card, case, look):
        inspected.append(case.id)
        return inspection.inspect_case(card, case, look)

    monkeypatch.setattr("harness.data.check.inspect_case", counting)
    assert report(card, folder, cache=memory) == first
    assert inspected == []
    path = folder / "labels/case001.nii.gz"
    labels = voxels(path)
    labels[0, 0, 0] = 9
    rewrite(path, labels)
    assert {finding.case for finding in report(card, folder, cache=memory).errors} == {"case001", "case002"}
    assert inspected == ["case001"]
    os.utime(path, ns=(0, 0))  # the same bytes, another time
    report(card, folder, cache=memory)
    assert inspected == ["case001", "case001"]
    report(changed(card, ranges={"values": (0, 1)}), folder, cache=memory)  # another card
    assert inspected[2:] == ["case000", "case001", "case002", "case003"]
    report(changed(card, splits=()), folder, cache=memory)  # splits say nothing of what is in a file
    assert len(inspected) == 6


@pytest.mark.parametrize(
    "content", ["", "[]", "{KEY: 3}", '{KEY: {"facts": {}, "findings": []}}', '{KEY: {"facts": null}}']
)
def test_a_damaged_memory_is_no_memory(card, folder, content):
    memory = folder / "memory"
    expected = report(card, folder, cache=memory)
    path = memory / "checks/synthetic.json"
    key = next(iter(json.loads(path.read_text(encoding="utf-8"))))
    path.write_text(content.replace("KEY", json.dumps(key)), encoding="utf-8")
    assert report(card, folder, cache=memory) == expected


def test_a_memory_that_cannot_be_kept_costs_only_time(card, folder, capsys):
    (folder / "memory").write_text("a file where a folder is needed", encoding="utf-8")
    assert report(card, folder, cache=folder / "memory").findings == ()
    assert "are not kept" in capsys.readouterr().err


def test_histograms_in_blocks_and_of_wide_types(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 400, (20, 20, 20))
    expected = Counter(labels.ravel().tolist())
    monkeypatch.setattr(inspection, "_BLOCK", 100)
    assert inspection._histogram(labels.astype(np.uint16)) == expected
    assert inspection._histogram(labels.astype(np.uint32)) == expected
