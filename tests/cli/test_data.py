"""``harness data``: what a person gets to see of a file and of a data set, and the exit codes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest

from harness.cli import main
from harness.data import check as checking
from harness.data import preprocessing, reading
from harness.data.nifti import read_nifti
from harness.data.synthetic import write

FIELDS = {
    *("path", "shape", "dtype", "spacing", "orientation", "affine", "canonical_shape", "min", "max", "mean"),
    *("non_finite", "label_counts", "qform_code", "sform_code"),
}


def labels_file(path: Path) -> Path:
    data = np.zeros((4, 5, 6), np.uint8)
    data[1, 2, 3:5] = 7
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-0.5, -0.5, 2.5, 1.0])), path)
    return path


def test_a_file_is_described_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "describe", str(labels_file(tmp_path / "x.nii.gz")), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) >= FIELDS
    assert (found["shape"], found["dtype"], found["orientation"]) == ([4, 5, 6], "uint8", "LPS")
    assert found["label_counts"] == {"0": 118, "7": 2}


def test_a_file_is_described_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "describe", str(labels_file(tmp_path / "x.nii"))]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["shape"] == "4 5 6"
    assert lines["affine"] == "-0.5 0 0 0; 0 -0.5 0 0; 0 0 2.5 0; 0 0 0 1"
    assert lines["label_counts"] == "0: 118, 7: 2"


@pytest.mark.parametrize("kind", ["missing", "cut", "no volume", "flat"])
def test_what_cannot_be_read_is_refused_with_a_reason(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("x.txt" if kind == "no volume" else "x.nii.gz")
    if kind == "cut":
        path.write_bytes(labels_file(path).read_bytes()[:-9])
    elif kind == "flat":
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5), np.uint8), np.eye(4)), path)
    elif kind == "no volume":
        path.write_text("no volume", encoding="utf-8")
    assert main(["data", "describe", str(path), "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert str(path) in said.err
    assert len(said.err.splitlines()) == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "synthetic", cases=3)
    return tmp_path


def run_check(folder: Path, *more: str) -> int:
    return main(["data", "check", "synthetic", "--cards", str(folder), "--workers", "1", *more])


def test_a_check_writes_a_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert run_check(folder, "--html", str(page), "--json") == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["fingerprint"] in page.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").count("data:image/png") == 3
    assert str(page) in said.err


def test_no_file_is_opened_twice_for_a_page(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[Path] = Counter()
    monkeypatch.setattr(reading, "read_nifti", lambda path: (opened.update([path]), read_nifti(path))[1])
    pages = [tmp_path / name for name in ("seen.html", "remembered.html")]
    assert run_check(folder, "--html", str(pages[0])) == 0
    assert opened == dict.fromkeys((folder / "synthetic").rglob("*.nii.gz"), 1)
    assert run_check(folder, "--html", str(pages[1])) == 0  # nothing is checked again, pictures need the files
    assert opened == dict.fromkeys((folder / "synthetic").rglob("*.nii.gz"), 2)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_a_check_that_finds_errors_still_writes_its_page_and_exits_with_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "synthetic/labels/case001.nii.gz").unlink()
    assert run_check(folder, "--html", str(tmp_path / "page.html")) == 2
    assert "error: case case001: label" in capsys.readouterr().out
    assert "case001" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_files_that_did_not_change_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    inspect = checking.inspect_case
    monkeypatch.setattr(
        checking, "inspect_case", lambda card, case, look: (opened.append(case.id), inspect(card, case, look))[1]
    )
    assert run_check(folder) == 0
    assert sorted(opened) == ["case000", "case001", "case002"]
    assert run_check(folder) == 0
    assert len(opened) == 3
    labels_file(folder / "synthetic/labels/case001.nii.gz")
    assert run_check(folder) == 2
    assert opened[3:] == ["case001"]
    assert run_check(folder, "--fresh") == 2
    assert sorted(opened[4:]) == ["case000", "case001", "case002"]


def test_a_set_is_prepared_once_for_a_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = preprocessing._make
    monkeypatch.setattr(preprocessing, "_make", lambda case, *rest: (made.append(case.id), make(case, *rest))[1])
    command = ["data", "prepare", "--cards", str(folder), "synthetic", "model=models_genesis.narrow8"]
    command += ["protocol=demo_ct", f"cache={tmp_path / 'cache'}", "executor.workers=1"]
    for _ in range(2):
        assert main(command) == 0
        assert "3 cases of synthetic are ready for models_genesis.narrow8 in" in capsys.readouterr().out
        assert sorted(made) == ["case000", "case001", "case002"]
    assert main([*command, "protocol.input.spacing=[4,4,4]"]) == 0
    assert len(made) == 6
    (folder / "synthetic/labels/case001.nii.gz").unlink()
    assert main(command) == 2
    assert "case001" in capsys.readouterr().err


def test_made_up_volumes_are_not_written_among_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "synthesize", "--out", str(tmp_path / "own"), "--cases", "3"]
    assert main([*command, "--channels", "2"]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "own").rglob("*.*")}
    assert main(command) == 2  # one channel beside two would be a set that no card describes
    assert "is not an empty folder" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "own").rglob("*.*")} == before
    assert main(["data", "synthesize", "--out", str(tmp_path / "none"), "--channels", "0"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
