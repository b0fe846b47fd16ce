"""A fine-tuning mode through the whole line: the record says what was trained, and verifies."""

from __future__ import annotations

import json
from pathlib import Path

from harness.config import run_config
from harness.records.verify import verify
from harness.run import run


def test_a_linear_probe_is_recorded_as_one(cell: list[str], synthetic: Path) -> None:
    folder = run(run_config([*cell, "protocol.training.finetuning.mode=linear_probe"]))
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert record["kind"] == "probe"
    assert record["protocol"]["schedule"].endswith("; linear probe")
    parameters = record["model"]["parameters"]
    assert 0 < parameters["trainable"] < parameters["total"] / 100
    verdict = verify(folder, cards=[synthetic], data_root=synthetic / "synthetic", full=True)
    assert verdict.ok, verdict.findings
