"""Predicting again from recorded weights: the same answer, at a stated cost, and tampered weights are caught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli import main
from harness.config import run_config
from harness.errors import UserError
from harness.records.opened import open_record
from harness.records.verify import verify
from harness.reinfer import _compare, reinfer
from harness.run import run
from harness.training.state import read_state, write_state


@pytest.mark.slow
def test_recorded_weights_give_the_recorded_scores_and_others_do_not(
    cell: list[str], synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run(run_config(cell))
    before = {path: path.read_bytes() for path in record.parent.rglob("*") if path.is_file() and path.name != "lock"}
    places = {"cards": [synthetic], "data_root": synthetic / "synthetic", "cache": tmp_path / "cache"}
    found = reinfer(record.parent, **places)
    assert found.verification.ok, found.verification.errors
    assert (found.cases, found.same, found.largest) == (1, 1, 0.0)
    assert found.seconds > 0
    assert "training nothing" in found.cost
    assert found.verification.trust < 4  # this is the same hardware, whatever else holds
    after = {path: path.read_bytes() for path in record.parent.rglob("*") if path.is_file() and path.name != "lock"}
    assert after == before  # looked at, never changed

    # What another machine would be told: the same answer on other hardware is the next level.
    then = open_record(record)
    elsewhere = then.record.model_copy(
        update={"hardware": then.record.hardware.model_copy(update={"cpu": "another processor"})}
    )
    clean = replace(verify(record, cards=[synthetic]), trust=2)
    assert _compare(clean, then, replace(then, record=elsewhere)).verification.trust == 4
    assert _compare(clean, then, then).verification.trust == 3
    moved = [row._replace(value=row.value / 2) if row.value else row for row in then.rows]
    assert not _compare(clean, then, replace(then, columns=None, listed=moved)).verification.ok

    current = record.parent / "checkpoints" / "state.pt"
    state = read_state(current)
    state["network"] = {name: value * 1.5 for name, value in state["network"].items()}
    write_state(current, state)
    told = ["record", "verify", str(record.parent), "--reinfer", "--cards", str(synthetic)]
    told += ["--data-root", str(synthetic / "synthetic"), "--cache", str(tmp_path / "cache")]
    assert main(told) == 1
    assert "weights.final_sha256" in capsys.readouterr().out


def test_a_record_without_its_weights_is_answered(cell: list[str], synthetic: Path, tmp_path: Path) -> None:
    record = run(run_config([*cell, "seed=1"]))
    for path in sorted((record.parent / "checkpoints").iterdir()):
        path.unlink()
    (record.parent / "checkpoints").rmdir()
    with pytest.raises(UserError, match="holds no weights"):
        reinfer(record.parent, cards=[synthetic])
