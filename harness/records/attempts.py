"""What stands against a printed number: single runs, or one run per fold where it was printed over all folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cards.claim import Folds
from harness.records.aggregate import aggregate
from harness.records.cases import read_cases
from harness.records.identity import cell_key, folds_key, sweep_key
from harness.records.schema import Metric, Record

__all__ = ["Attempt", "Run", "attempts", "latest", "with_twins"]


@dataclass(frozen=True)
class Run:
    """A record and the folder that its case file lies in."""

    record: Record
    folder: Path

    def case_scores(self, metric_id: str) -> dict[str, float]:
        """Return case id to the mean over its defined classes, for every case that has one."""
        values: dict[str, list[float]] = defaultdict(list)
        for row in read_cases(self.folder / "cases.csv"):
            if row.metric_id == metric_id and row.value is not None:
                values[row.case_id].append(row.value)
        return {case: sum(found) / len(found) for case, found in values.items()}

    def metric(self, metric_id: str) -> Metric:
        """Return a metric of the record by its id."""
        return next(metric for metric in self.record.metrics if metric.id == metric_id)


@dataclass(frozen=True)
class Attempt:
    """Everything under one seed: one run, or the runs of all folds in their order.

    Attributes
    ----------
    runs : tuple of Run
        At least one.
    folds : Folds or None
        How the folds become one number; None for a single run.
    """

    runs: tuple[Run, ...]
    folds: Folds | None = None

    @property
    def seed(self) -> int:
        """The seed of training; 0 where nothing was drawn."""
        return self.runs[0].record.seeds.torch or 0

    def value(self, metric_id: str) -> float | None:
        """Return the one number: of the run, the mean of the folds' values, or of the cases of all folds together."""
        if self.folds is None:
            return self.runs[0].metric(metric_id).value
        if self.folds.combined == "pooled_cases":
            first = self.runs[0].metric(metric_id)
            rows = [row for run in self.runs for row in read_cases(run.folder / "cases.csv")]
            (pooled,) = aggregate(
                [row for row in rows if row.metric_id == metric_id],
                policy=first.policy,
                averaging={metric_id: first.averaging},
                intervals=False,
            )
            return pooled.value
        values = [run.metric(metric_id).value for run in self.runs]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    def case_scores(self, metric_id: str) -> dict[str, float]:
        """Return the score of every case of all runs; every case is scored in one fold."""
        return {case: score for run in self.runs for case, score in run.case_scores(metric_id).items()}

    def n_cases(self, metric_id: str) -> int:
        """Return how many cases contribute."""
        return sum(run.metric(metric_id).n_cases for run in self.runs)


def latest(runs: Iterable[Run]) -> list[Run]:
    """Keep one run per cell, the later one: a cell that was run twice is one seed, not two."""
    return list({cell_key(run.record): run for run in sorted(runs, key=lambda run: run.record.created)}.values())


def attempts(runs: Sequence[Run], folds: Folds | None) -> tuple[list[list[Attempt]], list[str]]:
    """Group runs into what repeats itself seed by seed.

    Parameters
    ----------
    runs : sequence of Run
        One per cell.
    folds : Folds, optional
        How the claim was made of folds. A seed of which a fold is missing is no attempt.

    Returns
    -------
    list of list of Attempt
        One list per sweep, sorted by seed.
    list of str
        One sentence per seed whose folds are incomplete.
    """
    groups: dict[str, list[Attempt]] = defaultdict(list)
    missing = []
    if folds is None:
        for run in runs:
            groups[sweep_key(run.record)].append(Attempt((run,)))
    else:
        by_seed: dict[tuple[str, int], dict[int, Run]] = defaultdict(dict)
        for run in runs:
            if run.record.split.n_folds == folds.count:
                by_seed[folds_key(run.record), run.record.seeds.torch or 0][run.record.split.fold or 0] = run
        for (key, seed), found in sorted(by_seed.items()):
            if len(found) == folds.count:
                groups[key].append(Attempt(tuple(found[fold] for fold in sorted(found)), folds))
            else:
                absent = [str(fold) for fold in range(folds.count) if fold not in found]
                missing.append(f"seed {seed} lacks {'folds' if len(absent) > 1 else 'fold'} {', '.join(absent)}")
    return [sorted(group, key=lambda one: one.seed) for group in groups.values()], missing


def with_twins(found: Iterable[Attempt], pairs: Iterable[tuple[Run, Run]]) -> list[tuple[Attempt, Attempt]]:
    """Pair attempts with those of their twins; where a fold has no twin, the attempt has none."""
    twin_of = {run.record.run_id: twin for run, twin in pairs}
    return [
        (one, Attempt(tuple(twin_of[run.record.run_id] for run in one.runs), one.folds))
        for one in found
        if all(run.record.run_id in twin_of for run in one.runs)
    ]
