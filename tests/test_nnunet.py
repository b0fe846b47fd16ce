"""nnU-Net results become a record that says what is not known, and only if the predictions are those of the summary."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from harness.cli import main
from harness.data.roots import SYNTHETIC_MARK
from harness.records.verify import verify


@pytest.fixture
def results(synthetic: Path, tmp_path: Path) -> Path:
    """Lay out a results folder as nnU-Net v2 writes it, with predictions that miss one plane of every structure."""
    fold = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0"
    validation = fold / "validation"
    validation.mkdir(parents=True)
    per_case = []
    for path in sorted((synthetic / "synthetic" / "labels").glob("*.nii.gz"))[:3]:
        volume = nibabel.load(path)
        reference = np.asarray(volume.dataobj).astype(np.uint8)
        predicted = reference.copy()
        predicted[reference.shape[0] // 2] = 0
        nibabel.save(nibabel.Nifti1Image(predicted, volume.affine), validation / path.name)
        metrics = {}
        for label in (1, 2, 3):
            p, r = predicted == label, reference == label
            metrics[str(label)] = {"Dice": 2 * int((p & r).sum()) / (int(p.sum()) + int(r.sum()))}
        per_case.append({"prediction_file": f"/somewhere/else/{path.name}", "metrics": metrics})
    (validation / "summary.json").write_text(json.dumps({"metric_per_case": per_case}), encoding="utf-8")
    configuration = {"patch_size": [32, 32, 24], "batch_size": 2, "spacing": [2.0, 2.0, 3.0]}
    plans = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": configuration}}
    (fold.parent / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    return fold


def call(results: Path, synthetic: Path, out: Path) -> int:
    place = ["--cards", str(synthetic), "--data-root", str(synthetic / "synthetic")]
    return main(
        ["record", "import", str(results), "--from", "nnunet", "--dataset", "synthetic", "--out", str(out), *place]
    )


def test_results_become_a_valid_record(results: Path, synthetic: Path, tmp_path: Path) -> None:
    out = tmp_path / "record"
    assert call(results, synthetic, out) == 0
    record = json.loads((out / "record.json").read_text(encoding="utf-8"))
    assert record["model"] == {
        "id": "nnunet_v2",
        "variant": "3d_fullres",
        "init": "scratch",
        "adapter_version": None,
        "parameters": {"total": None, "trainable": None},
    }
    assert record["protocol"]["patch"] == [32, 32, 24]
    assert record["protocol"]["lr"] is None
    assert record["reasons"]["protocol.lr"] == "nnU-Net's results folder does not say"
    assert record["evidence"] == ["synthetic_data"]
    assert record["metrics"][0]["n_cases"] == 3
    assert str(tmp_path) not in (out / "record.json").read_text(encoding="utf-8")
    verdict = verify(out, cards=[synthetic])
    assert verdict.ok, verdict.errors


def test_made_up_volumes_under_a_card_of_real_ones_are_marked(results: Path, synthetic: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cards"
    shutil.copytree(synthetic, folder)
    card = folder / "synthetic" / "card.yaml"
    text = card.read_text(encoding="utf-8")
    assert "evidence:\n- synthetic_data\n" in text
    card.write_text(text.replace("evidence:\n- synthetic_data\n", ""), encoding="utf-8")
    (folder / "synthetic" / SYNTHETIC_MARK).write_text("{}", encoding="utf-8")
    assert call(results, folder, tmp_path / "record") == 0
    record = json.loads((tmp_path / "record" / "record.json").read_text(encoding="utf-8"))
    assert record["evidence"] == ["synthetic_data"]


def test_labels_that_the_export_numbered_anew_get_their_values_back(
    results: Path, synthetic: Path, tmp_path: Path
) -> None:
    assert call(results, synthetic, tmp_path / "plain") == 0
    values = [0, 2, 3, 1]  # nnU-Net's 1 is the card's 2, and so on
    number_of = np.argsort(values)
    for path in (results / "validation").glob("*.nii.gz"):
        volume = nibabel.load(path)
        renumbered = number_of[np.asarray(volume.dataobj)].astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(renumbered, volume.affine), path)
    summary = results / "validation" / "summary.json"
    content = json.loads(summary.read_text(encoding="utf-8"))
    for entry in content["metric_per_case"]:
        entry["metrics"] = {str(number_of[int(label)]): found for label, found in entry["metrics"].items()}
    summary.write_text(json.dumps(content), encoding="utf-8")
    described = {"harness": {"label_values": values}}
    (results.parent / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    assert call(results, synthetic, tmp_path / "renumbered") == 0
    plain, renumbered = (
        json.loads((tmp_path / name / "record.json").read_text(encoding="utf-8")) for name in ("plain", "renumbered")
    )
    assert renumbered["metrics"] == plain["metrics"]
    (results.parent / "dataset.json").unlink()
    assert call(results, synthetic, tmp_path / "wrong") == 2


def test_other_predictions_than_the_summarys_are_refused(
    results: Path, synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next(iter(sorted((results / "validation").glob("*.nii.gz"))))
    shutil.copyfile(synthetic / "synthetic" / "labels" / first.name, first)
    assert call(results, synthetic, tmp_path / "record") == 2
    assert "summary.json says Dice" in capsys.readouterr().err
    assert not (tmp_path / "record").exists()


@pytest.mark.parametrize(("part", "says"), [("plans.json", "Cannot read"), ("fold_0/validation", "There is no folder")])
def test_an_incomplete_folder_is_refused(
    results: Path, synthetic: Path, tmp_path: Path, part: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results.parent / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert call(results, synthetic, tmp_path / "record") == 2
    error = capsys.readouterr().err
    assert says in error or "Cannot read" in error


def test_another_folder_is_named(synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, synthetic, tmp_path / "record") == 2
    assert "is no fold of an nnU-Net v2 results folder" in capsys.readouterr().err
