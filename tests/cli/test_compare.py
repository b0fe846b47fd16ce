"""``harness compare``."""

from __future__ import annotations

import json

import pytest

from harness.cli import main


def test_a_claim_explains_itself(tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "r011"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "VALUE not attempted",
        "GAIN not attempted",
        "mean of the five checkpoints NVIDIA released",
        "averaging claim: case_then_class",
        "weights claim: not stated",
        "protocol swin_unetr_brats21",
        "read together with: r135",
        "try it: harness sweep experiment=brats21_released_swin_fold0",
        "MARGIN 0.01, suggested, not fixed",
    ):
        assert words in said


def test_what_the_weights_have_seen_is_said(tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "r009", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["comparison"]["value"]["state"] == "not_reproducible_as_published"
    assert found["contamination"] == [
        "med3d.resnet152: train_overlap, the liver set of 3DSeg-8 is LiTS, with its labels"
    ]
    assert len(found["fields"]) == 14


def test_all_claims_at_once(tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 178
    assert lines[-1] == "110 not reproducible as published; 67 not attempted"


def test_a_claim_that_nobody_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "r0100"]) == 2
    assert "Did you mean 'r100'" in capsys.readouterr().err


def test_a_refused_record_is_named_and_left_out(synthetic, cell, tmp_path, capsys) -> None:
    from harness.config import run_config
    from harness.run import run

    folder = run(run_config([*cell, "protocol.training.steps=1", "protocol.scoring.metrics=[dice]"]))
    capsys.readouterr()
    record = folder / "record.json"
    record.write_text(record.read_text(encoding="utf-8").replace("scratch", "other"), encoding="utf-8")
    assert main(["compare", "r010", "--runs", str(tmp_path / "runs")]) == 0
    found = capsys.readouterr()
    assert "left out:" in found.err
    assert "VALUE  not attempted" in found.out
