"""The records that come with the project still hold, and make a board."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from harness.leaderboard import build
from harness.records.verify import verify_all

RESULTS = Path(__file__).parents[2] / "results"


def test_every_record_of_ours_is_valid() -> None:
    verdicts = verify_all([RESULTS / "records"])
    assert len(verdicts) >= 31
    assert [(verdict.path, verdict.errors) for verdict in verdicts if verdict.errors] == []


def test_they_make_a_board_that_marks_weights_made_here(tmp_path: Path) -> None:
    build([RESULTS / "records"], tmp_path, cards=[RESULTS / "cards"])
    models = (tmp_path / "models" / "models_genesis.html").read_text(encoding="utf-8")
    assert "models genesis pretrained here" in models
    runs = [page.read_text(encoding="utf-8") for page in (tmp_path / "runs").glob("*/index.html")]
    assert len(runs) >= 31
    assert not [page for page in runs if "no card is called" in page]
    cells = [page.read_text(encoding="utf-8") for page in (tmp_path / "cells").glob("*.html")]
    (unet,) = [page for page in cells if "model=baseline.unet " in page]
    assert "protocol.training.steps=1000" in unet  # the protocol has 3,000: its name alone would run another cell


def test_a_pretraining_on_several_data_sets_carries_the_marks_of_each(tmp_path: Path, tools: Any) -> None:
    (record,) = (RESULTS / "records").glob("unlabelled_ct+ct_headneck_oar/**/record.json")
    copy = tmp_path / "record"
    shutil.copytree(record.parent, copy)
    assert "bundled_sample" in record.read_text(encoding="utf-8")
    tools.reseal(copy, lambda content: content.update(evidence=[]))
    (verdict,) = verify_all([copy])
    assert any("lacks the marks ['bundled_sample']" in finding.message for finding in verdict.findings)
    assert verdict.errors
