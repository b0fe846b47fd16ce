"""The page of one run: the record rendered, its scores case by case, its curve, its pictures and its files."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.leaderboard import plots
from harness.leaderboard.folder import put
from harness.leaderboard.reading import FILES, Points, RunData
from harness.leaderboard.recordfacts import cost_facts, data_facts, identity_facts, protocol_facts, weight_facts
from harness.leaderboard.render import render
from harness.leaderboard.summary import RunSummary, metric_name, unit_text
from harness.leaderboard.text import bytes_size, number, slug
from harness.leaderboard.words import CHECKS, UNCHECKED
from harness.records.cases import CaseRow
from harness.records.schema import Metric

__all__ = ["write_run_page"]

_MOST_CASES = 200  # a page shows at most this many rows; the case file has them all
_LEVELS = 4


@dataclass(frozen=True)
class ScoreTable:
    """One metric as a table of cases and classes."""

    id: str
    name: str
    unit: str
    higher_is_better: bool
    averaging: str
    classes: list[str]
    cases: list[tuple[str, list[tuple[str, int, str]], str]]
    means: list[str]
    value: str
    shown: int
    total: int
    plot: Markup | None


def write_run_page(data: RunData, summary: RunSummary, folder: Path, counts: dict[str, str]) -> None:
    """Write the page into ``folder/runs/<run_id>/`` with copies of the record's files and pictures."""
    home = folder / "runs" / summary.run_id
    record = data.record
    (home / "slices" if data.pictures else home).mkdir(parents=True, exist_ok=True)
    files = []
    contents = {"record.json": data.opened.text.encode(), **data.opened.files}
    for name in FILES:
        if name in contents:
            (home / name).write_bytes(contents[name])
            files.append((name, bytes_size(len(contents[name]))))
    slices = [_slice(data.opened.folder / "slices" / name) for name in data.pictures]
    for name, shown in zip(data.pictures, slices, strict=True):
        shutil.copyfile(data.opened.folder / "slices" / name, home / "slices" / shown["name"])
    page = render(
        "run.html",
        depth=2,
        section="runs",
        counts=counts,
        run=data,
        summary=summary,
        crumbs=_crumbs(summary),
        lead=_lead(summary),
        verification=data.verification,
        trust_name=data.verification.trust_name,
        names={metric.id: metric_name(metric.id) for metric in record.metrics},
        units={metric.id: unit_text(metric) for metric in record.metrics},
        scores=[score_table(data, metric, f"strip{i}") for i, metric in enumerate(record.metrics)],
        slices=slices,
        **_curves(data, record.model.init),
        **_loading(data),
        weights=weight_facts(record),
        protocol=protocol_facts(record),
        data=data_facts(record),
        cost=cost_facts(record),
        identity=identity_facts(record),
        checks=_checks(data),
        reasons=sorted(record.reasons.items()),
        files=files,
    )
    put(home / "index.html", page)


def _crumbs(summary: RunSummary) -> list[tuple[str, str | None]]:
    steps: list[tuple[str, str | None]] = [("Runs", "runs.html")]
    if summary.status == "complete" and summary.kind != "pretrain" and summary.metric is not None:
        steps.append((f"Cell {summary.cell}", f"cells/{summary.cell}.html"))
    return [*steps, (f"Run {summary.run_id}", None)]


def _lead(summary: RunSummary) -> str:
    start = {"scratch": "from scratch", "pretrained": "from pretrained weights"}.get(
        summary.init, f"start: {summary.init}"
    )
    kind = {"pretrain": "Pretraining", "eval_only": "Evaluation"}.get(summary.kind, "Training")
    steps = f", {summary.steps:,} steps" if summary.steps else ""
    fold = f", fold {summary.fold}" if summary.fold is not None else ""
    where = f"protocol {summary.protocol}, split {summary.split}{fold}"
    return f"{kind} {start}, {where}, seed {summary.seed}{steps}, {summary.day}."


