"""Bad data meet ``harness run``: a clear message, exit code 2, and nothing half-written anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from harness.cli import main


def image_of(root: Path) -> Path:
    return next(iter(sorted((root / "images").glob("*.nii.gz"))))


def label_of(root: Path) -> Path:
    return root / "labels" / image_of(root).name


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> None:
    volume = nibabel.load(path)
    affine = volume.affine.copy()
    affine[0, 3] += shift
    nibabel.save(nibabel.Nifti1Image(change(np.asarray(volume.dataobj)), affine), path)


def no_label(root: Path) -> None:
    label_of(root).unlink()


def strange_label(root: Path) -> None:
    def change(labels: np.ndarray) -> np.ndarray:
        labels = labels.copy()
        labels[0, 0, 0] = 9
        return labels

    rewrite(label_of(root), change)


def other_grid(root: Path) -> None:
    rewrite(label_of(root), lambda labels: labels, shift=5.0)


def other_shape(root: Path) -> None:
    rewrite(label_of(root), lambda labels: labels[:-1])


def cut_gzip(root: Path) -> None:
    path = image_of(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def not_a_number(root: Path) -> None:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float32)
        values[3, 4, 5] = np.nan
        return values

    rewrite(image_of(root), change)


def gone(root: Path) -> None:
    shutil.rmtree(root)


def a_case_of_the_split(root: Path) -> None:
    image_of(root).unlink()
    label = root / "labels"
    next(iter(sorted(label.glob("*.nii.gz")))).unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_label, "label"),
        (strange_label, "9"),
        (other_grid, "mm"),
        (other_shape, "shape"),
        (cut_gzip, "cut"),
        (not_a_number, "finite"),
        (gone, "no such folder"),
        (a_case_of_the_split, "the split names it"),
    ],
)
def test_bad_data_are_refused(
    cell: list[str],
    synthetic: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "data"
    shutil.copytree(synthetic / "synthetic", root)
    case = image_of(root).name.removesuffix(".nii.gz")
    spoil(root)
    arguments = [item for item in cell if not item.startswith("data_root=")] + [f"data_root={root}"]
    assert main(["run", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("harness: ")
    assert says in error
    assert spoil is gone or case in error
    left = {path.name for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert left <= {"lock", "run.json"}
    # what the check found in the sound files is kept, and nothing else
    assert {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()} <= {"synthetic.json"}


def test_a_mismatch_of_modality_is_refused_or_said(cell: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    other = [item for item in cell if not item.startswith(("dataset=", "data_root="))] + ["dataset=unlabelled_mr"]
    assert main(["run", *other]) == 2
    assert "The weights expect CT, unlabelled_mr is MR" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop to a user without permission")
def test_no_permission_is_the_machines_fault(cell: list[str], tmp_path: Path) -> None:
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.getuid() and len(folder.parts) > 2:
            folder.chmod(0o755)
    command = ["run", *cell]
    code = (
        "import os, sys; import harness.run, harness.config; from harness.cli import main;"
        f"os.setegid(65534); os.seteuid(65534); sys.exit(main({command!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1, done.stderr
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
