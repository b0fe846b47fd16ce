"""Tier 1 as downloaded: folders written by hand from the facts, in the official names, sound and with each known trap.

The volumes are boxes in a tiny LPS scan; nothing here shares code with the synthetic generator or the validator.
"""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from harness.cards.library import dataset_card
from harness.data.check import check
from harness.data.layouts import find_cases
from harness.data.reference import read_reference
from harness.data.splits import resolve

SHAPE = (24, 24, 16)
LPS = np.array([[-0.8, 0, 0, 10], [0, -0.8, 0, 10], [0, 0, 2.5, -20], [0, 0, 0, 1.0]])
# Boxes by where they lie in the patient. In LPS, small a is right, small b is front, small c is foot.
RIGHT, LEFT = np.s_[2:6, 10:14, 6:10], np.s_[18:22, 10:14, 6:10]
FRONT, BACK = np.s_[10:14, 2:6, 6:10], np.s_[10:14, 18:22, 6:10]


def save(path, data, affine=LPS):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)


def scan(seed, labels, value=60, shape=SHAPE):
    image = np.random.default_rng(seed).integers(-120, -80, shape).astype(np.int16)
    image[labels > 0] = value
    return image


def boxes(places):
    labels = np.zeros(SHAPE, np.uint8)
    for value, box in places.items():
        labels[box] = value
    return labels


def report(name, root):
    card, _ = dataset_card(name)
    cases = find_cases(card, root)
    return cases, check(card, cases)


def errors(found):
    return {(finding.case, finding.what) for finding in found.errors}


# ---------------------------------------------------------------- BTCV and Synapse

BTCV = {6: RIGHT, 1: LEFT, 2: np.s_[4:6, 16:18, 4:6], 3: np.s_[18:20, 16:18, 4:6], 11: np.s_[11:13, 11:13, 6:8]}


def btcv(root, image="RawData/Training/img/img{}.nii.gz", label="RawData/Training/label/label{}.nii.gz", change=None):
    for number, case in enumerate(("0001", "0021")):
        labels = boxes(BTCV)
        save(root / image.format(case), scan(number, labels))
        if change is not None and number == 1:
            labels = change(labels)
        save(root / label.format(case), labels)


def test_btcv_as_downloaded(tmp_path):
    btcv(tmp_path)
    save(tmp_path / "RawData/Testing/img/img0061.nii.gz", scan(9, boxes(BTCV)))  # no label, no case of the card
    cases, found = report("btcv", tmp_path)
    assert list(cases) == ["0001", "0021"]
    assert errors(found) == set()


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("imagesTr/img{}.nii.gz", "labelsTr/label{}.nii.gz"),
        ("Training/img/img{}.nii.gz", "Training/label/label{}.nii.gz"),
        ("img/img{}.nii.gz", "label/label{}.nii.gz"),
    ],
)
def test_btcv_repacked(tmp_path, image, label):
    btcv(tmp_path, image, label)
    assert errors(report("btcv", tmp_path)[1]) == set()


def test_btcv_with_a_label_flipped_in_the_array(tmp_path):
    """Left and right kidney swap if only one of image and label is flipped; the liver lands on the left."""
    btcv(tmp_path, change=lambda labels: labels[::-1].copy())
    assert errors(report("btcv", tmp_path)[1]) == {("0021", "place of right_kidney"), ("0021", "place of liver")}


def test_btcv_cases_have_their_known_depth(tmp_path):
    btcv(tmp_path)
    warned = [one for one in report("btcv", tmp_path)[1].findings if one.what == "number of slices"]
    assert [(one.case, one.expected, one.found) for one in warned] == [("0021", "143", "16")]


