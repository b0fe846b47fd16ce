"""Scoring a folder that anything may have written: matched, compared, refused, and the numbers of a known answer."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from harness.cli import main


def volume(path: Path, labels: np.ndarray, shift: float = 0.0, zoom: float = 1.0) -> None:
    affine = np.diag([2.0 * zoom, 1.0, 3.0, 1.0])
    affine[0, 3] = shift
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), affine), path)


def cube(start: int, label: int = 1) -> np.ndarray:
    labels = np.zeros((12, 12, 12))
    labels[start : start + 4, 4:8, 4:8] = label
    return labels


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for case, start in (("a", 4), ("b", 5)):
        volume(tmp_path / "reference" / f"{case}.nii.gz", cube(4))
        volume(tmp_path / "prediction" / f"{case}.nii.gz", cube(start))
    return tmp_path / "prediction", tmp_path / "reference"


def call(folders: tuple[Path, Path], *more: str) -> int:
    prediction, reference = folders
    out = prediction.parent / "out"
    return main(
        ["score", "--prediction", str(prediction), "--reference", str(reference), "--out", str(out), *more]
        + ([] if "--dataset" in more or "--labels" in more else ["--labels", "cube=1"])
    )


def test_the_numbers_are_right_and_written(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(folders, "--metrics", "dice,hd,hd95") == 0
    out = folders[0].parent / "out"
    with (out / "cases.csv").open(newline="", encoding="utf-8") as stream:
        values = {(row["case_id"], row["metric_id"]): float(row["value"]) for row in csv.DictReader(stream)}
    assert values["a", "dice.hard.native.v1"] == 1.0
    assert values["b", "dice.hard.native.v1"] == 0.75  # one of four planes is off on either side
    assert values["b", "hd.native.v1"] == 2.0  # one voxel along the axis of 2 mm
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["metrics"]["dice"]["overall"]["value"] == 0.875
    assert summary["metrics"]["dice"]["overall"]["n"] == 2
    assert "dice: 0.8750  (n 2, undefined 0)" in capsys.readouterr().out


def test_missing_and_extra_cases_are_refused_unless_told(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    prediction, reference = folders
    volume(reference / "c.nii.gz", cube(4))
    assert call(folders) == 2
    assert "1 of 3 cases have no prediction: c" in capsys.readouterr().err
    assert not (prediction.parent / "out").exists()
    assert call(folders, "--missing", "skip") == 0
    assert "left out, no prediction: c" in capsys.readouterr().out
    assert call(folders, "--missing", "empty") == 0
    summary = json.loads((prediction.parent / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["metrics"]["dice"]["overall"]["value"] == pytest.approx((1 + 0.75 + 0) / 3)
    assert summary["metrics"]["dice"]["overall"]["states"]["pred_empty"] == 1
    volume(prediction / "c.nii.gz", cube(4))
    volume(prediction / "d.nii.gz", cube(4))
    assert call(folders) == 2
    assert "1 predictions have no reference: d" in capsys.readouterr().err
    assert call(folders, "--ignore-extra") == 0


@pytest.mark.parametrize(("change", "says"), [({"shift": 1.0}, "1 mm apart"), ({"zoom": 1.01}, "mm apart")])
def test_another_grid_is_refused(
    folders: tuple[Path, Path], change: dict[str, float], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    volume(folders[0] / "b.nii.gz", cube(4), **change)
    assert call(folders) == 2
    error = capsys.readouterr().err
    assert "Case 'b': prediction and reference do not lie on one grid" in error
    assert says in error


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--labels", "cube"], "is not NAME=1"),
        (["--labels", "cube=x"], "is not NAME=1"),
        (["--metrics", "dicee"], "Did you mean 'dice'"),
        (["--policy", "adoptd"], "Did you mean 'adopted'"),
        (["--dataset", "ct_headneck"], "There is no data set"),
    ],
)
def test_mistakes_are_answered(
    folders: tuple[Path, Path], more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(folders, *more) == 2
    assert says in capsys.readouterr().err


def test_a_label_that_is_no_class_is_refused(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    volume(folders[0] / "b.nii.gz", cube(4, label=7))
    assert call(folders) == 2
    assert "the prediction holds the labels [7]" in capsys.readouterr().err


def test_regions_may_overlap(folders: tuple[Path, Path]) -> None:
    volume(folders[1] / "b.nii.gz", cube(4) + cube(6))  # labels 1 and 2
    assert call(folders, "--labels", "one=1,whole=1+2") == 0


def test_a_run_is_rescored_by_other_metrics(cell: list[str], synthetic: Path, tmp_path: Path) -> None:
    assert main(["run", *cell]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    before = (run / "record" / "record.json").read_bytes()
    place = ["--cards", str(synthetic), "--data-root", str(synthetic / "synthetic")]
    assert main(["rescore", str(run), "--metrics", "dice,nsd@3", *place]) == 0
    summary = json.loads((run / "rescored" / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["metrics"]) == {"dice", "nsd@3"}
    record = json.loads(before)
    assert summary["metrics"]["dice"]["overall"]["value"] == pytest.approx(record["metrics"][0]["value"], abs=1e-12)
    assert (run / "record" / "record.json").read_bytes() == before


def test_soft_metrics_come_from_sums_written_at_inference(
    cell: list[str], synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["protocol.scoring.sums=true", "protocol.scoring.metrics=[dice,soft_dice]"]
    assert main(["run", *cell, *more]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    record = json.loads((run / "record" / "record.json").read_text(encoding="utf-8"))
    stated = {metric["id"]: metric["value"] for metric in record["metrics"]}
    assert set(stated) == {"dice.hard.native.v1", "dice.soft.native.v1"}
    place = ["--cards", str(synthetic), "--data-root", str(synthetic / "synthetic")]
    assert main(["rescore", str(run), "--metrics", "soft_dice,dice_any_p,iou_genesis", *place]) == 0
    summary = json.loads((run / "rescored" / "summary.json").read_text(encoding="utf-8"))["metrics"]
    assert summary["soft_dice"]["overall"]["value"] == pytest.approx(stated["dice.soft.native.v1"], abs=1e-12)
    # an untrained softmax leaves no probability at 0, so every voxel is a prediction of every class
    assert 0 < summary["dice_any_p"]["overall"]["value"] < 0.5
    shutil.rmtree(run / "sums")
    assert main(["rescore", str(run), "--metrics", "soft_dice", *place]) == 2
    assert "protocol.scoring.sums=true" in capsys.readouterr().err
