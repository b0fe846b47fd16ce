"""Reading the runs and comparing the cells, and writing their pages: many and alike, so spread over the processors.

Each record is read once; what stays in memory afterwards is its summary.
"""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from harness.errors import HarnessError
from harness.leaderboard.cellpage import write_cell_page
from harness.leaderboard.cells import Cell, Gain, Side, floors_of, gain, group
from harness.leaderboard.gather import Broken, Found, explain
from harness.leaderboard.learning import race, read_points
from harness.leaderboard.reading import RunData, read_curves, read_run, said
from harness.leaderboard.recordfacts import protocol_facts
from harness.leaderboard.runpage import write_run_page
from harness.leaderboard.summary import RunSummary, summarise
from harness.progress import track
from harness.records import crosscheck
from harness.records.configuration import read_config
from harness.records.crew import Crew
from harness.records.objections import Objection
from harness.records.store import load
from harness.records.verification import Finding, Verification

__all__ = ["Press", "Published", "crew", "publish_cells", "publish_runs"]

_WORTH_WORKERS: Final = 60  # below this many pages, starting another interpreter costs more than it saves
R = TypeVar("R")


@dataclass(frozen=True)
class Published:
    """What became of the records: runs with a page, and those that were refused."""

    runs: tuple[RunSummary, ...]
    refused: tuple[Broken, ...]
    folders: dict[str, Path]


@dataclass(frozen=True)
class Press:
    """How pages are made.

    Attributes
    ----------
    folder : Path or None
        The board that is being written; None where only the numbers are wanted, as for an export.
    counts : dict of str to str
        For the foot of the pages.
    cards : tuple of Path
        Folders of the user's own cards.
    viewer : bool
        Whether the board has a viewer for volumes.
    objections : dict of str to list of Objection
        Run id to what was said against the record, in the order of saying; shown on its page.
    """

    folder: Path | None
    counts: dict[str, str]
    cards: tuple[Path, ...] = ()
    viewer: bool = False
    objections: Mapping[str, Sequence[Objection]] = field(default_factory=dict)

    def run_page(self, data: RunData, summary: RunSummary) -> None:
        """Write the page of a run."""
        if self.folder is not None:
            said = self.objections.get(summary.run_id, ())
            write_run_page(
                data, summary, self.folder, self.counts, viewer=self.viewer, cards=self.cards, objections=said
            )

    def remove(self, summary: RunSummary) -> None:
        """Take the page of a run away again."""
        if self.folder is not None:
            shutil.rmtree(self.folder / "runs" / summary.run_id)


def crew(workers: int) -> Crew:
    """Return the processes that make the pages of runs and cells, to be used for both."""
    return Crew(workers, _WORTH_WORKERS)


def publish_runs(
    found: Sequence[Found],
    standing: Mapping[str, str],
    press: Press,
    workers: Crew,
    meanwhile: Callable[[], object] | None = None,
) -> Published:
    """Verify every record, write a page for each that holds, and compare them with one another.

    Parameters
    ----------
    found : sequence of Found
        Folders with records.
    standing : mapping of str to str
        Run id to what a confirmed objection made of it.
    press : Press
        Where to, and how.
    workers : Crew
        Who does it.
    meanwhile : callable, optional
        What this process does once the others have begun.
    """
    work = functools.partial(_publish, press=press)
    runs: dict[str, RunSummary] = {}
    joint: list[crosscheck.Summary] = []
    folders: dict[str, Path] = {}
    refused = []
    what = "run pages" if press.folder else "runs"
    outcomes = workers.map(work, found)
    if meanwhile is not None:
        meanwhile()
    for item, outcome in zip(found, _shown(outcomes, what, len(found)), strict=True):
        if isinstance(outcome, Broken):
            refused.append(outcome)
        elif outcome[0].run_id not in runs:
            summary, other = outcome
            runs[summary.run_id] = _slim(summary, standing.get(summary.run_id))
            folders[summary.run_id] = item.folder
            joint.append(other)
        else:  # the same run again, perhaps with other attestations: the first one found is the one that is shown
            _publish(Found(folders[outcome[0].run_id], runs[outcome[0].run_id].place), press)
    for run_id, findings in crosscheck.compare(joint).items():
        held = _with_findings(runs[run_id], folders[run_id], findings, press)
        if isinstance(held, Broken):
            refused.append(held)
            del runs[run_id], folders[run_id]
    replaced = {run.supersedes for run in runs.values()}
    final = [replace(run, superseded=True) if run.run_id in replaced else run for run in runs.values()]
    for run in final:
        if press.folder and (run.superseded or run.standing):  # known only now; the page must say it
            press.run_page(read_run(folders[run.run_id], press.cards), run)
    return Published(
        tuple(sorted(final, key=lambda r: (r.dataset, r.model, r.init, -1 if r.seed is None else r.seed, r.run_id))),
        tuple(sorted(refused, key=lambda broken: broken.place)),
        folders,
    )


