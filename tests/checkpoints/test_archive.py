"""The one checkpoint inside a published archive: its bytes come out, and nothing else that the archive asks for."""

from __future__ import annotations

import random
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.adapters.weights import add, locate, weights_folder
from harness.cards.library import model_card
from harness.cards.model import Checkpoint, ModelCard, WeightFile
from harness.checkpoints.archive import suffix_inside, unpack
from harness.checkpoints.reading import read
from harness.errors import UserError
from harness.files import sha256_hex

BYTES = random.Random(0).randbytes(70_000)


def pack(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_pt", ".pt"), content)
    return path


def test_the_checkpoint_comes_out_whole(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", fold0__readme=b"text", fold0__best_pt=BYTES)
    assert suffix_inside(archive) == ".pt"
    unpack(archive, tmp_path / "out.pt")
    assert (tmp_path / "out.pt").read_bytes() == BYTES


def test_a_torch_file_is_no_archive_around_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pt")
    (tmp_path / "plain.pt").write_bytes(BYTES)
    assert suffix_inside(tmp_path / "w.pt") is None
    assert suffix_inside(tmp_path / "plain.pt") is None


def test_names_in_the_archive_lead_nowhere(tmp_path: Path) -> None:
    archive = tmp_path / "store" / "a.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("../../escaped.pt", BYTES)
    unpack(archive, archive.parent / "out.pt")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "out.pt", "store"]


def test_bombs_links_several_and_damaged_archives_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    with pytest.raises(UserError, match="more than weights can shrink"):
        unpack(pack(tmp_path / "bomb.zip", w_pt=b"0" * 10_000_000), out)
    with pytest.raises(UserError, match=r"holds 2 checkpoints \(a.pt, b.pt\)"):
        unpack(pack(tmp_path / "two.zip", a_pt=BYTES, b_pt=BYTES), out)
    with pytest.raises(UserError, match="holds no file"):
        unpack(pack(tmp_path / "none.zip", readme=b"text"), out)
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as opened:
        link = zipfile.ZipInfo("w.pt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="is a link"):
        unpack(tmp_path / "link.zip", out)
    damaged = pack(tmp_path / "damaged.zip", w_pt=BYTES)
    content = bytearray(damaged.read_bytes())
    content[60] ^= 0xFF
    damaged.write_bytes(bytes(content))
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(damaged, out)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".zip"] * 5  # nothing half-written


def test_a_published_archive_is_unpacked_once_and_again_when_the_file_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / "store"))
    layout = Checkpoint(files=(WeightFile(name="fold0.zip"),))
    card = model_card("swin_unetr.brats21_fold0")[0].model_copy(update={"checkpoint": layout})
    folder = weights_folder(card.id)
    folder.mkdir(parents=True)
    pack(folder / "fold0.zip", best_pt=BYTES)
    inside = locate(card, tmp_path)
    assert (inside.name, inside.read_bytes()) == ("fold0.pt", BYTES)
    assert "unpacking fold0.zip" in capsys.readouterr().err
    assert locate(card, tmp_path) == inside
    assert "unpacking" not in capsys.readouterr().err
    inside.write_bytes(b"other")
    assert locate(card, tmp_path).read_bytes() == BYTES


def publishing(**facts: Any) -> ModelCard:
    layout = Checkpoint(files=(WeightFile(name="w.pt", **facts),))
    return model_card("models_genesis.narrow8")[0].model_copy(update={"checkpoint": layout})


def test_an_archive_named_by_hand_is_unpacked_into_the_store_and_nothing_beside_it_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / "store"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "best.pt").write_bytes(b"another file of mine")
    archive = pack(mine / "best.zip", epoch9__best_pt=BYTES)
    mine.chmod(0o500)
    card = publishing()
    inside = locate(card, tmp_path, archive)
    assert inside.parent == weights_folder(card.id)
    assert inside.read_bytes() == BYTES
    assert locate(card, tmp_path, archive) == inside
    assert {path.name: path.read_bytes() for path in mine.iterdir() if path != archive} == {
        "best.pt": b"another file of mine"
    }
    mine.chmod(0o700)
    pack(archive, best_pt=BYTES[::-1])  # another archive of the same name
    assert locate(card, tmp_path, archive).read_bytes() == BYTES[::-1]
    with pytest.raises(UserError, match=r"best.zip is an archive around a checkpoint.*weights=FILE"):
        read(archive)
    with pytest.raises(UserError, match=r"holds 2 checkpoints.*name one with weights=FILE"):
        locate(card, tmp_path, pack(tmp_path / "two.zip", a_pt=BYTES, b_pt=BYTES))


def test_an_archive_that_is_added_is_unpacked_and_its_checkpoint_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / "store"))
    archive = pack(tmp_path / "download.zip", deep__w_pt=BYTES)
    card = publishing(bytes=len(BYTES), sha256=sha256_hex(BYTES))
    other = publishing(bytes=len(BYTES), sha256="0" * 64)
    with pytest.raises(UserError, match=r"download.zip is not w.pt .* it holds a checkpoint that hashes to"):
        add(other, archive)
    with pytest.raises(UserError, match="is unpacked, not linked to"):
        add(card, archive, link=True)
    assert not (weights_folder(card.id) / "w.pt").exists()
    assert add(card, archive).read_bytes() == BYTES
    assert locate(card, tmp_path) == weights_folder(card.id) / "w.pt"


def test_a_folder_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "run" / "deep").mkdir(parents=True)
    (tmp_path / "run" / "deep" / "w.pt").write_bytes(BYTES)
    with pytest.raises(UserError, match=r"run is a folder.*It holds .*deep/w.pt. Name the file: weights=FILE"):
        locate(publishing(), tmp_path, tmp_path / "run")
    with pytest.raises(UserError, match=r"deep/w.pt. Name the file: harness weights add models_genesis.narrow8 FILE"):
        add(publishing(), tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="It holds no checkpoint"):
        locate(publishing(), tmp_path, tmp_path / "empty")
