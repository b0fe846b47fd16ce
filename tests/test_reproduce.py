"""From a printed number to a verdict: the experiments that attempt it, their plan, their cells, the comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cards.library import claims
from harness.cli import main
from harness.errors import UserError
from harness.reproduce import experiments_of, reproduce

CLAIM = "r104"


def own_experiment(folder: Path) -> None:
    (folder / "experiment").mkdir(parents=True)
    text = (
        "# @package _global_\nsweep: {seed: [0]}\nregistered:\n  id: own_attempt\n  margin: 0.01\n"
        f"  claims: [{CLAIM}_own, r999]\n"
    )
    (folder / "experiment" / "own_attempt.yaml").write_text(text, encoding="utf-8")


def test_experiments_name_the_claims_that_they_attempt(tmp_path: Path) -> None:
    known = {claim.id for claim in claims().results}
    assert CLAIM in known
    assert experiments_of(CLAIM)
    own_experiment(tmp_path)
    assert experiments_of("r999", tmp_path) == ["own_attempt"]
    assert experiments_of("r999") == []


def test_claims_that_cannot_be_attempted_say_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no claim called 'r9999'"):
        reproduce("r9999")
    lonely = next(claim.id for claim in claims().results if not experiments_of(claim.id))
    with pytest.raises(UserError, match=f"No experiment attempts {lonely} .*harness compare {lonely}"):
        reproduce(lonely)


@pytest.mark.slow
def test_a_claim_is_planned_run_and_compared(
    cell: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lonely = next(claim.id for claim in claims().results if not experiments_of(claim.id))
    own_experiment(tmp_path / "configs")
    path = tmp_path / "configs" / "experiment" / "own_attempt.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("r999", lonely), encoding="utf-8")
    command = ["reproduce", lonely, *cell, "--config-dir", str(tmp_path / "configs")]
    assert main([*command, "--plan"]) == 0
    assert "not_attempted: nothing has run yet" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["experiments"] == ["own_attempt"]
    assert found["report"]["ran"] == 1
    # synthetic data never count as a reproduction
    assert found["comparison"]["value"]["state"] in ("not_attempted", "not_reproducible_as_published")
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"]["ran"] == 0


def test_missing_weights_and_data_stop_the_attempt_before_it_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be attempted yet: .*harness data add"):
        reproduce(CLAIM, (f"out={tmp_path / 'runs'}", "protocol.patches.size=[64,64,64]"))
    assert not (tmp_path / "runs").exists()
