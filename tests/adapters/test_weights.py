"""Finding the file of a weight set: what is here is verified, what is not here is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.adapters.weights import locate
from harness.cards.library import model_card
from harness.cards.model import Checkpoint, ModelCard, Place, WeightFile
from harness.errors import UserError
from harness.files import file_sha256


def card_with(**file: object) -> ModelCard:
    narrow = model_card("models_genesis.narrow8")[0]
    place = Place(kind="beside_card", where="w.pt")
    layout = Checkpoint(files=(WeightFile(name="w.pt", places=(place,), **file),))  # type: ignore[arg-type]
    return narrow.model_copy(update={"checkpoint": layout})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "w.pt").write_bytes(b"weights")
    return tmp_path / "w.pt"


def test_beside_the_card_with_agreeing_hash(file: Path) -> None:
    assert locate(card_with(bytes=7, sha256=file_sha256(file)), file.parent) == file


def test_in_the_weights_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / "store"))
    kept = tmp_path / "store" / "models_genesis.narrow8" / "w.pt"
    kept.parent.mkdir(parents=True)
    file.rename(kept)
    assert locate(card_with(), tmp_path) == kept


@pytest.mark.parametrize(
    ("facts", "says"),
    [({"bytes": 8}, "has 7 bytes, the card of this file says 8"), ({"sha256": "0" * 64}, "hashes to")],
)
def test_another_file_is_refused(file: Path, facts: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        locate(card_with(**facts), file.parent)


def test_absent_weights_say_what_to_get_and_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError) as caught:
        locate(model_card("models_genesis.chest_ct")[0], tmp_path)
    text = str(caught.value)
    assert "Genesis_Chest_CT.pt from https://huggingface.co/MrGiovanni/ModelsGenesis" in text
    assert str(tmp_path / "models_genesis.chest_ct") in text


def test_a_card_without_a_file_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="init=scratch"):
        locate(model_card("models_genesis.narrow8")[0], tmp_path)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file at weights="):
        locate(card_with(), tmp_path, tmp_path / "absent.pt")
