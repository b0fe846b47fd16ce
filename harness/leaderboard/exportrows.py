"""The rows that can be exported: claims, runs and cells as plain values, and the filters over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from harness.errors import UserError, unknown_name
from harness.leaderboard.cells import Cell
from harness.leaderboard.ledger import Line
from harness.leaderboard.pages import Held
from harness.leaderboard.summary import RunSummary

__all__ = ["COLUMNS", "Row", "rows_of", "where"]

Row = dict[str, Any]

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "claims": (
        *("id", "model", "variant", "init", "dataset", "task", "split", "metric", "unit", "reported", "std", "source"),
        *("confidence", "verdict", "reason", "reproduced", "difference", "low", "high", "unknown_fields", "trust"),
        *("gpu_hours", "date", "page"),
    ),
    "runs": (
        *("run_id", "model", "init", "dataset", "split", "fold", "label_fraction", "protocol", "seed", "kind"),
        *("status", "evidence", "metric", "unit", "value", "low", "high", "n_cases", "trust", "steps", "seconds"),
        *("gpu_hours", "date", "cell", "page"),
    ),
    "cells": (
        *("cell", "model", "dataset", "split", "fold", "label_fraction", "protocol", "evidence", "metric", "unit"),
        *("pretrained", "scratch", "gain", "low", "high", "state", "seeds", "cases", "page"),
    ),
}


def where(filters: Sequence[str], columns: Sequence[str]) -> dict[str, set[str]]:
    """Read filters of the form ``column=value``.

    Raises
    ------
    UserError
        There is no such column, or no equals sign.
    """
    found: dict[str, set[str]] = {}
    for text in filters:
        key, sign, value = text.partition("=")
        if not sign:
            raise UserError(f"The filter {text!r} is not of the form column=value, such as model=Med3D.")
        if key not in columns:
            raise unknown_name("column", key, columns)
        found.setdefault(key, set()).add(value)
    return found


def rows_of(what: str, held: Held, url: str = "") -> list[Row]:
    """Return every row of one table, in the order of the board; fractions stay fractions, nothing is rounded."""
    start = f"{url.rstrip('/')}/" if url else ""
    if what == "claims":
        return [_claim(line, start) for line in held.ledger]
    if what == "runs":
        return [_run(run, start) for run in held.published.runs]
    return [_cell(cell, start) for cell in held.cells]


def _claim(line: Line, start: str) -> Row:
    claim, standing = line.claim, line.standing
    return {
        "id": claim.id,
        "model": claim.model,
        "variant": claim.variant,
        "init": claim.init,
        "dataset": claim.dataset,
        "task": claim.task,
        "split": claim.split,
        "metric": claim.metric,
        "unit": claim.unit,
        "reported": claim.value,
        "std": claim.std,
        "source": claim.source,
        "confidence": claim.confidence,
        "verdict": standing.verdict,
        "reason": standing.reason,
        "reproduced": standing.reproduced,
        "difference": standing.difference,
        "low": standing.low,
        "high": standing.high,
        "unknown_fields": standing.unknown,
        "trust": standing.trust,
        "gpu_hours": standing.gpu_hours,
        "date": standing.date,
        "page": f"{start}claims/{claim.id}.html",
    }


def _run(run: RunSummary, start: str) -> Row:
    metric = run.metric
    low, high = metric.ci95 if metric and metric.ci95 else (None, None)
    return {
        "run_id": run.run_id,
        "model": run.model,
        "init": run.init,
        "dataset": run.dataset,
        "split": run.split,
        "fold": run.fold,
        "label_fraction": run.label_fraction,
        "protocol": run.protocol,
        "seed": run.seed,
        "kind": run.kind,
        "status": run.standing or ("superseded" if run.superseded else run.status),
        "evidence": " ".join(run.evidence),
        "metric": metric.id if metric else None,
        "unit": metric.unit if metric else None,
        "value": metric.value if metric else None,
        "low": low,
        "high": high,
        "n_cases": metric.n_cases if metric else None,
        "trust": run.trust,
        "steps": run.steps,
        "seconds": run.seconds,
        "gpu_hours": run.gpu_hours,
        "date": run.created,
        "cell": run.cell if run.counts else None,
        "page": start + run.href,
    }


def _cell(cell: Cell, start: str) -> Row:
    first, gain, metric = cell.first, cell.gain, cell.metric
    pretrained, scratch = cell.side("pretrained"), cell.side("scratch")
    return {
        "cell": cell.key,
        "model": first.model,
        "dataset": first.dataset,
        "split": first.split,
        "fold": first.fold,
        "label_fraction": first.label_fraction,
        "protocol": first.protocol,
        "evidence": " ".join(cell.evidence),
        "metric": metric.id if metric else None,
        "unit": metric.unit if metric else None,
        "pretrained": pretrained.mean if pretrained else None,
        "scratch": scratch.mean if scratch else None,
        "gain": gain.value,
        "low": gain.low,
        "high": gain.high,
        "state": gain.state,
        "seeds": gain.seeds,
        "cases": gain.cases,
        "page": start + cell.href,
    }
