"""The ledger: one line per claim, with what is known about it here. Claims are what papers say, and stay as printed.

Only displayed results of the claim file come in; its `unverified` part never reaches this module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.cards.claim import Claim
from harness.leaderboard.standings import Standing
from harness.leaderboard.text import number, signed
from harness.leaderboard.words import CONFIDENCE, METRICS, VERDICTS, Word, word

__all__ = ["Facet", "Line", "facets", "lines", "printed", "siblings"]


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
    def reproduced(self) -> str:
        """The reproduced value in the unit in which the claim is printed."""
        return self._in_unit(self.standing.reproduced, number)

    @property
    def difference(self) -> str:
        """Reproduced minus reported, in the unit of the claim."""
        return self._in_unit(self.standing.difference, signed, "points")

    @property
    def interval(self) -> str:
        """The 95 % interval of the difference; empty where there is none."""
        if self.standing.low is None or self.standing.high is None:
            return ""
        low, high = (self._in_unit(edge, signed, "points") for edge in (self.standing.low, self.standing.high))
        return f"{low.removesuffix(' points')} to {high}"

    def _in_unit(self, fraction: float | None, write: Callable[[float | None, int], str], unit: str = "%") -> str:
        """Write a share; a difference of two percentages is in (percentage) points."""
        if self.claim.unit == "percent" and fraction is not None:
            return f"{write(100 * fraction, 2)} {unit}"
        return write(fraction, 4)

    @property
    def order(self) -> tuple[bool, str, str, str]:
        """Default order: data set, then model; what cannot be compared comes last."""
        last = self.standing.verdict == "not_comparable"
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


def printed(claim: Claim) -> tuple[str, str]:
    """Return the value and the unit as the source printed them, such as ``("82.74", "%")``.

    >>> printed(Claim(id="r001", model="m", variant="v", init="scratch", dataset="d", task=None, split=None,
    ...               metric="dice", unit="percent", value=89.9, source="s", confidence="repo"))
    ('89.9', '%')
    """
    spread = f" ± {claim.std:g}" if claim.std is not None else ""
    unit = {"percent": "%", "fraction": ""}.get(claim.unit, claim.unit)
    return f"{claim.value!r}{spread}", unit


def lines(claims: Iterable[Claim], standings: Mapping[str, Standing]) -> list[Line]:
    """Build the ledger in its default order.

    Parameters
    ----------
    claims : iterable of Claim
        Every displayed claim.
    standings : mapping of str to Standing
        By claim id.
    """
    return sorted((Line(claim, standings[claim.id]) for claim in claims), key=lambda line: line.order)


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
