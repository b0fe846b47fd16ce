"""Downloaded archives are known by their hashes: one that must not be used is refused wherever it is met."""

from __future__ import annotations

import hashlib

import pytest

from harness.cards.base import parse
from harness.cards.dataset import DatasetCard
from harness.cards.library import dataset_card
from harness.cli import main
from harness.data.archives import against_archives, refuse_archive
from harness.data.check import check
from harness.data.layouts import find_cases
from harness.data.synthetic import write
from harness.errors import UserError

CONTENT = {"good.zip": b"official", "bad.zip": b"moved heart"}


@pytest.fixture
def card(tmp_path):
    archives = [
        {"name": "good.zip", "sha256": hashlib.sha256(CONTENT["good.zip"]).hexdigest()},
        {
            "name": "bad.zip",
            "sha256": hashlib.sha256(CONTENT["bad.zip"]).hexdigest(),
            "usable": False,
            "note": "Every heart was moved.",
        },
    ]
    card = write(tmp_path / "set", cases=3)
    return parse(DatasetCard, {**card.model_dump(), "archives": archives}, "a test")


@pytest.mark.parametrize("place", ["set", "."])
def test_an_archive_that_must_not_be_used_is_an_error_of_the_check(card, tmp_path, place):
    root = tmp_path / "set"
    (tmp_path / place / "good.zip").write_bytes(CONTENT["good.zip"])
    assert check(card, find_cases(card, root), root=root).findings == ()
    (tmp_path / place / "bad.zip").write_bytes(CONTENT["bad.zip"])
    (finding,) = check(card, find_cases(card, root), root=root).errors
    assert finding.found == "Every heart was moved."
    assert str(tmp_path / place / "bad.zip") in finding.what


def test_a_forbidden_archive_under_an_official_name_is_found_too(card, tmp_path):
    (tmp_path / "good.zip").write_bytes(CONTENT["bad.zip"])
    assert [one.level for one in against_archives(card, tmp_path / "set")] == ["error"]


def test_a_damaged_archive_is_warned_of(card, tmp_path):
    (tmp_path / "good.zip").write_bytes(b"offic")
    (finding,) = against_archives(card, tmp_path / "set")
    assert finding.level == "warning"
    assert finding.expected == hashlib.sha256(b"official").hexdigest()
    assert finding.found == hashlib.sha256(b"offic").hexdigest()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CONTENT["good.zip"], "is good.zip, as it should be.*unpack it"),
        (CONTENT["bad.zip"], "must not be used as 'synthetic': Every heart was moved"),
        (b"?", "none of the archives"),
    ],
)
def test_an_archive_is_no_folder(card, tmp_path, content, said):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(UserError, match=said):
        refuse_archive(card, tmp_path / "x.zip")


def test_adding_an_archive_exits_with_2(tmp_path, capsys):
    (tmp_path / "SegTHOR.zip").write_bytes(b"?")
    assert main(["data", "add", "segthor", str(tmp_path / "SegTHOR.zip")]) == 2
    assert "unpack it, then give the folder" in capsys.readouterr().err


def test_the_copy_with_the_moved_hearts_is_on_the_card():
    """By its hash as the facts of the data sets give it."""
    card, _ = dataset_card("segthor")
    forbidden = {archive.sha256 for archive in card.archives if not archive.usable}
    assert forbidden == {"07d547cbe8e267a2515dad04fe801ee42cbb7af7bcb6502ab51be54668998339"}