def test_synapse_renumbers_the_raw_labels(tmp_path):
    btcv(tmp_path)
    cases, found = report("synapse8", tmp_path)
    assert errors(found) == set()
    labels = read_reference(cases["0001"]).labels
    assert {name: int(labels[box].min()) for name, box in (("liver", RIGHT), ("spleen", LEFT))} == {
        "liver": 5,
        "spleen": 7,
    }
    assert labels[5, 17, 5] == 4  # right kidney
    assert labels[19, 17, 5] == 3  # left kidney
    assert labels[12, 12, 7] == 6  # pancreas


def test_synapse_drops_the_five_other_organs(tmp_path):
    btcv(tmp_path, change=lambda labels: np.where(labels == 11, 10, labels).astype(np.uint8))
    cases, found = report("synapse8", tmp_path)
    assert errors(found) == set()
    assert read_reference(cases["0021"]).labels[12, 12, 7] == 0


# ---------------------------------------------------------------- SegTHOR

SEGTHOR = {1: np.s_[11:13, 16:18, 6:10], 2: FRONT, 3: np.s_[11:13, 10:12, 12:15], 4: BACK}


def segthor(root, image="train/{0}/{0}.nii.gz", label="train/{0}/GT.nii.gz", change=None):
    for number, case in enumerate(("Patient_01", "Patient_27")):
        labels = boxes(SEGTHOR)
        save(root / image.format(case), scan(number, labels))
        save(root / label.format(case), labels if change is None else change(labels))


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("train/{0}/{0}.nii.gz", "train/{0}/GT.nii.gz"),
        ("SegTHOR/{0}/{0}.nii.gz", "SegTHOR/{0}/GT.nii.gz"),
        ("{0}/{0}.nii.gz", "{0}/GT.nii.gz"),
        ("train/{0}/{0}.nii.gz", "train/{0}/{0}_GT.nii.gz"),
    ],
)
def test_segthor_as_downloaded_and_repacked(tmp_path, image, label):
    segthor(tmp_path, image, label)
    save(tmp_path / "test/Patient_41.nii.gz", scan(9, boxes(SEGTHOR)))
    cases, found = report("segthor", tmp_path)
    assert list(cases) == ["Patient_01", "Patient_27"]
    assert errors(found) == set()


def test_segthor_with_the_moved_heart(tmp_path):
    """The copy of a course: the heart rotated and shifted away from its organ, here behind the aorta into the lung."""

    def move(labels):
        labels[labels == 2] = 0
        labels[10:14, 20:24, 6:10] = 2
        return labels

    segthor(tmp_path, change=move)
    found = report("segthor", tmp_path)[1]
    assert {"place of heart", "values inside heart"} <= {what for _, what in errors(found)}
    assert {case for case, _ in errors(found)} == {"Patient_01", "Patient_27"}


def test_segthor_with_a_heart_in_the_lung(tmp_path):
    segthor(tmp_path)
    path = tmp_path / "train/Patient_01/Patient_01.nii.gz"
    image = np.asanyarray(nibabel.load(path).dataobj).copy()
    image[10:11, 2:6, 6:10] = -700  # a quarter of the heart is air
    save(path, image)
    assert errors(report("segthor", tmp_path)[1]) == {("Patient_01", "values inside heart")}


# ---------------------------------------------------------------- PDDCA

PDDCA = {
    "BrainStem": np.s_[10:14, 14:18, 10:14],
    "Chiasm": np.s_[11:13, 9:11, 12:14],
    "Mandible": np.s_[6:18, 2:5, 2:4],
    "OpticNerve_L": np.s_[14:16, 6:9, 12:14],
    "OpticNerve_R": np.s_[8:10, 6:9, 12:14],
    "Parotid_L": np.s_[19:22, 10:14, 4:8],
    "Parotid_R": np.s_[2:5, 10:14, 4:8],
    "Submandibular_L": np.s_[15:17, 6:8, 2:4],
    "Submandibular_R": np.s_[7:9, 6:8, 2:4],
}


