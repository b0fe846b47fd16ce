"""Words and numbers of the page."""

from __future__ import annotations

import doctest
import math

import pytest

import harness.leaderboard.ledger
import harness.leaderboard.render
import harness.leaderboard.summary
import harness.leaderboard.svg
import harness.leaderboard.text
from harness.leaderboard.text import clean, duration, number, safe_url, signed, slug


@pytest.mark.parametrize(
    "module",
    [
        harness.leaderboard.text,
        harness.leaderboard.svg,
        harness.leaderboard.ledger,
        harness.leaderboard.summary,
        harness.leaderboard.render,
    ],
)
def test_examples_in_docstrings(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "http://github.com/plain",
        "https://github.com.evil.example/",
        "https://evil.example/github.com",
        "https://evilgithub.com/",
        "https://github.com:443/x",
        "https://user:secret@github.com/",
        "https://github.com/\njavascript:alert(1)",
        'https://github.com/" onclick="alert(1)',
        "https://github.com/<script>",
        "//github.com/x",
        "https://github.com\\@evil.example/",
        "https://github.com/" + "a" * 400,
        "",
        None,
    ],
)
def test_urls_that_never_become_links(url):
    assert safe_url(url) is None


@pytest.mark.parametrize("url", ["https://github.com/a/b", "https://www.synapse.org/x?y=1#z", "https://doi.org/10.1/x"])
def test_urls_that_do(url):
    assert safe_url(url) == url


def test_clean_drops_what_escaping_leaves():
    assert clean("left\u202eright\u2066\x00\x1b[31m\ufeff") == "leftright[31m"
    assert clean("\ud800").encode() == b""


def test_clean_ends():
    text = clean("x" * 100_000)
    assert len(text) < 2100
    assert text.endswith("(98000 more characters)")


def test_numbers_that_are_none():
    assert number(None) == number(math.nan) == number(math.inf) == signed(None) == duration(None) == "—"


def test_zero_has_no_sign():
    assert signed(-0.0001) == signed(0.0001) == "0.000"


def test_slugs_never_leave_the_folder_and_differ():
    names = ["../x", "..", ".", "", "a/b", "a\\b", "A", "a", "index", "x" * 300, "模型", "a b", "a-b"]
    slugs = [slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert not [s for s in slugs if "/" in s or "\\" in s or s.startswith(".") or len(s) > 80 or s == "index"]