def publish_cells(runs: Sequence[RunSummary], folders: Mapping[str, Path], press: Press, workers: Crew) -> list[Cell]:
    """Compare the twins of every cell and write its page."""
    tasks = []
    groups = group(runs)
    rules = [one for one in groups if one[1][0].runs[0].kind == "zero_training_baseline"]
    for key, sides in groups:
        first = [side.runs[0].run_id for side in sides]
        homes = {run_id: folders[run_id] for run_id in first}
        tasks.append((key, sides, homes, floors_of(sides, rules)))
    work = functools.partial(_publish_cell, press=press)
    gains = _shown(workers.map(work, tasks), "cell pages" if press.folder else "cells", len(tasks))
    return [Cell(key, sides, found) for (key, sides), found in zip(groups, gains, strict=True)]


def _publish(item: Found, press: Press) -> Broken | tuple[RunSummary, crosscheck.Summary]:
    try:
        data = read_run(item.folder, press.cards)
    except HarnessError as error:
        return Broken(item.place, explain(error, item.folder))
    summary = summarise(data, item.place)
    press.run_page(data, summary)
    return summary, crosscheck.summarise(data.opened)


def _publish_cell(
    task: tuple[str, tuple[Side, ...], dict[str, Path], tuple[tuple[str, str, str], ...]], press: Press
) -> Gain:
    """Compare the twins of a cell and write its page; the gain alone goes back, since runs are heavy to send."""
    key, sides, folders, floors = task
    cell = Cell(key, sides, gain(sides))
    if press.folder is None:
        return cell.gain
    logs = {run_id: _log(home) for run_id, home in folders.items()}
    curves = {run_id: read_curves(log)[0] for run_id, log in logs.items()}
    ran = race(cell, {run_id: read_points(log) for run_id, log in logs.items()})
    home = folders[cell.first.run_id]
    facts: list[tuple[str, Any]] = protocol_facts(load(home))
    config, _ = read_config((home / "config.yaml").read_text(encoding="utf-8"))
    write_cell_page(cell, curves, facts, press.folder, press.counts, ran, floors, config)
    return cell.gain


def _log(home: Path) -> bytes:
    path = home / "log.jsonl"
    return path.read_bytes() if path.is_file() and not path.is_symlink() else b""


def _slim(summary: RunSummary, standing: str | None) -> RunSummary:
    """Share the names of cases and classes between runs, and note what became of the record."""
    return replace(
        summary,
        standing=standing,
        scores={sys.intern(name): value for name, value in summary.scores.items()},
        classes={sys.intern(name): value for name, value in summary.classes.items()},
    )


def _with_findings(summary: RunSummary, home: Path, findings: list[Finding], press: Press) -> RunSummary | Broken:
    """Apply what only several records together show: an error takes the page away, the rest is written onto it."""
    if any(finding.level == "error" for finding in findings):
        press.remove(summary)
        return Broken(summary.place, said(Verification(home, summary.run_id, tuple(findings), 0)))
    if press.folder is None:
        return summary
    data = read_run(home, press.cards)
    more = replace(data.verification, findings=(*data.verification.findings, *findings))
    press.remove(summary)
    press.run_page(replace(data, verification=more), summary)
    return summary


def _shown(results: Iterable[R], what: str, total: int) -> Iterator[R]:
    """Show how far the work has come, where there is any."""
    yield from track(results, what, total=total) if total else ()
