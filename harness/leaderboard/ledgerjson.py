"""The ledger in a few numbers per model family, for a catalogue of models: written into the board and exported."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable

from harness.leaderboard.ledger import Line
from harness.leaderboard.text import slug, utc_day
from harness.records.protocol import family

__all__ = ["catalogue_json"]


def catalogue_json(ledger: Iterable[Line], url: str = "") -> dict[str, str]:
    """Say, per model family, how many claims there are and how they stand: model, claims, verdicts, url, date."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    newest: dict[str, str] = {}
    for line in ledger:
        name = family(line.claim.model)
        counted[name][line.standing.verdict] += 1
        if line.standing.date:
            newest[name] = max(newest.get(name, ""), line.standing.date)
    found = {}
    for name, verdicts in sorted(counted.items()):
        content = {
            "model": name,
            "claims": sum(verdicts.values()),
            "reproduced": verdicts["reproduced"],
            "not_comparable": verdicts["not_comparable"],
            "verdicts": dict(sorted(verdicts.items())),
            "url": f"{url.rstrip('/')}/models/{slug(name)}.html" if url else f"models/{slug(name)}.html",
            "date": utc_day(newest[name]) if name in newest else None,
        }
        found[name] = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    return found
