"""Finding the file of a weight set: what is here is verified, what is not here is explained."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.adapters.weights import add, fetch, locate, standing, weights_folder
from harness.cards.library import model_card
from harness.cards.model import Checkpoint, ModelCard, Place, WeightFile
from harness.errors import HarnessError, UserError
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


def test_a_hash_that_is_not_published_is_noted_at_the_first_use_and_compared_later(file: Path, tmp_path: Path) -> None:
    card = card_with()
    note = file.with_name("w.pt.sha256.json")
    assert locate(card, tmp_path) == file
    noted = json.loads(note.read_text(encoding="utf-8"))
    assert (noted["bytes"], noted["sha256"], noted["origin"]) == (7, file_sha256(file), "found in place")
    assert standing(card, tmp_path)[0].fault is None
    file.write_bytes(b"WEIGHTS")  # of the same size
    with pytest.raises(UserError, match="is not the file first used on"):
        locate(card, tmp_path)
    assert "first used on" in str(standing(card, tmp_path)[0].fault)
    note.write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read as the note of a first use"):
        locate(card, tmp_path)


def test_a_published_hash_needs_no_note(file: Path, tmp_path: Path) -> None:
    locate(card_with(sha256=file_sha256(file)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of the folder ``served``, and a store of our own."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / "store"))
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "w.pt").write_bytes(b"weights")
    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def served_from(*places: Place, **facts: Any) -> ModelCard:
    files = (WeightFile(name="w.pt", places=places, **facts),)
    return model_card("models_genesis.narrow8")[0].model_copy(update={"checkpoint": Checkpoint(files=files)})


def at(url: str, **facts: Any) -> Place:
    return Place(kind="url", where=url, **facts)


def test_fetch_goes_on_to_the_next_place_and_notes_what_came(
    web: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = served_from(
        Place(kind="form", where="https://form.invalid"), at(f"{web}/absent"), at(f"{web}/w.pt", note="a copy")
    )
    got = fetch(card, tmp_path)
    assert got == weights_folder(card.id) / "w.pt"
    assert got.read_bytes() == b"weights"
    assert json.loads(got.with_name("w.pt.sha256.json").read_text(encoding="utf-8"))["origin"] == f"{web}/w.pt"
    assert "w.pt: a copy" in capsys.readouterr().err
    (tmp_path / "served" / "w.pt").unlink()
    assert fetch(card, tmp_path) == got  # here already: nobody is asked


def test_fetch_refuses_a_wrong_file_that_is_here(web: str, tmp_path: Path) -> None:
    card = served_from(at(f"{web}/w.pt"), bytes=7)
    target = weights_folder(card.id) / "w.pt"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"cut")
    with pytest.raises(UserError, match=r"has 3 bytes.*delete it and get it again"):
        fetch(card, tmp_path)
    assert target.read_bytes() == b"cut"


def test_fetch_says_what_to_do_by_hand(web: str, tmp_path: Path) -> None:
    card = served_from(at(f"{web}/absent"))
    with pytest.raises(HarnessError, match=rf"404 .*Get w.pt from {web}/absent, and put it into .*store") as failed:
        fetch(card, tmp_path)
    assert failed.value.exit_code == 1
    folder = Place(kind="google_drive", where="abc", path="sub/w.pt")
    by_hand = served_from(folder, Place(kind="form", where="https://form.invalid"))
    with pytest.raises(UserError, match="cannot be fetched without a person") as needed:
        fetch(by_hand, tmp_path)
    assert "w.pt from https://drive.google.com/open?id=abc, in it sub/w.pt or https://form.invalid (a form" in str(
        needed.value
    )
    with pytest.raises(UserError, match=r"no file of .* called 'v.pt'"):
        fetch(card, tmp_path, "v.pt")


@pytest.mark.parametrize("link", [False, True])
def test_add_checks_and_keeps_a_file(web: str, tmp_path: Path, link: bool) -> None:
    card = served_from(bytes=7)
    mine = tmp_path / "downloaded"
    mine.write_bytes(b"weights")
    mine.chmod(0o600)
    got = add(card, mine, link=link)
    assert got.read_bytes() == b"weights"
    assert got.is_symlink() == link
    assert mine.stat().st_mode & 0o777 == 0o600
    assert locate(card, tmp_path) == got
    with pytest.raises(UserError, match="is there already"):
        add(card, mine)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "or an empty one"), (b"<!DOCTYPE html>", "is a web page"), (b"other", "it has 5 bytes, the card")],
)
def test_add_refuses_another_file(web: str, tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "mine").write_bytes(content)
    with pytest.raises(UserError, match=says):
        add(served_from(bytes=7), tmp_path / "mine")
    assert not (tmp_path / "store").exists()
