"""The ledger of claims."""

from __future__ import annotations

import html
import re

from harness.cards.library import claims
from harness.leaderboard.ledger import Line, facets, lines, printed, siblings
from harness.leaderboard.standings import Standing, standings
from harness.records.protocol import not_public


def test_every_displayed_claim_is_one_line_and_the_unverified_are_nowhere(board):
    page = (board / "index.html").read_text(encoding="utf-8")
    ids = re.findall(r'<tr role="row" id="(r\d+)"', page)
    assert sorted(ids) == sorted(claim.id for claim in claims().results)
    assert len(ids) == 177
    hidden = [entry["id"] for entry in claims().unverified]
    assert hidden
    everything = "".join(path.read_text(encoding="utf-8") for path in board.rglob("*.html")) + (
        board / "board.json"
    ).read_text(encoding="utf-8")
    assert not [name for name in hidden if re.search(rf"\b{name}\b", everything)]
    assert "not re-read" not in everything


def test_values_stand_as_printed(board):
    page = (board / "index.html").read_text(encoding="utf-8")
    for claim in claims().results:
        row = page.split(f'id="{claim.id}"', 1)[1].split("</tr>", 1)[0]
        value, unit = printed(claim)
        assert f"<b>{value}</b>" in row
        assert unit in html.unescape(row)
        assert claim.confidence in row
        assert "not attempted" in row or "not reproducible as published" in row


def test_without_a_run_the_reason_is_said():
    found = standings(claims().results, (), {}, frozenset({"btcv"}))
    assert set(found) == {claim.id for claim in claims().results}
    assert {one.verdict for one in found.values()} == {"not_attempted", "not_reproducible_as_published"}
    for claim in claims().results:
        one = found[claim.id]
        assert one.reason
        assert (one.verdict == "not_reproducible_as_published") == (not_public(claim) is not None)
        assert ("no data set card yet" in one.reason) == (claim.card != "btcv")
        assert one.reproduced is one.difference is one.cell is None


def test_what_cannot_be_compared_comes_last():
    found = standings(claims().results, (), {}, frozenset())
    first = lines(claims().results, found)[0].claim
    found[first.id] = Standing("not_comparable", "other split", reproduced=0.5)
    order = lines(claims().results, found)
    assert order[-1].claim.id == first.id
    assert order[-1].difference == "—"


def test_reproduced_stands_in_the_unit_of_the_claim():
    percent = next(claim for claim in claims().results if claim.unit == "percent")
    fraction = next(claim for claim in claims().results if claim.unit == "fraction")
    standing = Standing("higher", "", reproduced=0.8123, difference=0.0123, low=0.01, high=0.02)
    assert (Line(percent, standing).reproduced, Line(percent, standing).difference) == ("81.23 %", "+1.23 points")
    assert (Line(fraction, standing).reproduced, Line(fraction, standing).interval) == ("0.8123", "+0.0100 to +0.0200")


def test_facets_count_every_line_once():
    rows = lines(claims().results, standings(claims().results, (), {}, frozenset()))
    for facet in facets(rows):
        assert sum(count for *_, count in facet.options) == len(rows)


def test_siblings_share_source_task_split_and_metric():
    claim = next(c for c in claims().results if c.id == "r025")
    others = siblings(claim, claims().results)
    assert others
    assert claim not in others
    assert {(o.source, o.dataset, o.task, o.split, o.metric) for o in others} == {
        (claim.source, claim.dataset, claim.task, claim.split, claim.metric)
    }


def test_a_claim_has_a_page_with_its_note_and_folds(board):
    claim = next(c for c in claims().results if c.per_fold)
    page = html.unescape((board / "claims" / f"{claim.id}.html").read_text(encoding="utf-8"))
    for fold, value in claim.per_fold.items():
        assert re.search(rf"{fold}</bdi></th><td class=\"num\">{value}<", page)
    assert claim.note in page
    assert claim.source in page
