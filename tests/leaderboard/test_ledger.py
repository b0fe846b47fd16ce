"""The ledger of claims."""

from __future__ import annotations

import html
import re

from harness.cards.library import claims
from harness.leaderboard.ledger import Standing, facets, lines, printed, siblings


def test_every_displayed_claim_is_one_line_and_the_unverified_are_nowhere(board):
    page = (board / "index.html").read_text()
    ids = re.findall(r'<tr role="row" id="(r\d+)"', page)
    assert sorted(ids) == sorted(claim.id for claim in claims().results)
    assert len(ids) == 177
    hidden = [entry["id"] for entry in claims().unverified]
    assert hidden
    everything = "".join(path.read_text() for path in board.rglob("*.html")) + (board / "board.json").read_text()
    assert not [name for name in hidden if re.search(rf"\b{name}\b", everything)]
    assert "not re-read" not in everything


def test_values_stand_as_printed(board):
    page = (board / "index.html").read_text()
    for claim in claims().results:
        row = page.split(f'id="{claim.id}"', 1)[1].split("</tr>", 1)[0]
        value, unit = printed(claim)
        assert f"<b>{value}</b>" in row
        assert unit in html.unescape(row)
        assert claim.confidence in row
        assert "not attempted" in row


def test_without_a_run_the_reason_is_said():
    for line in lines(claims().results, {}, {"btcv"}):
        assert line.standing.verdict == "not_attempted"
        assert line.standing.reason
    by_id = {line.claim.id: line.standing.reason for line in lines(claims().results, {}, {"btcv"})}
    private = next(c for c in claims().results if c.split == "private")
    assert "private data" in by_id[private.id]
    ready = next(c for c in claims().results if c.dataset == "btcv" and c.split and "not" not in c.split)
    assert by_id[ready.id] == "no run among these records"


def test_what_cannot_be_compared_comes_last_and_has_no_difference():
    first = min(claims().results, key=lambda c: (c.dataset, c.model.lower(), c.id))
    standings = {first.id: Standing("not_comparable", "other split", reproduced=0.5)}
    order = lines(claims().results, standings, set())
    assert order[-1].claim.id == first.id
    assert order[-1].difference is None
    standings = {first.id: Standing("reproduced", "", reproduced=0.5)}
    line = next(line for line in lines(claims().results, standings, set()) if line.claim.id == first.id)
    assert abs(line.difference - (0.5 - first.fraction)) < 1e-12


def test_facets_count_every_line_once():
    rows = lines(claims().results, {}, set())
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
    page = html.unescape((board / "claims" / f"{claim.id}.html").read_text())
    for fold, value in claim.per_fold.items():
        assert re.search(rf"{fold}</bdi></th><td class=\"num\">{value}<", page)
    assert claim.note in page
    assert claim.source in page
