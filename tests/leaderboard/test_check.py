"""Checking a board: each fault is found where it is put."""

from __future__ import annotations

import random
import shutil

import pytest

from harness.errors import UserError
from harness.leaderboard.check import check, check_page


@pytest.fixture(scope="module")
def copy(board, tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy") / "board"
    shutil.copytree(board, folder)
    return folder


@pytest.fixture
def spoiled(copy):
    """A function that replaces text on one page of a copy of the board and returns what the check then says."""

    def spoil(page, old, new):
        path = copy / page
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        try:
            return check_page(copy, page)
        finally:
            path.write_text(text, encoding="utf-8")

    return spoil


def test_an_honest_page_has_no_fault(copy):
    assert check_page(copy, "method.html") == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("</main>", '<a href="nowhere.html">x</a></main>', "does not exist"),
        ("</main>", '<a href="method.html#nowhere">x</a></main>', "no such place"),
        ("</main>", '<a href="../../../etc/passwd">x</a></main>', "does not exist"),
        ("</main>", '<a href="https://evil.example/">x</a></main>', "not on the list"),
        ("</main>", '<a href="javascript:alert(1)">x</a></main>', "not on the list"),
        ("</main>", "<script>alert(1)</script></main>", "inline script"),
        ("</main>", '<script src="https://cdn.example/x.js"></script></main>', "from outside"),
        ("</main>", '<img src="//cdn.example/x.png" alt="x"></main>', "from outside"),
        ("</main>", '<img src="static/icon.svg"></main>', "without a description"),
        ("</main>", '<p onclick="x()">x</p></main>', "inline onclick"),
        ("</main>", '<p style="color: red">x</p></main>', "inline style"),
        ("</main>", '<iframe src="method.html"></iframe></main>', "<iframe>"),
        ("</main>", "<h1>again</h1></main>", "2 main headings"),
        ("</main>", "<h5>deep</h5></main>", "skips a level"),
        ("</main>", '<p id="main">x</p></main>', "an id twice"),
        ("</main>", '<input name="x"></main>', "without a label"),
        ("</main>", "<svg><path/></svg></main>", "plot without a name"),
        ("</main>", "<b></main>", "out of turn"),
        ("script-src &#39;self&#39;", "script-src *", "content security policy"),
        ('<html lang="en">', "<html>", "language"),
    ],
)
def test_each_fault_is_found(spoiled, old, new, said):
    faults = spoiled("method.html", old, new)
    assert any(said in fault for fault in faults), faults


def test_a_heavy_front_page_is_a_fault(spoiled):
    noise = random.Random(0)
    text = "".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(250_000))
    assert any("when compressed" in fault for fault in spoiled("index.html", "</main>", f"<p>{text}</p></main>"))


def test_a_style_sheet_that_loads_is_a_fault(tmp_path):
    (tmp_path / "board.json").write_text("{}", encoding="utf-8")
    (tmp_path / "board.css").write_text("@import 'https://fonts.example/x.css';", encoding="utf-8")
    assert [fault.page for fault in check(tmp_path)] == ["board.css"]


def test_no_board_no_check(tmp_path):
    with pytest.raises(UserError, match="no board"):
        check(tmp_path)
