"""Every golden case, for every definition listed there."""

import json
from pathlib import Path

import pytest

from harness.scoring import score

CASES = list(json.loads((Path(__file__).parent / "data/expected.json").read_text(encoding="utf-8"))["cases"])
COUNTS = ("tp", "fp", "fn")


@pytest.mark.parametrize("case", CASES)
def test_adopted_values(case, expected, volumes):
    answers = expected[case]["adopted"]
    metrics = sorted({metric for values in answers.values() for metric in values} - set(COUNTS))
    rows = score(
        volumes[f"{case}_pred"],
        volumes[f"{case}_ref"],
        volumes[f"{case}_spacing"],
        expected[case]["classes"],
        metrics,
    )
    found = {(row["class"], row["metric"]): row for row in rows}
    for name, values in answers.items():
        for metric, answer in values.items():
            row = found[name, "dice" if metric in COUNTS else metric]
            value = row[metric] if metric in COUNTS else row["value"]
            assert value == pytest.approx(float(answer), rel=1e-9, abs=1e-12, nan_ok=True), (name, metric)
