"""The demo on the real bundled scans, with fewer steps: every part of the line, every mark, and a board to open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.demo import demo


@pytest.mark.slow
def test_the_demo_ends_with_a_board_and_valid_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    made = demo(out, 0, ("debug=smoke",), ("training.steps=3", "recipe.evaluation_batches=1"))
    records = {
        init: json.loads((folder / "record.json").read_text(encoding="utf-8"))
        for init, folder in (("pretrained", made.pretrained), ("scratch", made.scratch))
    }
    assert records["pretrained"]["evidence"] == ["bundled_sample", "self_pretrained"]
    assert records["scratch"]["evidence"] == ["bundled_sample"]
    assert records["pretrained"]["dataset"]["n_cases"] == {"train": 14, "val": 2, "test": 4}
    assert records["pretrained"]["contamination"]["status"] == "none"
    assert records["pretrained"]["weights"]["state_sha256"] != records["scratch"]["weights"]["state_sha256"]
    assert len(list((made.pretrained / "slices").glob("*.png"))) == 3
    page = made.board.read_text(encoding="utf-8")
    assert "not a reproduction" in page
    assert "models_genesis.demo" in page
    capsys.readouterr()
    assert main(["record", "verify", "--rescore", "--cards", str(made.cards), str(out / "runs")]) == 0
    assert capsys.readouterr().out.count("valid") == 3