def pddca(root, without=(), more=None):
    """One binary NRRD a structure, as ITK stores it: x to the left, y to the back."""
    for number, case in enumerate(("0522c0001", "0522c0555")):
        (root / case / "structures").mkdir(parents=True)
        files = {"img": scan(number, boxes({}))}
        for name, box in {**PDDCA, **(more or {})}.items():
            if case == "0522c0001" or name not in without:
                files[f"structures/{name}"] = boxes({1: box})
        for name, data in files.items():
            image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
            image.SetSpacing((0.8, 0.8, 2.5))
            image.SetOrigin((-10, -10, -20))
            sitk.WriteImage(image, str(root / case / f"{name}.nrrd"))
        (root / case / f"{case}.fcsv").write_text("landmarks", encoding="utf-8")


def test_pddca_as_downloaded(tmp_path):
    pddca(tmp_path)
    cases, found = report("pddca", tmp_path)
    assert errors(found) == set()
    reference = read_reference(cases["0522c0001"])
    assert reference.not_annotated == frozenset()
    assert sorted(np.unique(reference.labels)) == list(range(10))
    assert found.facts["0522c0001"].axcodes == "LPS"


def test_pddca_structures_that_are_missing_are_not_absent(tmp_path):
    pddca(tmp_path, without=("Mandible", "Submandibular_R"))
    cases, found = report("pddca", tmp_path)
    assert errors(found) == set()
    assert found.facts["0522c0001"].not_annotated == ()
    assert found.facts["0522c0555"].not_annotated == (3, 9)
    assert read_reference(cases["0522c0555"]).not_annotated == {3, 9}


def test_pddca_overlaps_go_to_the_later_structure(tmp_path):
    """Chiasm over optic nerves over brainstem over glands over mandible, whatever the names' order."""
    box = np.s_[0:2, 0:2, 0:2]
    pddca(tmp_path, more={"Chiasm": (slice(8, 13), slice(6, 11), slice(12, 14)), "Mandible": box, "BrainStem": box})
    labels = read_reference(report("pddca", tmp_path)[0]["0522c0001"]).labels
    assert labels[0, 0, 0] == 1  # brainstem over mandible
    assert labels[9, 7, 13] == 2  # chiasm over the right optic nerve


def test_pddca_sides(tmp_path):
    pddca(tmp_path)
    for side, other in (("L", "R"), ("R", "L")):
        (tmp_path / f"0522c0001/structures/Parotid_{side}.nrrd").rename(tmp_path / f"{other}.nrrd")
    for side in "LR":
        (tmp_path / f"{side}.nrrd").rename(tmp_path / f"0522c0001/structures/Parotid_{side}.nrrd")
    assert errors(report("pddca", tmp_path)[1]) == {("0522c0001", "place of right_parotid")}


# ---------------------------------------------------------------- BraTS

MNI = np.array([[1, 0, 0, -98], [0, 1, 0, -134], [0, 0, 1, -72], [0, 0, 0, 1.0]])
BRATS_AFFINE = np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1.0]])
BRATS = {2: np.s_[4:20, 4:20, 4:12], 1: np.s_[8:16, 8:16, 6:10], 4: np.s_[10:14, 10:14, 7:9]}
CHANNELS = {"t1": 100, "t1ce": 200, "t2": 300, "flair": 400}


def brats(root, prefix="", stem="BraTS2021_{0}/BraTS2021_{0}_{1}", names=None, cases=("00000", "00002"), enhancing=4):
    for number, case in enumerate(cases):
        labels = boxes(BRATS)
        for channel, value in CHANNELS.items():
            name = channel if names is None else names[channel]
            save(root / prefix / f"{stem.format(case, name)}.nii.gz", scan(number, labels, value), BRATS_AFFINE)
        labels[labels == 4] = enhancing
        save(root / prefix / f"{stem.format(case, 'seg')}.nii.gz", labels, BRATS_AFFINE)


