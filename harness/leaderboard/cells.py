"""Cells: runs that differ only in start and seed, side by side, and what the twins say about pretraining.

The rule of the gain is `harness.scoring.gain`; here is who is paired with whom, and the words.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from harness.leaderboard.summary import Headline, RunSummary, metric_name, unit_text
from harness.leaderboard.text import number, plural, signed
from harness.leaderboard.words import GAINS, Word, word
from harness.scoring.gain import gain_verdict

__all__ = ["Cell", "Gain", "Side", "decimals", "figures", "floors_of", "gain", "group", "interval_kind"]

_FEWEST_CASES: Final = 2
_FEW_CASES: Final = 20  # below this many, sets of cases cannot tell two good methods apart (see the method page)
_STARTS: Final = {
    "scratch": "From scratch",
    "pretrained": "Pretrained",
    "released": "As released",
    "other": "Nothing trained",  # of the runs that count, only rules without a network start so
}
_ORDER: Final = {"pretrained": 0, "released": 1, "other": 2, "scratch": 3}


@dataclass(frozen=True)
class Gain:
    """Pretrained minus scratch in the first metric, positive where pretraining helped.

    Attributes
    ----------
    state : str
        A key of `words.GAINS`.
    better, worse : int
        Cases whose mean over seeds moved up or down.
    """

    state: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    cases: int = 0
    seeds: int = 0
    better: int = 0
    worse: int = 0

    @property
    def word(self) -> Word:
        """How the gain looks."""
        return word(GAINS, self.state)


@dataclass(frozen=True)
class Side:
    """The runs of one start."""

    init: str
    runs: tuple[RunSummary, ...]

    @property
    def tone(self) -> str:
        """Blue and filled for pretrained, orange and open for everything else."""
        return "a" if self.init == "pretrained" else "b"

    @property
    def name(self) -> str:
        """The start in words."""
        return _STARTS.get(self.init, self.init)

    @property
    def mean(self) -> float | None:
        """Mean over seeds of the first metric."""
        values = [run.metric.value for run in self.runs if run.metric and run.metric.value is not None]
        return sum(values) / len(values) if values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds of the first metric; None for one seed."""
        values = [run.metric.value for run in self.runs if run.metric and run.metric.value is not None]
        return statistics.stdev(values) if len(values) > 1 else None

    @cached_property
    def classes(self) -> dict[str, float]:
        """Mean over seeds per class."""
        return _mean_of([run.classes for run in self.runs])

    @cached_property
    def scores(self) -> dict[str, float]:
        """Mean over seeds per case."""
        return _mean_of([run.scores for run in self.runs])

    def __reduce__(self) -> tuple[type[Side], tuple[str, tuple[RunSummary, ...]]]:
        """Travel between processes without what was computed from the runs."""
        return Side, (self.init, self.runs)


@dataclass(frozen=True)
class Cell:
    """One cell with its twins: the runs that count, and the evidence marks of any of them."""

    key: str
    sides: tuple[Side, ...]
    gain: Gain

    @property
    def first(self) -> RunSummary:
        """Any run; they share model, data set, split and protocol."""
        return self.sides[0].runs[0]

    @property
    def metric(self) -> Headline | None:
        """The first metric of the cell."""
        return self.first.metric

    @property
    def evidence(self) -> list[str]:
        """Every mark that any run of the cell carries; a cell is no better than its weakest run."""
        return sorted({mark for run in self.runs for mark in run.evidence})

    @property
    def href(self) -> str:
        """The cell's page, from the root of the board."""
        return f"cells/{self.key}.html"

    @property
    def runs(self) -> list[RunSummary]:
        """All runs of the cell."""
        return [run for side in self.sides for run in side.runs]

    def side(self, init: str) -> Side | None:
        """Return the side with this start."""
        return next((side for side in self.sides if side.init == init), None)

    @property
    def is_floor(self) -> bool:
        """Whether a rule that trains nothing was scored here, instead of a network."""
        return self.first.kind == "zero_training_baseline"

    @property
    def word(self) -> Word:
        """How the cell looks: its gain, or that it is a floor and can have none."""
        return word(GAINS, "floor") if self.is_floor else self.gain.word

    @property
    def sentence(self) -> str:
        """What the twins say, in words and numbers that a reader can repeat."""
        if self.is_floor:
            return "A rule that trains nothing: the floor that every network on this data set has to clear."
        return _sentence(self.gain, self.metric, self.side("pretrained"), self.side("scratch"))


