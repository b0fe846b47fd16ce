"""A run that is killed and started again ends as one that never was: same weights, scores and result_id."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).with_name("kill_driver.py")
SIGKILLED = -9

# point, and how often it passes before the process dies there; smoke has 6 steps and a checkpoint every 3
KILLS: dict[str, list[tuple[str, int]]] = {
    "before the first checkpoint": [("in_step", 2)],
    "after a checkpoint": [("in_step", 4)],
    "while a checkpoint is written": [("in_checkpoint_write", 1)],
    "between the renames of a checkpoint": [("between_renames", 0)],
    "while predictions are written": [("in_prediction", 0)],
    "while the record is written": [("in_record", 2)],
    "again and again": [("in_step", 1), ("in_checkpoint_write", 0), ("in_step", 1), ("in_step", 4), ("in_record", 1)],
}


QUICK = "again and again"  # it dies at most of the points; the others are run by .ci/run


def overrides(synthetic: Path, folder: Path, cache: Path) -> list[str]:
    return [
        "model=models_genesis.narrow8",
        "dataset=synthetic",
        "init=scratch",
        "debug=smoke",
        "protocol.training.selection.rule=best_val",
        "protocol.training.selection.every=2",
        "protocol.training.ema=0.5",
        f"cards=['{synthetic}']",
        f"data_root='{synthetic / 'synthetic'}'",
        f"out='{folder}'",
        f"cache='{cache}'",
        "threads=1",
    ]


def drive(plan: object, timeout: float = 280) -> Any:
    done = subprocess.run(
        [sys.executable, str(DRIVER)],
        input=json.dumps(plan),
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def executed(synthetic: Path, top: Path, names: list[str]) -> dict[str, Any]:
    """Run these plans; return the folder of each and the exit codes."""
    folders = {name: top / name.replace(" ", "-") for name in names}
    plan = [
        {
            "arguments": ["run", *overrides(synthetic, folder, top / "cache")],
            "kills": [*KILLS.get(name, []), [None, 0]],
        }
        for name, folder in folders.items()
    ]
    return dict(zip(folders, zip(folders.values(), drive(plan), strict=True), strict=True))


@pytest.fixture(scope="module")
def outcomes(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run one plan and one undisturbed run."""
    return executed(synthetic, tmp_path_factory.mktemp("killed"), ["undisturbed", QUICK])


@pytest.fixture(scope="module")
def other_outcomes(outcomes: dict[str, Any], synthetic: Path) -> dict[str, Any]:
    """Run every other plan, beside the undisturbed run."""
    top: Path = outcomes["undisturbed"][0].parent
    return {**outcomes, **executed(synthetic, top, [name for name in KILLS if name != QUICK])}


def record_of(folder: Path) -> tuple[dict[str, Any], Path]:
    (path,) = folder.glob("*/record/record.json")
    return json.loads(path.read_text(encoding="utf-8")), path.parent


def science_of_cases(folder: Path) -> list[dict[str, str]]:
    with (folder / "cases.csv").open(newline="", encoding="utf-8") as stream:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]


def curve(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_the_same(undisturbed: Path, folder: Path) -> None:
    expected, expected_folder = record_of(undisturbed)
    found, found_folder = record_of(folder)
    assert found["weights"]["final_sha256"] == expected["weights"]["final_sha256"]
    assert science_of_cases(found_folder) == science_of_cases(expected_folder)
    assert curve(found_folder) == curve(expected_folder)
    assert found["result_id"] == expected["result_id"]
    assert found["run_id"] != expected["run_id"]
    assert not list(folder.rglob(".tmp-*")), "a temporary file was left behind"


def test_a_killed_run_ends_as_one_that_never_was(outcomes: dict[str, Any]) -> None:
    folder, codes = outcomes[QUICK]
    assert codes == [SIGKILLED] * len(KILLS[QUICK]) + [0]
    assert_the_same(outcomes["undisturbed"][0], folder)
    assert record_of(outcomes["undisturbed"][0])[0]["cost"]["resumed"] == 0
    assert record_of(folder)[0]["cost"]["resumed"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in KILLS if name != QUICK])
def test_wherever_it_is_killed(other_outcomes: dict[str, Any], name: str) -> None:
    folder, codes = other_outcomes[name]
    assert codes == [SIGKILLED] * len(KILLS[name]) + [0]
    assert_the_same(other_outcomes["undisturbed"][0], folder)
    assert record_of(folder)[0]["cost"]["resumed"] == (0 if name == "before the first checkpoint" else 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills_at_random_moments(synthetic: Path, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(50)]
    once = "protocol.training.selection.every=6"  # validating takes longest, and is nothing that a kill could spoil
    plan = [[*overrides(synthetic, folder, folder / "cache"), once] for folder in folders]
    codes = drive({"folders": plan, "kills": 50, "seed": 0}, timeout=580)
    assert [run[-1] for run in codes] == [0] * len(codes)
    assert sum(run.count(SIGKILLED) for run in codes) == 50
    for folder, _ in zip(folders[1:], codes[1:], strict=False):
        assert_the_same(folders[0], folder)
