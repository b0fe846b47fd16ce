"""The page of one run: the record rendered, its scores case by case, its curve, its pictures and its files."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.leaderboard import plots
from harness.leaderboard.folder import put_bytes
from harness.leaderboard.learning import learning_facts, read_points
from harness.leaderboard.pretexts import readings
from harness.leaderboard.reading import FILES, Points, RunData
from harness.leaderboard.recordfacts import (
    cost_facts,
    data_facts,
    identity_facts,
    planned_rows,
    protocol_facts,
    weight_facts,
)
from harness.leaderboard.render import render
from harness.leaderboard.scoretable import score_table
from harness.leaderboard.summary import RunSummary, metric_name, unit_text
from harness.leaderboard.text import bytes_size, number, slug
from harness.leaderboard.viewer import may_be_shown, write_viewer
from harness.leaderboard.words import CHECKS, STATUS, UNCHECKED, Word, word
from harness.records.objections import Objection

__all__ = ["write_run_page"]


def write_run_page(
    data: RunData,
    summary: RunSummary,
    folder: Path,
    counts: dict[str, str],
    *,
    viewer: bool = False,
    cards: Sequence[Path] = (),
    objections: Sequence[Objection] = (),
) -> None:
    """Write the page into ``folder/runs/<run_id>/`` with copies of the record's files and pictures.

    With ``viewer`` also a page that shows its volumes, where it holds some and the card allows it. ``objections`` are
    the events about this record.
    """
    home = folder / "runs" / summary.run_id
    record = data.record
    (home / "slices" if data.pictures else home).mkdir(parents=True, exist_ok=True)
    place = str(home)
    files = []
    contents = {"record.json": data.opened.text.encode(), **data.opened.files}
    for name in FILES:
        if name in contents:
            put_bytes(f"{place}/{name}", contents[name])
            files.append((name, bytes_size(len(contents[name]))))
    slices = [_slice(data.opened.folder / "slices" / name) for name in data.pictures]
    for name, shown in zip(data.pictures, slices, strict=True):
        shutil.copyfile(data.opened.folder / "slices" / name, home / "slices" / shown["name"])
    shows_volumes = bool(data.volumes) and may_be_shown(data, cards)
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
        readings=readings(record.metrics) if record.kind == "pretrain" else [],
        scores=[score_table(data, metric, f"strip{i}", drawn=i == 0) for i, metric in enumerate(record.metrics)],
        slices=slices,
        shows_volumes=shows_volumes,
        viewer=viewer and shows_volumes and write_viewer(data, summary, home, counts, slices),
        **_curves(data, record.model.init),
        **_loading(data),
        weights=weight_facts(record),
        protocol=protocol_facts(record),
        data=data_facts(record),
        cost=[*cost_facts(record), *learning_facts(read_points(data.opened.files.get("log.jsonl", b"")))],
        planned=planned_rows(record),
        identity=identity_facts(record),
        checks=_checks(data),
        objections=[(event, _said_of(event)) for event in objections],
        reasons=sorted(record.reasons.items()),
        files=files,
    )
    put_bytes(f"{place}/index.html", page.encode("utf-8"))


def _crumbs(summary: RunSummary) -> list[tuple[str, str | None]]:
    steps: list[tuple[str, str | None]] = [("Runs", "runs.html")]
    if summary.counts:
        steps.append((f"Cell {summary.cell}", f"cells/{summary.cell}.html"))
    return [*steps, (f"Run {summary.run_id}", None)]


def _lead(summary: RunSummary) -> str:
    rule = summary.kind == "zero_training_baseline"
    start = {"scratch": "from scratch", "pretrained": "from pretrained weights"}.get(
        summary.init, "without weights" if rule else f"start: {summary.init}"
    )
    named = {"pretrain": "Pretraining", "eval_only": "Evaluation", "zero_training_baseline": "Rule without training,"}
    kind = named.get(summary.kind, "Training")
    steps = f", {summary.steps:,} steps" if summary.steps else ""
    fold = f", fold {summary.fold}" if summary.fold is not None else ""
    where = f"protocol {summary.protocol}, split {summary.split}{fold}"
    return f"{kind} {start}, {where}, seed {summary.seed}{steps}, {summary.day}."


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


def _said_of(event: Objection) -> Word:
    """Return how an event looks: what a confirmed one made of the record, else its state."""
    if event.outcome is not None:
        return word(STATUS, event.outcome)
    meaning = {"open": "Nobody has decided it yet.", "rejected": "It was looked into and does not hold."}
    return Word(f"objection {event.state}", "half" if event.state == "open" else "slash", "mute", meaning[event.state])


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
