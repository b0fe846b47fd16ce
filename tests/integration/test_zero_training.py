"""What learns nothing has a record like everything else: zero steps, no weights, and only the training cases seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from harness.cli import main
from harness.config import run_config
from harness.errors import UserError
from harness.leaderboard import build
from harness.records.verify import verify
from harness.run import run
from harness.sweep import expand


def of_rule(cell: list[str], rule: str) -> list[str]:
    kept = [item for item in cell if not item.startswith(("model=", "init="))]
    return [*kept, f"model=baseline.{rule}", "init=other", "protocol.scoring.metrics=[dice]"]


@pytest.mark.parametrize("rule", ["prior", "threshold"])
def test_a_rule_leaves_a_record_that_verifies(rule: str, cell: list[str], synthetic: Path, tmp_path: Path) -> None:
    folder = run(run_config(of_rule(cell, rule)))
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert (record["kind"], record["model"]["init"]) == ("zero_training_baseline", "other")
    assert (record["protocol"]["steps"], record["protocol"]["samples_seen"]) == (0, 0)
    assert record["model"]["parameters"] == {"total": 0, "trainable": 0}
    assert record["contamination"]["status"] == "none"
    assert record["protocol"]["selection"]["rule"] == "none"
    assert record["protocol"]["patch"] is None
    assert "no window moved" in record["reasons"]["protocol.patch"]
    assert record["evidence"] == ["synthetic_data"]
    assert record["metrics"][0]["value"] > 0.1
    verdict = verify(folder, rescore=True, full=True, cards=[synthetic], data_root=synthetic / "synthetic")
    assert verdict.ok, verdict.findings
    first_page = build([tmp_path / "runs"], tmp_path / "board", cards=[synthetic])
    (cell_page,) = (first_page.parent / "cells").glob("*.html")
    assert "A rule that trains nothing: the floor" in cell_page.read_text(encoding="utf-8")
    run_page = (first_page.parent / "runs" / record["run_id"] / "index.html").read_text(encoding="utf-8")
    assert "Rule without training, without weights, protocol smoke" in run_page
    assert f"baseline.{rule}" in (first_page.parent / "runs.html").read_text(encoding="utf-8")


def test_only_the_training_cases_are_looked_at(cell: list[str], synthetic: Path, tmp_path: Path) -> None:
    states = {}
    for name, changed in (("as_they_are", None), ("test", "case004"), ("train", "case000")):
        cards = tmp_path / name
        shutil.copytree(synthetic, cards)
        if changed:
            path = next((cards / "synthetic" / "labels").glob(f"{changed}*"))
            stored = nibabel.load(path)
            labels = np.flip(np.asarray(stored.dataobj), axis=0).copy()
            nibabel.save(nibabel.Nifti1Image(labels, stored.affine), path)
        moved = [word.replace(str(synthetic), str(cards)) for word in of_rule(cell, "prior")]
        moved = [word for word in moved if not word.startswith("out=")] + [f"out={tmp_path / 'runs' / name}"]
        record = json.loads((run(run_config(moved)) / "record.json").read_text(encoding="utf-8"))
        states[name] = record["weights"]["state_sha256"]
        roles = record["dataset"]["n_cases"]
    assert roles["train"] >= 2
    assert states["as_they_are"] == states["test"]
    assert states["as_they_are"] != states["train"]


def test_a_rule_is_planned_and_never_called_a_network(cell: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *of_rule(cell, "prior")]) == 0
    said = capsys.readouterr().out
    assert "no network" in said
    assert "0 steps, 0 samples" in said
    assert "weights" not in said
    for override, words in (
        ("init=scratch", "is a rule without weights or training"),
        ("model=baseline.unet_small", "is a network"),
    ):
        with pytest.raises(UserError, match=words):
            expand([*of_rule(cell, "prior"), override])
        with pytest.raises(UserError, match=words):
            run(run_config([*of_rule(cell, "prior"), override]))
    with pytest.raises(UserError, match="no probabilities"):
        run(run_config([*of_rule(cell, "prior"), "protocol.scoring.sums=true"]))
