"""The ledger: one line per claim, with what is known about it here. Claims are what papers say, and stay as printed.

Only displayed results of the claim file come in; its `unverified` part never reaches this module.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from harness.cards.claim import Claim
from harness.leaderboard.words import CONFIDENCE, METRICS, VERDICTS, Word, word

__all__ = ["Facet", "Line", "Standing", "facets", "family", "lines", "printed", "siblings"]


@dataclass(frozen=True)
class Standing:
    """How a claim stands on this board.

    Attributes
    ----------
    verdict : str
        A key of `words.VERDICTS`.
    reason : str
        Why, in a few words; required where nothing was run.
    reproduced, low, high : float or None
        Reproduced value and the 95 % interval of reproduced minus reported, as fractions.
    unknown : int or None
        How many of the compared protocol fields are unknown; None where nothing was compared.
    cell : str or None
        Page of the cell that the value comes from.
    """

    verdict: str
    reason: str
    reproduced: float | None = None
    low: float | None = None
    high: float | None = None
    unknown: int | None = None
    trust: int | None = None
    gpu_hours: float | None = None
    date: str | None = None
    cell: str | None = None


@dataclass(frozen=True)
class Line:
    """One line of the ledger: the claim and its standing, with what the page sorts and filters by."""

    claim: Claim
    standing: Standing

    @property
    def verdict(self) -> Word:
        """How the verdict looks."""
        return word(VERDICTS, self.standing.verdict)

    @property
    def confidence(self) -> Word:
        """How sure we are that the source prints this number."""
        return word(CONFIDENCE, self.claim.confidence)

    @property
    def metric(self) -> str:
        """The metric in words."""
        return METRICS.get(self.claim.metric, self.claim.metric)

    @property
    def difference(self) -> float | None:
        """Reproduced minus reported, as a fraction; None unless both numbers may be subtracted."""
        reported = self.claim.fraction
        if self.standing.reproduced is None or reported is None or self.standing.verdict == "not_comparable":
            return None
        return self.standing.reproduced - reported

    @property
    def order(self) -> tuple[bool, str, str, str]:
        """Default order: data set, then model; what cannot be compared comes last."""
        last = self.standing.verdict in {"not_comparable", "not_reproducible_as_published"}
        return (last, self.claim.dataset, self.claim.model.lower(), self.claim.id)

    @property
    def sort_value(self) -> float:
        """The reported value for sorting; shares of both spellings on one scale."""
        return self.claim.value if self.claim.fraction is None else self.claim.fraction


@dataclass(frozen=True)
class Facet:
    """One filter of a table: its key in the address, its name, and each option with its count."""

    key: str
    title: str
    options: tuple[tuple[str, str, int], ...]


def family(model: str) -> str:
    """Return the family that a model's printed name belongs to, as card ids spell it.

    >>> family("Models Genesis"), family("MIS-FM")
    ('models_genesis', 'mis_fm')
    """
    return re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_") or "unnamed"


def printed(claim: Claim) -> tuple[str, str]:
    """Return the value and the unit as the source printed them, such as ``("82.74", "%")``.

    >>> printed(Claim(id="r001", model="m", variant="v", init="scratch", dataset="d", task=None, split=None,
    ...               metric="dice", unit="percent", value=89.9, source="s", confidence="repo"))
    ('89.9', '%')
    """
    spread = f" ± {claim.std:g}" if claim.std is not None else ""
    unit = {"percent": "%", "fraction": ""}.get(claim.unit, claim.unit)
    return f"{claim.value!r}{spread}", unit


def lines(claims: Iterable[Claim], standings: dict[str, Standing], datasets: Collection[str]) -> list[Line]:
    """Build the ledger in its default order.

    Parameters
    ----------
    claims : iterable of Claim
        Every displayed claim.
    standings : dict of str to Standing
        By claim id, for claims that a comparison exists for; the others were not attempted.
    datasets : collection of str
        Ids of the data sets that have a card.
    """
    rows = [Line(claim, standings.get(claim.id) or _not_attempted(claim, datasets)) for claim in claims]
    return sorted(rows, key=lambda line: line.order)


def _not_attempted(claim: Claim, datasets: Collection[str]) -> Standing:
    """Say what stands between this claim and a run, from facts alone."""
    split = (claim.split or "").lower()
    obstacles = []
    if "private" in split or "private" in (claim.task or "").lower():
        obstacles.append("private data")
    elif not split or "not published" in split or "not stated" in split:
        obstacles.append("split not published")
    if claim.dataset not in datasets:
        obstacles.append("no data set card yet")
    return Standing("not_attempted", "; ".join(obstacles) or "no run among these records")


def facets(rows: Iterable[Line]) -> list[Facet]:
    """Return the filters of the ledger, each option with how many lines it keeps."""
    held = list(rows)

    def facet(key: str, title: str, of: Callable[[Line], tuple[str, str]]) -> Facet:
        counts = Counter(of(line) for line in held)
        options = sorted(((value, label, n) for (value, label), n in counts.items()), key=lambda o: o[1].lower())
        return Facet(key, title, tuple(options))

    return [
        facet("model", "Model", lambda line: (line.claim.model, line.claim.model)),
        facet("init", "Start", lambda line: (line.claim.init, line.claim.init)),
        facet("dataset", "Data set", lambda line: (line.claim.dataset, line.claim.dataset)),
        facet("metric", "Metric", lambda line: (line.claim.metric, line.metric)),
        facet("source", "Source", lambda line: (line.claim.confidence, line.confidence.label)),
        facet("verdict", "Verdict", lambda line: (line.standing.verdict, line.verdict.label)),
    ]


def siblings(claim: Claim, claims: Iterable[Claim]) -> list[Claim]:
    """Return the other claims printed in the same place for the same task, split and metric."""
    key = _table(claim)
    return [other for other in claims if other.id != claim.id and _table(other) == key]


def _table(claim: Claim) -> tuple[str | None, ...]:
    return (claim.source, claim.dataset, claim.task, claim.split, claim.metric, claim.unit)
