"""Every printed number has its page, with the recipe or the reason for none, the verdict, and every trap."""

from __future__ import annotations

import html
import re
from pathlib import Path

from harness.cards.library import claims


def text_of(page: Path) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8"))).split())


def test_every_claim_has_a_page_that_tells_all_we_know(board: Path) -> None:
    rows = claims().results
    assert {path.stem for path in (board / "claims").glob("*.html")} == {row.id for row in rows}
    for row in rows:
        said, about = text_of(board / "claims" / f"{row.id}.html"), row.about
        assert f"Recipe here protocol {about.protocol}" in said or f"Recipe here none: {about.no_protocol}" in said
        assert "Verdict not attempted" in said or "Verdict not reproducible as published" in said, row.id
        for trap in about.traps:
            assert " ".join(trap.split()) in said, row.id
        for other in about.beside:
            assert other in said
        if about.folds:
            assert "Over folds the mean of the values of 5 folds" in said
