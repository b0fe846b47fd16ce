"""The lists of all runs: pages of hundreds, each filled by whichever process is free."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.leaderboard.folder import put
from harness.leaderboard.ledger import Facet
from harness.leaderboard.render import render
from harness.leaderboard.summary import RunSummary
from harness.leaderboard.text import plural
from harness.records.crew import Crew

__all__ = ["write_run_lists"]

_RUNS_PER_PAGE: Final = 500


def write_run_lists(runs: Sequence[RunSummary], folder: Path, counts: dict[str, str], workers: Crew) -> Iterator[None]:
    """Write ``runs.html`` and the pages after it.

    Returns
    -------
    iterator
        One item per page. Processes start at once; a page is surely written when its item has been taken.
    """
    starts = range(0, max(1, len(runs)), _RUNS_PER_PAGE)
    # A list shows no case, and scores are most of what would be sent.
    parts = [
        (number, [replace(run, scores={}, classes={}) for run in runs[start : start + _RUNS_PER_PAGE]])
        for number, start in enumerate(starts, start=1)
    ]
    work = functools.partial(_write, total=len(runs), pages=len(parts), folder=folder, counts=counts)
    return workers.map(work, parts)


def _write(part: tuple[int, list[RunSummary]], *, total: int, pages: int, folder: Path, counts: dict[str, str]) -> None:
    number, runs = part
    page = render(
        "runs.html",
        depth=0,
        section="runs",
        counts=counts,
        lead=f"{plural(total, 'run')} with a record that passed its checks, failures included.",
        runs=runs,
        facets=_facets(runs),
        page=number,
        pages=pages,
    )
    put(folder / f"runs{'' if number == 1 else f'-{number}'}.html", page)


def _facets(runs: Sequence[RunSummary]) -> list[Facet]:
    def facet(key: str, title: str, values: list[str]) -> Facet:
        return Facet(key, title, tuple((value, value, values.count(value)) for value in sorted(set(values))))

    return [
        facet("model", "Model", [run.model for run in runs]),
        facet("dataset", "Data set", [run.dataset for run in runs]),
        facet("init", "Start", [run.init for run in runs]),
        facet("status", "Status", [run.status for run in runs]),
    ]