@pytest.mark.parametrize("prefix", ["", "TrainingData", "RSNA_ASNR_MICCAI_BraTS2021_TrainingData"])
def test_brats_2021_as_downloaded(tmp_path, prefix):
    brats(tmp_path, prefix)
    cases, found = report("brats2021", tmp_path)
    assert list(cases) == ["00000", "00002"]
    assert errors(found) == set()
    # flair, t1ce, t1, t2: never the order of the file names
    assert [high for _, high in found.facts["00000"].ranges] == [400, 200, 100, 300]


def test_brats_2021_with_labels_of_2023(tmp_path):
    """3 for enhancing tumour would silently give an empty ET; the message says where the 3 comes from."""
    brats(tmp_path, enhancing=3)
    found = report("brats2021", tmp_path)[1]
    assert errors(found) == {("00000", "label values"), ("00002", "label values")}
    assert "BraTS 2023" in found.errors[0].mend


def test_brats_2021_with_a_missing_channel(tmp_path):
    brats(tmp_path)
    (tmp_path / "BraTS2021_00002/BraTS2021_00002_t1ce.nii.gz").unlink()
    assert errors(report("brats2021", tmp_path)[1]) == {("00002", "image")}


def test_brats_2023_is_renumbered(tmp_path):
    names = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"}
    cases = ("BraTS-GLI-00000-000", "BraTS-GLI-00002-000")
    brats(tmp_path, "", "{0}/{0}-{1}", names, cases, enhancing=3)
    found_cases, found = report("brats2023", tmp_path)
    assert errors(found) == set()
    assert [high for _, high in found.facts[cases[0]].ranges] == [400, 200, 100, 300]
    assert sorted(np.unique(read_reference(found_cases[cases[0]]).labels)) == [0, 1, 2, 4]


def test_brats_2018_in_two_folders(tmp_path):
    brats(tmp_path, "HGG", "{0}/{0}_{1}", cases=("Brats18_CBICA_AAB_1",))
    brats(tmp_path, "LGG", "{0}/{0}_{1}", cases=("Brats18_2013_0_1",))
    cases, found = report("brats2018", tmp_path)
    assert list(cases) == ["Brats18_2013_0_1", "Brats18_CBICA_AAB_1"]
    assert {what for _, what in errors(found)} == {"image"}  # two helpers with one seed made one scan twice


# ---------------------------------------------------------------- ATLAS


def atlas(root, top="ATLAS_2/Training"):
    for number, (cohort, case) in enumerate(
        (("R001", "sub-r001s001"), ("R001", "sub-r001s002"), ("R052", "sub-r052s001"))
    ):
        folder, labels = root / top / cohort / case / "ses-1" / "anat", boxes({1: LEFT})
        stem = f"{case}_ses-1_space-MNI152NLin2009aSym_"
        save(folder / f"{stem}T1w.nii.gz", scan(number, labels), MNI)
        save(folder / f"{stem}label-L_desc-T1lesion_mask.nii.gz", labels, MNI)
        (folder / f"._{stem}T1w.nii.gz").write_bytes(b"a hidden double")


@pytest.mark.parametrize("top", ["ATLAS_2/Training", "Training"])
def test_atlas_as_downloaded(tmp_path, top):
    atlas(tmp_path, top)
    cases, found = report("atlas_v2", tmp_path)
    assert list(cases) == ["sub-r001s001", "sub-r001s002", "sub-r052s001"]
    assert errors(found) == set()


def test_atlas_folds_keep_cohorts_together():
    ids = [f"sub-r{cohort:03d}s{subject:03d}" for cohort in range(1, 12) for subject in range(1, 5)]
    card, _ = dataset_card("atlas_v2")
    for fold in range(5):
        found = resolve(card, fold=fold, ids=ids)
        assert not {case[:8] for case in found.train} & {case[:8] for case in found.val}


# ---------------------------------------------------------------- LiTS, MSD, AtriaSeg


