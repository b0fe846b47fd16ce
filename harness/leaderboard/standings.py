"""How each claim stands: the comparison of `harness.records.comparison`, for the runs that may speak to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cards.claim import Claim
from harness.leaderboard.summary import RunSummary
from harness.records.comparison import Comparison, Run, baseline_of, compare
from harness.records.protocol import family
from harness.records.store import load

__all__ = ["Standing", "standings"]


@dataclass(frozen=True)
class Standing:
    """How a claim stands on this board.

    Attributes
    ----------
    verdict : str
        A key of `words.VERDICTS`.
    reason : str
        Why, in a few words.
    reproduced, difference, low, high : float or None
        Reproduced value, reproduced minus reported and its 95 % interval, as fractions. The last three are None where
        the two numbers must not be compared.
    unknown : int or None
        How many of the compared protocol fields are unknown; None where nothing was compared.
    cell : str or None
        Page of the cell that the value comes from.
    comparison : Comparison or None
        Everything else that the comparison says.
    """

    verdict: str
    reason: str
    reproduced: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    unknown: int | None = None
    trust: int | None = None
    gpu_hours: float | None = None
    date: str | None = None
    cell: str | None = None
    comparison: Comparison | None = None


def standings(
    claims: Sequence[Claim], runs: Iterable[RunSummary], folders: Mapping[str, Path], datasets: frozenset[str]
) -> dict[str, Standing]:
    """Compare every claim with the runs of its model and data set.

    Parameters
    ----------
    claims : sequence of Claim
        Every displayed claim.
    runs : iterable of RunSummary
        Every run of the board. Marked ones never speak to a claim, whatever they score.
    folders : mapping of str to Path
        Run id to the record's folder.
    datasets : frozenset of str
        Ids of the data sets that have a card.
    """
    groups: dict[tuple[str, str], list[Claim]] = defaultdict(list)
    for claim in claims:
        groups[family(claim.model), claim.card].append(claim)
    near: dict[tuple[str, str], list[RunSummary]] = defaultdict(list)
    for run in runs:
        if run.counts and (run.family, run.dataset) in groups:
            near[run.family, run.dataset].append(run)
    found = {}
    for key, group in groups.items():
        some = _worth_reading(near.get(key, []))
        held = [Run(load(folders[run.run_id]), folders[run.run_id]) for run in some]
        for claim in group:
            base = baseline_of(claim, claims)
            gain = _difference(claim.fraction, base.fraction if base else None)
            found[claim.id] = _standing(claim, compare(claim, held, claimed_gain=gain), some, datasets)
    return found


def _worth_reading(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Keep the unmarked runs, and one marked run per start: it never counts, but the reason then names it."""
    unmarked = [run for run in runs if not run.evidence]
    marked = {run.init: run for run in runs if run.evidence}
    return [*unmarked, *marked.values()]


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _standing(claim: Claim, comparison: Comparison, runs: Sequence[RunSummary], datasets: frozenset[str]) -> Standing:
    value = comparison.value
    used = [run for run in runs if run.run_id in comparison.run_ids]
    if not used:
        return Standing(value.state, _without_run(claim, comparison, datasets), comparison=comparison)
    scores = [run.metric.value for run in used if run.metric and run.metric.value is not None]
    hours = [run.gpu_hours for run in used if run.gpu_hours is not None]
    return Standing(
        verdict=value.state,
        reason=value.explanation.split(": ", 1)[-1].rstrip("."),
        reproduced=sum(scores) / len(scores) if scores else None,
        difference=value.difference,
        low=value.low,
        high=value.high,
        unknown=comparison.protocol.n_unknown if comparison.protocol else None,
        trust=min(run.trust for run in used),
        gpu_hours=sum(hours) if hours else None,
        date=max(run.created for run in used),
        cell=f"cells/{used[0].cell}.html",
        comparison=comparison,
    )


def _without_run(claim: Claim, comparison: Comparison, datasets: frozenset[str]) -> str:
    """Say what stands between this claim and a run, from facts alone."""
    reason = comparison.value.explanation.split(": ", 1)[-1].rstrip(".")
    return reason if claim.card in datasets else f"{reason}; no data set card yet"
