"""The page of one cell: twins side by side, per class and per case, their curves, and the command to run it again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from harness.leaderboard import plots
from harness.leaderboard.cells import Cell, decimals, figures, interval_kind
from harness.leaderboard.folder import put
from harness.leaderboard.learning import Race
from harness.leaderboard.render import render
from harness.leaderboard.summary import RunSummary, metric_name, unit_text
from harness.leaderboard.text import number, plural, signed

__all__ = ["cell_card", "cell_view", "write_cell_page"]

_ALL_ROWS = 60  # a plot shows so many rows, each as it is
_MOST_ROWS = 30  # of more, it shows those that differ most


@dataclass(frozen=True)
class Plot:
    """A plot with its words and the numbers behind it."""

    title: str
    lead: str
    svg: Markup
    caption: str
    heads: list[str]
    rows: Sequence[tuple[str, ...]]


def where(cell: Cell) -> str:
    """Say where the cell stands: split, fold, share of labels, protocol, steps."""
    run = cell.first
    parts = [f"split {run.split}"]
    if run.fold is not None:
        parts.append(f"fold {run.fold}")
    if run.label_fraction is not None and run.label_fraction != 1:
        parts.append(f"{run.label_fraction:.0%} of the labels")
    parts.append(f"protocol {run.protocol}")
    if run.steps:
        parts.append(f"{run.steps:,} steps")
    return ", ".join(parts)


def cell_view(cell: Cell) -> dict[str, Any]:
    """Return the headline numbers of both sides and of the gain."""
    sides = []
    for side in cell.sides:
        value, detail = figures(side)
        sides.append({"tone": side.tone, "name": side.name, "value": value, "detail": detail})
    gain, metric = cell.gain, cell.metric
    unit = unit_text(metric) if metric else ""
    known = gain.value is not None
    digits = decimals(metric)
    detail = (
        f"paired per case; 95 % interval {signed(gain.low, digits)} to {signed(gain.high, digits)} "
        f"({interval_kind(gain)}); better in {gain.better}, worse in {gain.worse} of {plural(gain.cases, 'case')}"
    )
    return {
        "sides": sides,
        "gain_value": f"{signed(gain.value, digits)}{unit}" if known else None,
        "gain_detail": detail if known else "",
    }


def cell_card(cell: Cell) -> dict[str, Any]:
    """Return what the front page shows of a cell."""
    plot = class_plot(cell, f"c{cell.key}")
    return {
        "href": cell.href,
        "model": cell.first.model,
        "dataset": cell.first.dataset,
        "where": where(cell),
        "evidence": cell.evidence,
        "view": cell_view(cell),
        "word": cell.word,
        "sentence": cell.sentence,
        "plot": plot.svg if plot else None,
        "plot_caption": plot.caption if plot else "",
        "plot_rows": plot.rows if plot else [],
    }


def class_plot(cell: Cell, ident: str) -> Plot | None:
    """Draw the twins class by class."""
    return _twin_plot(cell, ident, "Class by class", "class", [side.classes for side in _twins(cell)])


def case_plot(cell: Cell, ident: str) -> Plot | None:
    """Draw the twins case by case."""
    return _twin_plot(cell, ident, "Case by case", "case", [side.scores for side in _twins(cell)])


def _twins(cell: Cell) -> list[Any]:
    pretrained, scratch = cell.side("pretrained"), cell.side("scratch")
    return [scratch, pretrained] if pretrained and scratch else []


def _twin_plot(cell: Cell, ident: str, title: str, kind: str, sides: list[dict[str, float]]) -> Plot | None:
    metric = cell.metric
    if len(sides) != 2 or metric is None:
        return None
    scratch, pretrained = sides
    pairs = [plots.Pair(name, scratch[name], pretrained[name]) for name in scratch if name in pretrained]
    rows = _pair_rows(pairs, decimals(metric))
    lead = "Open rings: from scratch. Filled dots: pretrained. The number at the right is pretrained minus scratch."
    if len(pairs) > _ALL_ROWS:
        pairs = sorted(pairs, key=lambda p: -abs(p.pretrained - p.scratch))[:_MOST_ROWS]
        lead += f" The {_MOST_ROWS} rows that differ most, of {len(rows)}."
    elif kind == "case":
        pairs = sorted(pairs, key=lambda p: p.scratch - p.pretrained)
        lead += f" {plural(len(rows), 'case')}, the largest rise first."
    name = f"{metric_name(metric.id)}{unit_text(metric)}"
    svg = plots.dumbbells(pairs, name, ident, share=metric.unit == "fraction")
    if svg is None:
        return None
    caption = f"{name} per {kind}, twins side by side: ring from scratch, dot pretrained."
    return Plot(title, lead, svg, caption, [kind, "from scratch", "pretrained", "difference"], rows)


def _pair_rows(pairs: Sequence[plots.Pair], digits: int) -> list[tuple[str, ...]]:
    return [
        (p.name, number(p.scratch, digits), number(p.pretrained, digits), signed(p.pretrained - p.scratch, digits))
        for p in pairs
    ]


def seed_plot(cell: Cell, ident: str) -> Plot | None:
    """Draw the difference seed by seed, where both sides have several."""
    twins = _twins(cell)
    if not twins or cell.metric is None:
        return None
    scratch, pretrained = ({run.seed: run for run in side.runs if run.metric} for side in twins)
    pairs = []
    for seed in scratch:
        if seed in pretrained:
            low, high = scratch[seed].metric.value, pretrained[seed].metric.value
            if low is not None and high is not None:
                pairs.append(plots.Pair(f"seed {seed}", low, high))
    if len(pairs) < 2:
        return None
    name = f"{metric_name(cell.metric.id)}{unit_text(cell.metric)}"
    svg = plots.dumbbells(pairs, name, ident, share=cell.metric.unit == "fraction")
    rows = _pair_rows(pairs, decimals(cell.metric))
    if svg is None:
        return None
    return Plot(
        "Seed by seed", "How much of the difference is the luck of training.", svg,
        f"{name} per seed: ring from scratch, dot pretrained.",
        ["seed", "from scratch", "pretrained", "difference"], rows,
    )  # fmt: skip


def curve_plot(cell: Cell, curves: dict[str, list[tuple[float, float]]], ident: str) -> Plot | None:
    """Draw the loss of both sides in one frame; the first seed of each."""
    lines = [
        plots.Curve(side.name.lower().removeprefix("from "), curves.get(side.runs[0].run_id, []), side.tone)
        for side in cell.sides
    ]
    svg = plots.curves(lines, "Training loss", ident)
    if svg is None:
        return None
    rows = []
    for line in lines:
        for step, value in line.points[:: max(1, len(line.points) // 20)]:
            rows.append((f"{line.name}, step {step:.0f}", number(value, 4)))
    seeds = " and ".join(dict.fromkeys(f"{side.runs[0].seed}" for side in cell.sides))
    lead = f"Both twins on one axis, seed {seeds}." if len(cell.sides) > 1 else f"Seed {seeds}."
    return Plot("Learning curves", lead, svg, "Training loss against step.", ["start and step", "loss"], rows)


_WORD: Final = re.compile(r"harness|run|[a-z0-9_.]+=[A-Za-z0-9_.+-]+")
_SAFE: Final = re.compile(_WORD.pattern + r"|'[a-z0-9_.]+=[A-Za-z0-9_.+,:{}\[\] -]+'")


def write_cell_page(
    cell: Cell,
    curves: dict[str, list[tuple[float, float]]],
    protocol: list[tuple[str, Any]],
    folder: Path,
    counts: dict[str, str],
    ran: Race | None = None,
    floors: Sequence[tuple[str, str, str]] = (),
    config: Any = None,
) -> None:
    """Write ``folder/cells/<key>.html``; ``config`` is the resolved configuration of the cell's first run."""
    shown = [
        class_plot(cell, "classes"),
        case_plot(cell, "cases"),
        seed_plot(cell, "seeds"),
        curve_plot(cell, curves, "curves"),
    ]
    page = render(
        "cell.html",
        depth=1,
        section="runs",
        counts=counts,
        cell=cell,
        where=where(cell),
        view=cell_view(cell),
        plots=[plot for plot in shown if plot],
        worst=_worst(cell),
        race=ran,
        floors=floors,
        metric=metric_name(cell.metric.id) if cell.metric else "score",
        protocol=protocol,
        command=command(cell.first, config),
    )
    put(folder / cell.href, page)


