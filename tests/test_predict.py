"""A finished run predicts scans of any folder exactly as it predicted its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from harness.cli import main
from harness.config import run_config
from harness.errors import HarnessError, UserError
from harness.predict import ensemble, find_scans, predict, trained
from harness.run import run
from harness.training.state import load_latest, save_state


def test_the_runs_own_scan_gets_the_runs_own_label_map(
    cell: list[str], synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(run_config([*cell, "protocol.training.ema=0.5"])).parent
    (own,) = (folder / "predictions").glob("*.nii.gz")
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.copy(synthetic / "synthetic" / "images" / own.name, scans / "anyone.nii.gz")
    command = ["predict", str(folder), str(scans), "--out", str(tmp_path / "out"), "--cards", str(synthetic)]
    assert main(command) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / "anyone.nii.gz")]
    made = tmp_path / "out" / "anyone.nii.gz"
    assert made.read_bytes() == own.read_bytes()
    assert json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8"))["0"] == "background"

    # what lies there stays, unless said otherwise; a broken scan leaves nothing behind
    made.write_bytes(b"mine")
    predictor = trained(folder, [synthetic])
    (scans / "broken.nii.gz").write_bytes(b"no volume")
    with pytest.raises(UserError, match=r"broken\.nii\.gz"):
        predict(predictor, find_scans(scans, ["CT"]), tmp_path / "out")
    assert made.read_bytes() == b"mine"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["anyone.nii.gz", "labels.json"]
    (scans / "broken.nii.gz").unlink()
    predict(predictor, find_scans(scans, ["CT"]), tmp_path / "out", overwrite=True)
    assert made.read_bytes() == own.read_bytes()

    # two channels where the network knows one
    image = nibabel.load(scans / "anyone.nii.gz")
    both = np.stack([np.asarray(image.dataobj)] * 2, axis=-1)
    nibabel.save(nibabel.Nifti1Image(both, image.affine), scans / "both.nii.gz")
    with pytest.raises(UserError, match="has 2 channels, the network was trained on 1"):
        predictor.predict([scans / "both.nii.gz"])

    # a checkpoint that was changed since, of another network, or gone
    checkpoints = folder / "checkpoints"
    state = load_latest(checkpoints)
    assert state is not None
    next(iter(state["average"]["mean"].values()))[...] = 7
    save_state(checkpoints, state)
    with pytest.raises(HarnessError, match="is another run's or was changed"):
        trained(folder, [synthetic])
    state["average"] = None
    save_state(checkpoints, state)
    with pytest.raises(HarnessError, match="is not of this run"):
        trained(folder, [synthetic])
    shutil.rmtree(checkpoints)
    with pytest.raises(UserError, match="are gone"):
        trained(folder, [synthetic])
    with pytest.raises(UserError, match="holds no finished run"):
        trained(tmp_path)


@pytest.mark.slow
def test_several_runs_answer_with_their_mean_probability(
    cell: list[str], synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run(run_config([*cell, f"seed={seed}"])).parent for seed in (0, 1)]
    name = next((runs[0] / "predictions").glob("*.nii.gz")).name
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.copy(synthetic / "synthetic" / "images" / name, scans / name)
    command = ["predict", *map(str, runs), str(scans), "--out", str(tmp_path / "out"), "--cards", str(synthetic)]
    assert main(command) == 0
    capsys.readouterr()
    first, second = (trained(folder, [synthetic]) for folder in runs)
    both = ensemble([first, second])
    found = np.asarray(nibabel.load(tmp_path / "out" / name).dataobj)
    assert (found == both.predict([scans / name])).all()

    x = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        alone = torch.stack([one.network(x).softmax(dim=1) for one in (first, second)])
        torch.testing.assert_close(both.network(x).softmax(dim=1), alone.mean(dim=0))
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)  # so that neither could have answered for both

    settings = first.config.protocol.inference.model_copy(update={"overlap": 0.25})
    protocol = first.config.protocol.model_copy(update={"inference": settings})
    other = replace(second, config=second.config.model_copy(update={"protocol": protocol}))
    with pytest.raises(UserError, match=r"seed1.* differs from .*seed0.* in its inference"):
        ensemble([first, other])
    assert ensemble([first]) is first


def test_scans_are_found_by_name_or_number_of_their_channels(tmp_path: Path) -> None:
    names = ("FLAIR", "T1", "T1ce", "T2")
    for channel in ("flair", "t1", "t1ce", "t2"):
        (tmp_path / f"BraTS_1_{channel}.nii.gz").touch()
    for number in range(4):
        (tmp_path / f"two_000{number}.nii").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "whole.mha").touch()
    found = find_scans(tmp_path, names)
    assert sorted(found) == ["BraTS_1", "two", "whole"]
    assert [path.name for path in found["BraTS_1"]] == [f"BraTS_1_{c}.nii.gz" for c in ("flair", "t1", "t1ce", "t2")]
    assert [path.name for path in found["two"]] == [f"two_000{number}.nii" for number in range(4)]
    (tmp_path / "BraTS_1_t1ce.nii.gz").unlink()
    with pytest.raises(UserError, match=r"The scan BraTS_1 in .* lacks T1ce"):
        find_scans(tmp_path, names)
    assert list(find_scans(tmp_path, ("CT",)))[:2] == ["BraTS_1_flair", "BraTS_1_t1"]
    with pytest.raises(UserError, match="There is no folder"):
        find_scans(tmp_path / "absent", names)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="No scan was found"):
        find_scans(tmp_path / "empty", names)
