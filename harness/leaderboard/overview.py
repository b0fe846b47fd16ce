"""The page of plots over all claims and cells; each is there only where there are data for it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.leaderboard import charts, plots
from harness.leaderboard.cellpage import Plot
from harness.leaderboard.cells import Cell, Side
from harness.leaderboard.folder import put
from harness.leaderboard.ledger import Line
from harness.leaderboard.render import render
from harness.leaderboard.summary import RunSummary, metric_name
from harness.leaderboard.text import number, plural, signed
from harness.leaderboard.words import EVIDENCE, word
from harness.scoring.ranking import rank_methods

__all__ = [
    "FEWEST_CASES",
    "cost_plots",
    "fraction_plots",
    "gain_forests",
    "ledger_forest",
    "rank_plots",
    "write_overview",
]

_MOST: Final = 6  # plots of a kind; a page of hundreds says less
_MOST_ROWS: Final = 40
_MOST_NUMBERS: Final = 200
_MOST_METHODS: Final = 12  # every pair is tested, and nobody reads more ranks than that
FEWEST_CASES: Final = 20  # on fewer, ranks are luck: the best of eleven comes first in four draws of ten with six


@dataclass(frozen=True)
class Panel:
    """A plot with the marks of what it shows."""

    plot: Plot
    evidence: list[str]


def write_overview(
    ledger: Sequence[Line], runs: Sequence[RunSummary], cells: Sequence[Cell], folder: Path, counts: dict[str, str]
) -> None:
    """Write ``plots.html``."""
    ranked, unranked = rank_plots(cells)
    sections = [
        ("gains", "Gain of pretraining", "both twins of a cell, with a seed in common.", gain_forests(cells)),
        (
            "claims",
            "Reproduced minus reported",
            "a claim and a run whose protocols may be compared.",
            ledger_forest(ledger),
        ),
        (
            "labels",
            "Gain against share of labels",
            "cells that differ in the share of labels alone.",
            fraction_plots(cells),
        ),
        ("cost", "Score against GPU-hours", "two runs at least whose GPU time was measured.", cost_plots(runs)),
        ("ranks", "Ranks", f"starts scored on the same {FEWEST_CASES} cases or more of one split.", ranked),
    ]
    page = render("plots.html", depth=0, section="plots", counts=counts, sections=sections, unranked=unranked)
    put(folder / "plots.html", page)


def gain_forests(cells: Iterable[Cell]) -> list[Panel]:
    """Draw the gain of every pair of twins with its interval: per metric that is a share, marked twins on their own."""
    groups: dict[tuple[str, bool], list[Cell]] = defaultdict(list)
    for cell in cells:
        known = cell.gain.value is not None and cell.gain.low is not None and cell.gain.high is not None
        if known and cell.metric and cell.metric.unit == "fraction":
            groups[cell.metric.id, bool(cell.evidence)].append(cell)
    panels: list[Panel] = []
    for (metric_id, _), group in sorted(groups.items()):
        held = sorted(group, key=lambda cell: (cell.first.dataset, cell.first.model, cell.key))
        shown = sorted(held, key=lambda cell: -abs(cell.gain.value or 0.0))[:_MOST_ROWS]
        shown = [cell for cell in held if cell in shown] if len(held) > _MOST_ROWS else held
        name = metric_name(metric_id)
        data = sorted({cell.first.dataset for cell in held})
        rows = [
            plots.Estimate(_what(cell, data), cell.gain.value or 0.0, cell.gain.low or 0.0, cell.gain.high or 0.0)
            for cell in shown
        ]
        svg = plots.forest(rows, f"{name}, pretrained minus scratch", f"gain{len(panels)}")
        assert svg is not None  # a group is never empty
        lead = (
            "Right of the line at zero pretraining helped, left of it the twin from scratch was better. 95 % bootstrap "
            "intervals: over seeds first and cases then, or over cases alone where there is one seed."
        )
        if len(shown) < len(held):
            lead += f" The {len(shown)} that are largest, of {len(held)}."
        table = [
            (
                f"{_what(cell, ())}, {cell.first.protocol}, {cell.key}",
                *(signed(value, 4) for value in (cell.gain.value, cell.gain.low, cell.gain.high)),
                str(cell.gain.cases), str(cell.gain.seeds), cell.word.label,
                ", ".join(word(EVIDENCE, mark).label for mark in cell.evidence) or "none",
            )
            for cell in held[:_MOST_NUMBERS]
        ]  # fmt: skip
        heads = ["twins", "gain", "low", "high", "cases", "seeds", "verdict", "marks"]
        caption = f"Gain in {name} of each pair of twins, with its 95 % interval."
        panels.append(
            Panel(
                Plot(
                    f"{name} on {data[0] if len(data) == 1 else plural(len(data), 'data set')}",
                    lead,
                    svg,
                    caption,
                    heads,
                    table,
                ),
                _marks(held),
            )
        )
    return panels[:_MOST]


def _what(cell: Cell, data: Sequence[str]) -> str:
    """Name the twins by their model, and by their data set unless all rows of ``data`` share it."""
    share = cell.first.label_fraction
    where = "" if list(data) == [cell.first.dataset] else f", {cell.first.dataset}"
    return f"{cell.first.model}{where}" + ("" if share in (None, 1.0) else f", {share:.0%} of labels")


def ledger_forest(ledger: Iterable[Line]) -> list[Panel]:
    """Draw the differences of all claims that have one, as fractions."""
    rows = []
    for line in ledger:
        s = line.standing
        if s.difference is not None and s.low is not None and s.high is not None:
            rows.append((line, plots.Estimate(f"{line.claim.id} {line.claim.model}", s.difference, s.low, s.high)))
    shown = sorted(rows, key=lambda row: -abs(row[1].value))[:_MOST_ROWS] if len(rows) > _MOST_ROWS else rows
    svg = plots.forest([estimate for _, estimate in shown], "reproduced minus reported", "forest")
    if svg is None:
        return []
    table = [
        (
            f"{e.name} on {line.claim.dataset}",
            signed(e.value, 4),
            signed(e.low, 4),
            signed(e.high, 4),
            line.verdict.label,
        )
        for line, e in rows
    ]
    lead = "A share of 0.01 is a percentage point. The line at zero: the run gave what was printed."
    if len(shown) < len(rows):
        lead += f" The {len(shown)} that differ most, of {len(rows)}."
    caption = "Difference of each claim, with its 95 % interval."
    heads = ["claim", "difference", "low", "high", "verdict"]
    return [Panel(Plot("Every claim with a comparable run", lead, svg, caption, heads, table), [])]


def fraction_plots(cells: Iterable[Cell]) -> list[Panel]:
    """Draw, for each cell that was run with several shares of the labels, the gain against the share."""
    groups: dict[tuple[object, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        first = cell.first
        if cell.gain.value is not None and first.label_fraction and cell.metric:
            groups[first.model, first.dataset, first.split, first.fold, first.protocol, cell.metric.id].append(cell)
    panels: list[Panel] = []
    for group in groups.values():
        points = [
            charts.Effect(cell.first.label_fraction or 1.0, cell.gain.value or 0.0, cell.gain.low, cell.gain.high)
            for cell in group
        ]
        first, metric = group[0].first, metric_name(group[0].metric.id) if group[0].metric else ""
        svg = charts.effects(points, "share of labels", f"gain in {metric}", f"labels{len(panels)}")
        if svg is None:
            continue
        rows = [
            (f"{p.x:.0%}", signed(p.value), signed(p.low), signed(p.high), str(cell.gain.seeds))
            for p, cell in sorted(zip(points, group, strict=True), key=lambda pair: pair[0].x)
        ]
        lead = "Pretrained minus scratch, positive where pretraining helped."
        heads = ["share of labels", "gain", "low", "high", "seeds"]
        title = f"{first.model} on {first.dataset}"
        caption = f"Gain in {metric} against the share of labels, with 95 % intervals."
        panels.append(Panel(Plot(title, lead, svg, caption, heads, rows), _marks(group)))
    return panels[:_MOST]


def cost_plots(runs: Iterable[RunSummary]) -> list[Panel]:
    """Draw, for each data set and metric that is a share, score against GPU-hours."""
    groups: dict[tuple[str, str], list[RunSummary]] = defaultdict(list)
    for run in runs:
        if (
            run.counts
            and run.gpu_hours
            and run.metric
            and run.metric.unit == "fraction"
            and run.metric.value is not None
        ):
            groups[run.dataset, run.metric.id].append(run)
    panels: list[Panel] = []
    for (dataset, metric_id), group in sorted(groups.items()):
        held = sorted(group, key=lambda run: run.run_id)[:1000]
        dots = [
            charts.Dot(run.gpu_hours or 0.0, run.metric.value or 0.0, "b" if run.init == "scratch" else "a")
            for run in held
            if run.metric
        ]
        name = metric_name(metric_id)
        svg = charts.scatter(dots, "GPU-hours", name, f"cost{len(panels)}")
        if svg is None:
            continue
        rows = [
            (f"{run.model}, {run.init}, seed {run.seed}", number(run.gpu_hours, 2), number(run.metric.value))
            for run in held[:200]
            if run.metric
        ]
        lead = "Filled dots: pretrained. Open rings: from scratch. Pretraining itself is not counted."
        plot = Plot(dataset, lead, svg, f"{name} against GPU-hours.", ["run", "GPU-hours", name], rows)
        panels.append(Panel(plot, sorted({mark for run in held for mark in run.evidence})))
    return panels[:_MOST]


def rank_plots(cells: Iterable[Cell]) -> tuple[list[Panel], list[str]]:
    """Rank the starts that were scored on the same cases, and say which sets of cases are too small for ranks."""
    groups: dict[tuple[object, ...], list[tuple[Cell, Side]]] = defaultdict(list)
    for cell in cells:
        first = cell.first
        if cell.metric:
            same = (first.dataset, first.split, first.fold, first.label_fraction, cell.metric.id)
            groups[same] += [(cell, side) for side in cell.sides]
    panels: list[Panel] = []
    small: list[str] = []
    for key, group in groups.items():
        if len(group) < 2:
            continue
        where = f"{key[0]}, split {key[1]}" + ("" if key[2] is None else f", fold {key[2]}")
        where += "" if key[3] in (None, 1.0) else f", {key[3]:.0%} of the labels"
        first_metric = group[0][0].metric
        sign = 1.0 if first_metric is None or first_metric.higher_is_better else -1.0
        best = sorted(group, key=lambda pair: math.inf if pair[1].mean is None else -sign * pair[1].mean)
        scores = _named(best[:_MOST_METHODS])
        cases = sorted(set.intersection(*(set(values) for values in scores.values())))
        if len(cases) < FEWEST_CASES:
            small.append(f"{where}: {plural(len(cases), 'common case')}, so the starts are not ranked")
            continue
        if len(panels) < _MOST:
            panels.append(
                _rank_panel(where, scores, cases, sign > 0, f"rank{len(panels)}", len(group), _marks_of(best))
            )
    return panels, small[:20]


def _rank_panel(
    where: str,
    scores: dict[str, dict[str, float]],
    cases: Sequence[str],
    higher: bool,
    ident: str,
    total: int,
    evidence: list[str],
) -> Panel:
    found = rank_methods({n: [v[case] for case in cases] for n, v in scores.items()}, higher_is_better=higher)
    places = [charts.Place(one.method, one.rank, one.low, one.high, one.tier) for one in found]
    svg = charts.ranks(places, ident)
    assert svg is not None  # a group has two methods at least
    lead = (
        f"{plural(len(cases), 'case')} that all have. One tier: not told apart by signed-rank tests after Holm; inside "
        "it the order is by name. Intervals over 1,000 draws of the cases say nothing about the luck of training."
    )
    if len(places) < total:
        lead += f" The best {len(places)} of {total} starts."
    rows = [
        (one.method, str(one.tier), f"{one.rank:g}", f"{one.low:g} to {one.high:g}", number(one.mean)) for one in found
    ]
    heads = ["start", "tier", "rank", "95 %", "mean"]
    return Panel(
        Plot(
            where,
            lead,
            svg,
            "Rank (square) with its 95 % interval over draws of the cases (bar); starts of one tier are tied.",
            heads,
            rows,
        ),
        evidence,
    )


def _named(group: Sequence[tuple[Cell, Side]]) -> dict[str, dict[str, float]]:
    """Name every side by what tells it from the others: model, start, and the protocol where one name is not enough."""
    names = [f"{cell.first.model}, {side.init}" for cell, side in group]
    found = {}
    for name, (cell, side) in zip(names, group, strict=True):
        found[name if names.count(name) == 1 else f"{name}, {cell.first.protocol}, {cell.key}"] = side.scores
    return found


def _marks(cells: Iterable[Cell]) -> list[str]:
    return sorted({mark for cell in cells for mark in cell.evidence})


def _marks_of(group: Iterable[tuple[Cell, Side]]) -> list[str]:
    return sorted({mark for _, side in group for run in side.runs for mark in run.evidence})