def _worst(cell: Cell, most: int = 5) -> list[tuple[str, list[str]]]:
    scores = [side.scores for side in cell.sides]
    sign = 1 if cell.metric is None or cell.metric.higher_is_better else -1
    worst = sorted(scores[0], key=lambda case: (sign * scores[0][case], case))[:most]
    return [(case, [number(side.get(case)) for side in scores]) for case in worst]


def command(run: RunSummary, config: Any) -> str | None:
    """Return the command that runs the first run of a cell again.

    It is copied into terminals, so that nothing a stranger wrote may stand in it but plain names and values. None where
    that cannot be, or where what the run's configuration changed in a protocol of ours cannot be told.
    """
    from harness.overrides import beyond_protocol  # Hydra and the settings of training: for pages of cells alone

    protocol = config.get("protocol") if isinstance(config, dict) else None
    changed = beyond_protocol(protocol) if isinstance(protocol, dict) else None
    if changed is None:
        return None
    words = ["harness", "run", f"model={run.model}", f"dataset={run.dataset}", f"protocol={run.protocol}"]
    words += [f"init={run.init}", f"seed={run.seed}", f"split={run.split}"]
    if run.fold is not None:
        words.append(f"fold={run.fold}")
    if run.label_fraction is not None and run.label_fraction != 1:
        words.append(f"label_fraction={run.label_fraction:g}")
    if config.get("subset_seed"):
        words.append(f"subset_seed={config['subset_seed']}")
    words += [word if _WORD.fullmatch(word) else f"'{word}'" for word in changed]
    if "self_pretrained" in run.evidence:
        words += ["'cards=[FOLDER_OF_YOUR_CARD]'"]
    return " ".join(words) if all(map(_SAFE.fullmatch, words)) else None