@pytest.mark.parametrize(
    "folders", [("Training Batch 1", "Training Batch 2"), ("Training_Batch1", "Training_Batch2"), (".", ".")]
)
def test_lits_as_downloaded(tmp_path, folders):
    for number, (folder, case) in enumerate(zip(folders, (0, 28), strict=True)):
        labels = boxes({1: RIGHT, 2: np.s_[3:5, 11:13, 7:9]})
        affine = LPS if case == 0 else np.eye(4)  # 28 to 47 carry an identity affine
        save(tmp_path / folder / f"volume-{case}.nii", scan(number, labels), affine)
        save(tmp_path / folder / f"segmentation-{case}.nii", labels, affine)
    cases, found = report("lits", tmp_path)
    assert list(cases) == ["0", "28"]
    assert errors(found) == set()
    warned = {(finding.case, finding.what) for finding in found.findings}
    assert {("28", "case"), ("28", "affine")} <= warned
    assert not {("0", "case"), ("0", "affine")} & warned


@pytest.mark.parametrize("top", [".", "Task01_BrainTumour"])
def test_msd_brain_holds_its_channels_in_one_file(tmp_path, top):
    for number, case in enumerate(("001", "002")):
        labels = boxes({1: BRATS[2], 2: BRATS[1], 3: BRATS[4]})
        image = np.stack([scan(number, labels, value) for value in (400, 100, 200, 300)], axis=3)
        save(tmp_path / top / "imagesTr" / f"BRATS_{case}.nii.gz", image)
        save(tmp_path / top / "labelsTr" / f"BRATS_{case}.nii.gz", labels)
        (tmp_path / top / "imagesTr" / f"._BRATS_{case}.nii.gz").write_bytes(b"AppleDouble")
    cases, found = report("msd_task01_brain", tmp_path)
    assert list(cases) == ["001", "002"]
    assert errors(found) == set()
    assert [high for _, high in found.facts["001"].ranges] == [400, 100, 200, 300]


def test_msd_brain_with_labels_of_brats(tmp_path):
    save(tmp_path / "imagesTr/BRATS_001.nii.gz", np.stack([scan(n, boxes(BRATS)) for n in range(4)], axis=3))
    save(tmp_path / "labelsTr/BRATS_001.nii.gz", boxes(BRATS))
    found = report("msd_task01_brain", tmp_path)[1]
    assert errors(found) == {("001", "label values")}
    assert "brats2021" in found.errors[0].mend


def test_msd_hippocampus_turned_around(tmp_path):
    for case, (front, back) in (("001", (1, 2)), ("003", (2, 1))):
        labels = boxes({front: FRONT, back: BACK})
        save(tmp_path / f"imagesTr/hippocampus_{case}.nii.gz", scan(int(case), labels))
        save(tmp_path / f"labelsTr/hippocampus_{case}.nii.gz", labels)
    assert errors(report("msd_task04_hippocampus", tmp_path)[1]) == {("003", "place of anterior_hippocampus")}


ATRIA = ("06SR5RBREL16DQ6M8LWS", "0RZDK210BSMWAA6467LU")


def test_atriaseg_as_the_authors_offer_it(tmp_path):
    for number, case in enumerate(ATRIA):
        save(tmp_path / f"{case}.nii.gz", scan(number, boxes({1: FRONT})))
        save(tmp_path / f"{case}_lab.nii.gz", boxes({1: FRONT}))
    cases, found = report("atriaseg2018", tmp_path)
    assert tuple(cases) == ATRIA
    assert errors(found) == set()


def test_atriaseg_with_the_raw_label_value(tmp_path):
    save(tmp_path / f"{ATRIA[0]}.nii.gz", scan(0, boxes({255: FRONT})))
    save(tmp_path / f"{ATRIA[0]}_lab.nii.gz", boxes({255: FRONT}))
    found = report("atriaseg2018", tmp_path)[1]
    assert errors(found) == {(ATRIA[0], "label values")}
    assert "laendo.nrrd" in found.errors[0].mend