def score_table(data: RunData, metric: Metric, ident: str) -> ScoreTable:
    """Lay one metric out as cases by classes, the worst cases first where not all are shown."""
    table = data.tables.get(metric.id, {})
    classes = data.classes
    per_class = {name: metric.per_class[name] for name in classes if name in metric.per_class}
    digits = 3 if metric.unit == "fraction" else 2
    rows = [(case, _mean(cells), cells) for case, cells in table.items()]
    if len(rows) > _MOST_CASES:
        sign = 1 if metric.higher_is_better else -1
        rows = sorted(rows, key=lambda row: -math.inf if row[1] is None else sign * row[1])[:_MOST_CASES]
    cases = [
        (case, [_cell(cells.get(name), metric, digits) for name in classes], number(mean, digits))
        for case, mean, cells in rows
    ]
    strips = [
        plots.Strip(name, [v for cells in table.values() if (v := _value(cells.get(name))) is not None], per.value)
        for name, per in per_class.items()
    ]
    name = metric_name(metric.id)
    return ScoreTable(
        id=metric.id,
        name=name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        averaging=metric.averaging,
        classes=classes,
        cases=cases,
        means=[number(per_class[name].value if name in per_class else None, digits) for name in classes],
        value=number(metric.value, digits),
        shown=len(cases),
        total=len(table),
        plot=plots.strips(strips, f"{name}{unit_text(metric)}", ident, share=metric.unit == "fraction"),
    )


def _value(row: CaseRow | None) -> float | None:
    return row.value if row is not None and row.value is not None and math.isfinite(row.value) else None


def _mean(cells: dict[str, CaseRow]) -> float | None:
    values = [v for row in cells.values() if (v := _value(row)) is not None]
    return sum(values) / len(values) if values else None


def _cell(row: CaseRow | None, metric: Metric, digits: int) -> tuple[str, int, str]:
    """Return the text of a score, its depth of shading and the reason where there is none."""
    value = _value(row)
    if value is None:
        return "", 0, (row.reason or "no value").replace("_", " ") if row else "no row"
    level = min(_LEVELS, int(value * (_LEVELS + 1))) if metric.unit == "fraction" else 0
    return number(value, digits), level, ""


def _curves(data: RunData, init: str) -> dict[str, Any]:
    tone = "a" if init == "pretrained" else "b"
    loss, validation = data.curves
    return {
        "curve": plots.curves([plots.Curve("loss", loss, tone)], "Training loss", "loss"),
        "curve_rows": _point_rows(loss),
        "validation": plots.curves([plots.Curve("metric", validation, tone)], "Validation", "val"),
        "validation_rows": _point_rows(validation),
    }


def _point_rows(points: Points, most: int = 60) -> list[tuple[str, str]]:
    """Return at most ``most`` points of a curve as text, the last always among them."""
    step = max(1, math.ceil(len(points) / most))
    return [(f"{at:.0f}", number(value, 4)) for at, value in points[::-1][::step][::-1]]


def _loading(data: RunData) -> dict[str, Any]:
    counts, encoder = data.loading.get("counts"), data.loading.get("encoder")
    if not isinstance(counts, dict) or not isinstance(encoder, dict):
        return {"loading": None, "loading_sentence": ""}
    fraction = encoder.get("fraction")
    share = f"{fraction:.1%}" if isinstance(fraction, float | int) else "an unknown share"
    return {
        "loading": [(str(state), int(n)) for state, n in counts.items() if isinstance(n, int)],
        "loading_sentence": f"{share} of the encoder's values came from the file; loading.json lists every tensor.",
    }


def _slice(path: Path) -> dict[str, Any]:
    """Describe a picture by its name, such as ``best_pt_100.png``, and by the size in its header."""
    with path.open("rb") as stream:
        header = stream.read(24)[16:]
    which, _, case = path.stem.partition("_")
    label = f"{which}: {case}" if case else which
    return {
        "name": f"{slug(path.stem)}.png",  # a stranger's name never becomes a file of the board
        "alt": f"Slices of the {which} case {case}, with contours of reference and prediction",
        "caption": label,
        "width": int.from_bytes(header[:4], "big"),
        "height": int.from_bytes(header[4:], "big"),
    }


def _checks(data: RunData) -> list[dict[str, Any]]:
    """Return every finding, and the checks that found nothing."""
    findings = data.verification.findings
    said = {finding.check for finding in findings}
    quiet = [
        {"shape": "check", "tone": "good", "said": "passed", "text": name}
        for number, name in CHECKS.items()
        if number not in said | UNCHECKED
    ]
    look = {"error": ("cross", "bad"), "warning": ("alert", "warn"), "note": ("ring", "mute")}
    loud = [
        {
            "shape": look[finding.level][0],
            "tone": look[finding.level][1],
            "said": finding.level,
            "text": f"{CHECKS.get(finding.check, 'other')} ({finding.field}): {finding.message}",
        }
        for finding in findings
    ]
    return quiet + loud
