"""Metrics of probabilities through the whole line: pooled ones too are in the record, and their sums beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.config import run_config
from harness.errors import UserError
from harness.files import canonical_json, file_sha256
from harness.records.identity import result_id, run_id
from harness.records.sums import parse_sums
from harness.records.verify import verify
from harness.run import run
from harness.scoring.soft import soft_value

SOFT = "protocol.scoring.metrics=[iou_genesis,soft_dice,dice]"


def test_a_pooled_metric_of_probabilities_is_in_the_record(
    cell: list[str], synthetic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(run_config([*cell, SOFT, "protocol.scoring.sums=true"]))
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    genesis = record["metrics"][0]
    assert (genesis["id"], genesis["averaging"]) == ("iou.genesis.native.v1", "pooled")
    assert record["sums_sha256"] == file_sha256(folder / "sums.json")
    (sums,) = parse_sums((folder / "sums.json").read_text(encoding="utf-8")).values()
    both = [soft_value("iou_genesis", one) for one in sums.values()]
    for name, one in sums.items():
        assert genesis["per_class"][name]["value"] == pytest.approx(soft_value("iou_genesis", one))
    assert min(both) - 1e-9 <= genesis["value"] <= 1
    first, *others = sums.values()
    assert genesis["value"] == pytest.approx(soft_value("iou_genesis", sum(others, first)))
    places = {"cards": [synthetic], "data_root": synthetic / "synthetic"}
    verdict = verify(folder, rescore=True, full=True, **places)
    assert verdict.ok, verdict.findings

    capsys.readouterr()
    command = ["rescore", str(folder.parent), "--metrics", "iou_genesis", "--cards", str(synthetic)]
    assert main([*command, "--data-root", str(synthetic / "synthetic"), "--workers", "1"]) == 0
    again = json.loads((folder.parent / "rescored" / "summary.json").read_text(encoding="utf-8"))
    assert again["metrics"]["iou_genesis"]["overall"]["value"] == pytest.approx(genesis["value"])

    # a better number in the sums is seen, though every hash was made to fit it
    content = json.loads((folder / "sums.json").read_text(encoding="utf-8"))
    (case,) = content
    name = next(iter(content[case]))
    content[case][name]["n_above_y"] = [count + 1 for count in content[case][name]["n_above_y"]]
    (folder / "sums.json").write_text(canonical_json(content), encoding="utf-8")
    record["sums_sha256"] = file_sha256(folder / "sums.json")
    record["result_id"] = result_id(record)
    record["run_id"] = run_id(record)
    (folder / "record.json").write_text(canonical_json(record), encoding="utf-8")
    assert {finding.check for finding in verify(folder, **places).errors} == {3, 4}


def test_without_sums_the_error_says_what_to_switch_on(cell: list[str]) -> None:
    with pytest.raises(UserError, match=r"protocol\.scoring\.sums=true"):
        run_config([*cell, SOFT])
