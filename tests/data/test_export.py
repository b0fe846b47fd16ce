"""nnU-Net's raw folder: the same voxels, the same split, labels without gaps, undrawn structures ignored."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from harness.cards.base import parse
from harness.cards.dataset import DatasetCard, ids_sha256
from harness.cards.library import dataset_card
from harness.cli import main
from harness.data.export import export_nnunet
from harness.data.layouts import find_cases
from harness.data.splits import resolve
from harness.data.synthesis.writing import synthesize
from harness.data.synthetic import write
from harness.errors import UserError

FOLDS = {"id": "made", "source": "made here", "made": {"folds": 3, "seed": 0}}


def with_folds(name):
    """Return a shipped card whose folds are made from the few ids that a test writes."""
    card, _ = dataset_card(name)
    return parse(DatasetCard, {**card.model_dump(), "splits": [FOLDS]}, "a test"), sorted(
        {case for split in card.splits for part in split.parts.values() for case in part}
    )


def content(path):
    return json.loads(path.read_text(encoding="utf-8"))


def voxels(path):
    return np.asanyarray(nibabel.load(path).dataobj)


def test_a_fixed_split(tmp_path, capsys):
    write(tmp_path / "synthetic", cases=6)
    arguments = ["--cards", str(tmp_path), "--to", "nnunet", "--workers", "1", "--out", str(tmp_path / "out")]
    assert main(["data", "export", "synthetic", *arguments]) == 0
    assert "5 training and 1 test cases" in capsys.readouterr().out
    card, folder = dataset_card("synthetic", [tmp_path])
    split = resolve(card)
    assert content(tmp_path / "out/splits_final.json") == [{"train": list(split.train), "val": list(split.val)}]
    about = content(tmp_path / "out/dataset.json")
    assert about["channel_names"] == {"0": "CT"}
    assert about["labels"] == {"background": 0, "organ": 1, "vessel": 2, "lesion": 3}
    assert (about["numTraining"], about["file_ending"]) == (5, ".nii.gz")
    assert about["harness"]["split_sha256"] == split.sha256
    for part, ids in (("Tr", sorted({*split.train, *split.val})), ("Ts", list(split.test))):
        assert sorted(path.name for path in (tmp_path / f"out/images{part}").iterdir()) == [
            f"{case}_0000.nii.gz" for case in ids
        ]
        for case in ids:
            image = nibabel.load(tmp_path / f"out/images{part}/{case}_0000.nii.gz")
            label = nibabel.load(tmp_path / f"out/labels{part}/{case}.nii.gz")
            original = nibabel.load(folder / f"images/{case}.nii.gz")
            np.testing.assert_array_equal(image.dataobj, original.dataobj)
            np.testing.assert_array_equal(label.dataobj, voxels(folder / f"labels/{case}.nii.gz"))
            np.testing.assert_allclose(image.affine, original.affine, atol=1e-5)
            np.testing.assert_array_equal(image.affine, label.affine)
            np.testing.assert_allclose(image.header.get_qform(), image.affine, atol=1e-4)  # ITK looks there


def test_folds_and_a_share_of_the_labels(tmp_path):
    card, ids = with_folds("msd_task01_brain")
    synthesize("msd_task01_brain", tmp_path / "x", ids=ids, cases=6, shape=(12, 12, 12))
    cases = find_cases(card, tmp_path / "x")
    done = export_nnunet(card, cases, tmp_path / "out", label_fraction=0.5, subset_seed=3)
    splits = content(tmp_path / "out/splits_final.json")
    assert done.folds == len(splits) == 3
    for fold, entry in enumerate(splits):
        same = resolve(card, None, fold, 0.5, 3, ids=cases)
        assert entry == {"train": list(same.train), "val": list(same.val)}
    case = splits[0]["train"][0]
    original = voxels(cases[case].images[0])  # channels on the last axis become files
    for number in range(4):
        np.testing.assert_array_equal(
            voxels(tmp_path / f"out/imagesTr/{case}_{number:04d}.nii.gz"), original[..., number]
        )


def test_labels_have_no_gaps(tmp_path):
    card, ids = with_folds("brats2021")
    synthesize("brats2021", tmp_path / "x", ids=ids, cases=3, shape=(24, 24, 24))
    cases = find_cases(card, tmp_path / "x")
    export_nnunet(card, cases, tmp_path / "out")
    about = content(tmp_path / "out/dataset.json")
    assert about["labels"] == {"background": 0, "necrotic_core": 1, "edema": 2, "enhancing_tumour": 3}
    assert about["harness"]["label_values"] == [0, 1, 2, 4]
    assert about["channel_names"] == {"0": "flair", "1": "t1ce", "2": "t1", "3": "t2"}
    for case, files in cases.items():
        stored, written = voxels(files.label), voxels(tmp_path / f"out/labelsTr/{case}.nii.gz")
        np.testing.assert_array_equal(written, np.where(stored == 4, 3, stored))


def test_background_is_unknown_where_a_structure_is_undrawn(tmp_path, capsys):
    card, ids = with_folds("pddca")
    chosen = synthesize("pddca", tmp_path / "x", ids=ids, cases=3, fault="missing-structure", shape=(24, 24, 24))
    done = export_nnunet(card, find_cases(card, tmp_path / "x"), tmp_path / "out")
    assert done.ignored == (chosen[1],)
    assert content(tmp_path / "out/dataset.json")["labels"]["ignore"] == 10
    for case in chosen:
        values = set(np.unique(voxels(tmp_path / f"out/labelsTr/{case}.nii.gz")).tolist())
        assert ((0 in values), (10 in values)) == ((False, True) if case == chosen[1] else (True, False))


def test_a_split_without_validation_cases_makes_no_folds(tmp_path):
    card = write(tmp_path / "synthetic", cases=3)
    ids = {"train": ("case000", "case001"), "test": ("case002",)}
    split = {"id": "s", "source": "x", "parts": ids, "sha256": {part: ids_sha256(named) for part, named in ids.items()}}
    card = parse(DatasetCard, {**card.model_dump(), "splits": [split]}, "a test")
    done = export_nnunet(card, find_cases(card, tmp_path / "synthetic"), tmp_path / "out")
    assert done.folds == 0
    assert not (tmp_path / "out/splits_final.json").exists()


def test_made_up_data_stay_marked(tmp_path):
    assert main(["data", "synthesize", "nnunet", "--cases", "3", "--out", str(tmp_path / "x")]) == 0
    out = tmp_path / "out"
    arguments = ["--cards", str(tmp_path / "x"), "--to", "nnunet", "--out", str(out), "--workers", "1"]
    assert main(["data", "export", "synthetic_nnunet", *arguments]) == 0
    assert (out / "harness-synthetic.json").is_file()
    assert content(out / "dataset.json")["harness"]["evidence"] == ["synthetic_data"]


def test_bad_input_leaves_nothing(tmp_path):
    card = write(tmp_path / "synthetic", cases=3)
    (tmp_path / "synthetic/labels/case001.nii.gz").unlink()
    with pytest.raises(UserError, match="case001"):
        export_nnunet(card, find_cases(card, tmp_path / "synthetic"), tmp_path / "out")
    unlabelled = write(tmp_path / "pool", cases=1, labelled=False, name="pool")
    with pytest.raises(UserError, match="no label maps"):
        export_nnunet(unlabelled, find_cases(unlabelled, tmp_path / "pool"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pool", "synthetic"]