def group(runs: Iterable[RunSummary]) -> list[tuple[str, tuple[Side, ...]]]:
    """Group the runs that count into cells: key and sides, sorted by data set, model and key."""
    found: dict[str, dict[str, list[RunSummary]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.counts:
            found[run.cell][run.init].append(run)
    cells = []
    for key, by_init in found.items():
        order = sorted(by_init, key=lambda init: _ORDER.get(init, 9))
        cells.append((key, tuple(Side(init, tuple(sorted(by_init[init], key=_by_seed))) for init in order)))
    return sorted(cells, key=lambda cell: (cell[1][0].runs[0].dataset, cell[1][0].runs[0].model, cell[0]))


def floors_of(
    sides: tuple[Side, ...], groups: Iterable[tuple[str, tuple[Side, ...]]]
) -> tuple[tuple[str, str, str], ...]:
    """Return name, page and score of every rule without training that was scored on the same cases by the same metric.

    Parameters
    ----------
    sides : tuple of Side
        Of the cell that is looked at.
    groups : iterable
        From `group`.
    """
    first = sides[0].runs[0]
    found = []
    for key, others in groups:
        side, rule = others[0], others[0].runs[0]
        same = (rule.dataset, rule.split, rule.fold) == (first.dataset, first.split, first.fold)
        metric = rule.metric is not None and first.metric is not None and rule.metric.id == first.metric.id
        if rule.kind == "zero_training_baseline" and same and metric and rule.cell != first.cell:
            found.append((rule.model, f"cells/{key}.html", figures(side)[0]))
    return tuple(sorted(found))


def _by_seed(run: RunSummary) -> tuple[int, str, str]:
    return (-1 if run.seed is None else run.seed, run.created, run.run_id)


def gain(sides: tuple[Side, ...]) -> Gain:
    """Compare the twins seed by seed and case by case, over the seeds that both sides have and the cases that all have.

    Where a seed was run twice, the later run counts.
    """
    by_init = {side.init: {run.seed: run for run in side.runs} for side in sides}
    pretrained, scratch = by_init.get("pretrained", {}), by_init.get("scratch", {})
    seeds = sorted(set(pretrained) & set(scratch), key=lambda seed: -1 if seed is None else seed)
    if not seeds:
        return Gain("no_twin")
    cases = sorted(set.intersection(*(set(side[seed].scores) for side in (pretrained, scratch) for seed in seeds)))
    if len(cases) < _FEWEST_CASES:
        return Gain("undecided", cases=len(cases), seeds=len(seeds))
    first, second = ([[side[seed].scores[case] for case in cases] for seed in seeds] for side in (pretrained, scratch))
    metric = pretrained[seeds[0]].metric
    higher = metric is None or metric.higher_is_better
    verdict = gain_verdict(first, second, higher_is_better=higher)
    sign = 1.0 if higher else -1.0
    sums = zip(map(sum, zip(*first, strict=True)), map(sum, zip(*second, strict=True)), strict=True)
    moved = [sign * (of_first - of_second) for of_first, of_second in sums]
    return Gain(
        verdict.state,
        value=verdict.gain,
        low=verdict.interval.low if verdict.interval else None,
        high=verdict.interval.high if verdict.interval else None,
        cases=len(cases),
        seeds=len(seeds),
        better=sum(value > 0 for value in moved),
        worse=sum(value < 0 for value in moved),
    )


def _sentence(gain: Gain, metric: Headline | None, pretrained: Side | None, scratch: Side | None) -> str:
    if gain.state == "no_twin":
        if pretrained and scratch:
            return "The two starts have no seed in common, so nothing can be paired."
        missing = "from scratch" if pretrained else "pretrained"
        return f"The twin ({missing}) is missing; without it nothing can be said about a gain."
    what = metric_name(metric.id) if metric else "the score"
    if gain.state == "undecided":
        return f"Only {plural(gain.cases, 'case has', 'cases have')} a value in both twins: too few to compare."
    unit = unit_text(metric) if metric else ""
    digits = decimals(metric)
    numbers = (
        f"{signed(gain.value, digits)}{unit} in {what} "
        f"(95 % interval {signed(gain.low, digits)} to {signed(gain.high, digits)}; "
        f"{plural(gain.cases, 'test case')}, {plural(gain.seeds, 'seed')})"
    )
    said = {
        "gain_confirmed": f"Pretraining helped here: {numbers}.",
        "loss": f"Pretraining hurt here: {numbers}.",
    }.get(gain.state, f"Pretraining showed no gain here: {numbers}.")
    if gain.seeds == 1:
        said += " One seed: the interval covers the choice of cases, not the luck of training."
    if gain.cases < _FEW_CASES:
        said += f" With {gain.cases} cases even a real gain of a point would usually go unseen."
    return said


def _mean_of(tables: list[dict[str, float]]) -> dict[str, float]:
    names = [name for name in (tables[0] if tables else {}) if all(name in table for table in tables[1:])]
    return {name: sum([table[name] for table in tables]) / len(tables) for name in names}


def figures(side: Side) -> tuple[str, str]:
    """Return the headline value of a side and the line of detail below it."""
    metric = side.runs[0].metric
    assert metric is not None  # group keeps only runs with a metric
    digits, interval = decimals(metric), ""
    if len(side.runs) == 1 and metric.ci95 is not None:
        interval = f"; 95 % over cases {number(metric.ci95[0], digits)} to {number(metric.ci95[1], digits)}"
    elif side.spread is not None:
        interval = f"; sd over seeds {number(side.spread, digits)}"
    what = f"{metric_name(metric.id)}, mean of {plural(metric.n_cases, 'test case')}"
    return f"{number(side.mean, digits)}{unit_text(metric)}", f"{what}, {plural(len(side.runs), 'seed')}{interval}"


def decimals(metric: Headline | None) -> int:
    """Return how many decimals twins are written with: gains of shares are often smaller than a hundredth."""
    return 4 if metric is not None and metric.unit == "fraction" else 3


def interval_kind(gain: Gain) -> str:
    """Say what the interval of a gain was drawn over.

    >>> interval_kind(Gain("loss", seeds=3))
    'bootstrap over seeds, then cases'
    """
    return "bootstrap over seeds, then cases" if gain.seeds > 1 else "bootstrap over cases"
