"""Whatever a stranger writes into a record stays text."""

from __future__ import annotations

import html
import re

import pytest

from harness.leaderboard import build
from harness.leaderboard.check import check
from harness.records import fields


@pytest.fixture(scope="module")
def attacked(forge, tmp_path_factory):
    """A board with a run and a failed run per attack, in every free text and every name that may hold it."""
    top = tmp_path_factory.mktemp("attacked")
    return build([forge.attack_runs(top / "runs")], top / "board").parent


def test_the_records_are_shown_and_no_page_is_broken(attacked, forge):
    assert len(list(attacked.glob("runs/*/index.html"))) == 2 * len(forge.ATTACKS)
    assert len(list(attacked.glob("cells/*.html"))) == len(forge.ATTACKS)
    assert check(attacked) == []


def test_nothing_became_an_element(attacked, board):
    element = re.compile(r"<([a-zA-Z][^\s/>]*)")
    known = {name for path in board.rglob("*.html") for name in element.findall(path.read_text(encoding="utf-8"))} | {
        "ul",
        "li",
        "h3",
    }
    for path in attacked.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert set(element.findall(page)) <= known, path
        assert page.count("<script") == 2
        assert "51317" not in page


def test_direction_and_control_characters_are_gone(attacked):
    board = attacked
    hidden = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\ufeff\u0000-\u0008\u000b-\u001f\u007f-\u009f]")
    for path in [*board.rglob("*.html"), board / "board.json"]:
        assert not hidden.search(path.read_text(encoding="utf-8")), path


def test_file_names_of_the_board_are_plain(attacked):
    board = attacked
    for path in board.rglob("*"):
        name = path.relative_to(board).as_posix()
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", name), name


def test_endless_text_has_an_end(attacked):
    pages = [path.read_text(encoding="utf-8") for path in attacked.rglob("*.html")]
    assert not [page for page in pages if "A" * 2500 in page]
    assert any("more characters)" in page for page in pages)


def test_urls_from_a_record_are_text_unless_known(forge, tmp_path):
    urls = ["javascript:alert(1)", "https://evil.example/x", "data:text/html,x", "https://huggingface.co/a/b"]
    for i, url in enumerate(urls):
        forge.forge(tmp_path / "runs" / str(i), seed=i, source=url, draw=False)
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    assert check(out) == []
    pages = "".join(path.read_text(encoding="utf-8") for path in out.glob("runs/*/index.html"))
    linked = {html.unescape(link) for link in re.findall(r'href="([a-z]+:[^"]*)"', pages)}
    assert linked == {"https://huggingface.co/a/b"}
    for url in urls:
        assert html.escape(url) in pages


def test_a_picture_must_be_one(forge, tmp_path):
    def swap(arguments):
        folder = tmp_path / "runs" / "a" / "record" / "slices"
        (folder / "best_pt_282.png").write_bytes(b"<svg onload=alert(1)>")
        arguments["pictures"] = {
            path.name: __import__("harness.files", fromlist=["x"]).file_sha256(path) for path in folder.iterdir()
        }

    forge.forge(tmp_path / "runs" / "a", change=swap)
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    assert sorted(path.name for path in out.rglob("*.png")) == ["median_pt_332.png", "worst_pt_60.png"]


def test_numbers_of_any_size_leave_the_page_whole(forge, tmp_path):
    def stretch(arguments):
        arguments["cost"] = arguments["cost"].model_copy(update={"wall": {"train": 1e300}, "seconds_per_case": 1e-300})
        arguments["protocol"] = arguments["protocol"].model_copy(update={"lr": 1e-300, "steps": 10**18})
        arguments["model"] = arguments["model"].model_copy(
            update={"parameters": fields.Parameters(total=10**30, trainable=0)}
        )

    forge.forge(tmp_path / "runs" / "a", change=stretch, draw=False)
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    assert len(list(out.glob("runs/*/index.html"))) == 1
    assert check(out) == []
