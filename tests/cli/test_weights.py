"""``harness weights`` as a person meets it: what it prints and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from harness.cards.library import model_card
from harness.cli import main
from harness.files import file_sha256

MODEL = "own.tiny"


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one card, whose file is served nowhere."""
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / "store"))
    (tmp_path / "mine.pt").write_bytes(b"weights")
    card = model_card("models_genesis.narrow8")[0].model_dump(mode="json", exclude_defaults=True)
    file = {
        "name": "w.pt",
        "bytes": 7,
        "sha256": file_sha256(tmp_path / "mine.pt"),
        "places": [{"kind": "form", "where": "https://form.invalid", "official": False}],
    }
    folder = tmp_path / "cards"
    folder.mkdir()
    (folder / "own.yaml").write_text(
        yaml.safe_dump({**card, "id": MODEL, "checkpoint": {"files": [file]}}), encoding="utf-8"
    )
    return folder


def test_a_file_is_listed_added_and_verified(cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [MODEL, "--cards", str(cards)]
    assert main(["weights", "list", *given]) == 0
    first, place = capsys.readouterr().out.splitlines()
    assert first == "own.tiny  w.pt  not here  0.0 MB, hash published"
    assert place == "    https://form.invalid (a form to fill in) (not official)"
    assert main(["weights", "verify", *given]) == 2
    assert main(["weights", "fetch", *given]) == 2
    text = capsys.readouterr().err
    assert "are not on this machine" in text
    assert "without a person" in text
    assert text.count(str(tmp_path / "store" / MODEL)) == 2

    assert main(["weights", "add", MODEL, str(tmp_path / "mine.pt"), "--cards", str(cards)]) == 0
    stored = tmp_path / "store" / MODEL / "w.pt"
    assert capsys.readouterr().out == f"{stored}\n"
    assert main(["weights", "fetch", *given]) == 0
    assert main(["weights", "verify", *given]) == 0
    assert f"valid  {stored}\n       agrees with the published hash" in capsys.readouterr().out
    assert main(["weights", "list", *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["path"] == str(stored)

    stored.write_bytes(b"WEIGHTS")
    assert main(["weights", "verify", *given]) == 1
    assert "WRONG " in capsys.readouterr().out


def test_every_shipped_file_is_listed_with_a_place_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) > 40
    assert {row["path"] for row in rows} == {None}
    genesis = next(row for row in rows if row["file"] == "Genesis_Chest_CT.pt")
    assert genesis["places"] == ["https://huggingface.co/MrGiovanni/ModelsGenesis/resolve/4f4e9cb/Genesis_Chest_CT.pt"]
