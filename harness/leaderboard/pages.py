"""Every page of the board, written one after the other into a fresh folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.cards.claim import Claim
from harness.cards.library import claims, index
from harness.leaderboard.catalogue import write_catalogue
from harness.leaderboard.cells import Cell
from harness.leaderboard.folder import MARKER, put
from harness.leaderboard.frontpage import stories
from harness.leaderboard.gather import Broken, Found, find
from harness.leaderboard.ledger import Line, facets, lines, siblings
from harness.leaderboard.ledgerjson import catalogue_json
from harness.leaderboard.metricpage import examples
from harness.leaderboard.overview import FEWEST_CASES, write_overview
from harness.leaderboard.publish import Press, Published, crew, publish_cells, publish_runs
from harness.leaderboard.render import render
from harness.leaderboard.runlist import write_run_lists
from harness.leaderboard.standings import standings
from harness.leaderboard.summary import RunSummary
from harness.leaderboard.text import clean, plural, slug
from harness.leaderboard.words import CONFIDENCE, EVIDENCE, GAINS, VERDICTS, word
from harness.machine import processors
from harness.records.crew import Crew
from harness.records.objections import Objection, objections, standing
from harness.records.protocol import family
from harness.records.verification import TRUST
from harness.scoring.protocol_fields import BLOCKING_FIELDS, PROTOCOL_FIELDS
from harness.scoring.verdict import FEW_CASES, suggested_margin

__all__ = ["Board", "Held", "study", "write_pages"]

_CELLS_ON_FRONT = 12

_TRUST_MEANING = (
    "a paper says so",
    "the record is valid",
    "every aggregate was recomputed from the scores of the cases",
    "the scores were recomputed from the predictions",
    "the predictions were made again from the final weights, on other hardware",
    "somebody else trained it again with another seed",
)


@dataclass(frozen=True)
class Board:
    """What a board is made from."""

    found: tuple[Found, ...]
    broken: tuple[Broken, ...]
    claims: tuple[Claim, ...]
    datasets: frozenset[str]
    standing: dict[str, str] = field(default_factory=dict)
    cards: tuple[Path, ...] = ()
    viewer: bool = False
    objections: dict[str, list[Objection]] = field(default_factory=dict)

    @classmethod
    def gather(cls, runs: Sequence[Path], cards: Sequence[Path] = (), *, viewer: bool = False) -> Board:
        """Search the folders of runs, and read claims, the names of cards, and objections to records."""
        found, broken = find(runs)
        became: dict[str, str] = {}
        against: dict[str, list[Objection]] = {}
        for top in runs:
            events = objections(top)
            became |= standing(events)
            for event in events:
                against.setdefault(event.run_id, []).append(event)
        return cls(
            tuple(found),
            tuple(broken),
            claims().results,
            frozenset(index("dataset", cards)),
            became,
            tuple(cards),
            viewer,
            against,
        )

    @property
    def counts(self) -> dict[str, str]:
        """Sizes in words, for the foot of every page."""
        return {"records": plural(len(self.found), "record"), "claims": plural(len(self.claims), "claim")}


@dataclass(frozen=True)
class Held:
    """What the records of a board say: runs, cells and the ledger."""

    published: Published
    cells: list[Cell]
    ledger: list[Line]


def study(board: Board, folder: Path | None = None, workers: int | None = None) -> Held:
    """Verify every record, compare cells and claims; write the pages of runs and cells where a folder is given."""
    with crew(workers or processors()) as pressmen:
        return _study(board, folder, pressmen)


def _study(board: Board, folder: Path | None, pressmen: Crew) -> Held:
    press = Press(folder, board.counts, board.cards, board.viewer, board.objections)
    # The examples of the metric page take seconds, most of them to load compiled code.
    published = publish_runs(board.found, board.standing, press, pressmen, meanwhile=examples if folder else None)
    cells = publish_cells(published.runs, published.folders, press, pressmen)
    ledger = lines(board.claims, standings(board.claims, published.runs, published.folders, board.datasets))
    return Held(published, cells, ledger)


def write_pages(board: Board, folder: Path, workers: int | None = None) -> None:
    """Write every page of ``board`` below ``folder``, on all processors unless told otherwise."""
    with crew(workers or processors()) as pressmen:
        held = _study(board, folder, pressmen)
        lists = write_run_lists(held.published.runs, folder, board.counts, pressmen)
        _write_other_pages(board, held, folder)
        for _ in lists:
            pass  # the pages are written; an error in a process is raised here


def _write_other_pages(board: Board, held: Held, folder: Path) -> None:
    """Write what is no page of a run or cell and no list of runs."""
    published, cells, ledger = held.published, held.cells, held.ledger
    _write_front(board, ledger, published, cells, folder)
    _write_claims(board, ledger, folder)
    _write_method(board, folder)
    write_overview(ledger, published.runs, cells, folder, board.counts)
    write_catalogue(ledger, published.runs, cells, folder, board.counts, board.cards)
    _write_index(ledger, published.runs, cells, folder)
    for name, text in catalogue_json(ledger).items():
        put(folder / "models" / f"{slug(name)}.json", text)


def _write_front(
    board: Board,
    ledger: list[Line],
    published: Published,
    cells: list[Cell],
    folder: Path,
) -> None:
    runs = published.runs
    compared = sum(line.standing.unknown is not None for line in ledger)
    twins = sum(cell.gain.value is not None for cell in cells)
    told = stories(_newest(cells), _CELLS_ON_FRONT)
    models, datasets = len({line.claim.model for line in ledger}), len({line.claim.dataset for line in ledger})
    page = render(
        "front.html",
        depth=0,
        section="front",
        counts=board.counts,
        tally=[
            (f"{len(ledger):,}", "claims", "#claims"),
            (f"{compared:,}", "claims compared with a run", "#claims"),
            (f"{len(runs):,}", "runs with a record", "runs.html"),
            (f"{twins:,}", "pairs of twins" if twins != 1 else "pair of twins", "#here"),
        ],
        stories=told,
        more_cells=len(cells) > sum(len(story.cards) + len(story.starts) for story in told),
        pretrainings=[run for run in runs if run.kind == "pretrain" and run.status == "complete"][:20],
        failures=[run for run in runs if run.status != "complete" or run.standing][:50],
        unfinished=board.broken[:50],
        refused=published.refused[:50],
        claims_lead=(
            f"{len(ledger)} numbers that papers and repositories print, of {models} models on {datasets} data sets, "
            "each in the unit of its source. A claim is never mixed with a run: where nothing here was run on the same "
            "protocol, the line says so."
        ),
        facets=facets(ledger),
        lines=ledger,
        any_reproduced=any(line.standing.reproduced is not None for line in ledger),
    )
    put(folder / "index.html", page)


def _newest(cells: list[Cell]) -> list[Cell]:
    """Return the cells by their newest run, the floors after everything that learnt."""
    by_date = sorted(cells, key=lambda cell: max(run.created for run in cell.runs), reverse=True)
    return sorted(by_date, key=lambda cell: cell.is_floor)


def _write_claims(board: Board, ledger: list[Line], folder: Path) -> None:
    for line in ledger:
        page = render(
            "claim.html",
            depth=1,
            section="front",
            counts=board.counts,
            line=line,
            gain_word=word(GAINS, line.standing.comparison.gain.state) if line.standing.comparison else None,
            siblings=siblings(line.claim, board.claims),
            family=family(line.claim.model),
            dataset_page=slug(line.claim.dataset),
        )
        put(folder / "claims" / f"{line.claim.id}.html", page)


def _write_method(board: Board, folder: Path) -> None:
    page = render(
        "method.html",
        depth=0,
        section="method",
        counts=board.counts,
        protocol_fields=PROTOCOL_FIELDS,
        blocking_fields=BLOCKING_FIELDS,
        margins={
            "eval": f"{suggested_margin(FEW_CASES, eval_only=True):g}",
            "small": f"{suggested_margin(FEW_CASES - 1):g}",
            "large": f"{suggested_margin(FEW_CASES):g}",
            "few": FEW_CASES,
        },
        fewest=FEWEST_CASES,
        verdicts=list(VERDICTS.values()),
        gains=list(GAINS.values()),
        evidence=list(EVIDENCE.values()),
        confidence=list(CONFIDENCE.values()),
        trust=TRUST,
        trust_meaning=_TRUST_MEANING,
    )
    put(folder / "method.html", page)


def _write_index(ledger: list[Line], runs: Sequence[RunSummary], cells: list[Cell], folder: Path) -> None:
    """Write the board as data: what a catalogue site or a script would want of it."""
    content: dict[str, Any] = {
        "format": "harness-board",
        "version": 1,
        "claims": [
            {
                "id": line.claim.id,
                "verdict": line.standing.verdict,
                "reason": line.standing.reason,
                "reproduced": line.standing.reproduced,
                "difference": line.standing.difference,
            }
            for line in ledger
        ],
        "cells": [
            {
                "cell": cell.key,
                "model": clean(cell.first.model, 200),
                "dataset": clean(cell.first.dataset, 200),
                "evidence": cell.evidence,
                "gain": {
                    "state": cell.gain.state,
                    "value": cell.gain.value,
                    "low": cell.gain.low,
                    "high": cell.gain.high,
                },
                "runs": [run.run_id for run in cell.runs],
            }
            for cell in cells
        ],
        "runs": [
            {
                "run_id": run.run_id,
                "status": run.status,
                "init": run.init,
                "score": run.metric.value if run.metric else None,
            }
            for run in runs
        ],
    }
    put(folder / MARKER, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
