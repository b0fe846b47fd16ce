"""What the front page tells of the runs: for each set of cases the twins, and every start that was scored on it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.leaderboard.cellpage import cell_card
from harness.leaderboard.cells import Cell, Side, decimals, figures
from harness.leaderboard.summary import metric_name, unit_text
from harness.leaderboard.text import duration, number, plural

__all__ = ["Start", "Story", "stories"]

_MOST_STARTS: Final = 20  # a table on the front page; the page of the data set has the rest


@dataclass(frozen=True)
class Start:
    """One row: a network and how it started."""

    href: str
    model: str
    protocol: str
    name: str
    tone: str
    score: str
    spread: str
    seeds: int
    time: str
    evidence: list[str]


@dataclass(frozen=True)
class Story:
    """One set of scored cases: its twins as cards, and all its starts as a table where twins are not all there is."""

    dataset: str
    where: str
    metric: str
    better: str
    cards: list[dict[str, Any]]
    starts: list[Start]
    left_out: int


def stories(cells: Iterable[Cell], most: int) -> list[Story]:
    """Group ``cells``, which stand in the order of the page, by the cases they were scored on; at most ``most`` groups.

    A twin that has no other half makes a row of the table and no card, since it says nothing about a gain.
    """
    groups: dict[tuple[object, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        first = cell.first
        same = (first.dataset, first.split, first.fold, first.label_fraction, cell.metric.id if cell.metric else None)
        if same in groups or len(groups) < most:
            groups[same].append(cell)
    told: list[Story] = []
    room = most  # cards on the page, whatever they are about
    for group in groups.values():
        paired = [cell for cell in group if cell.gain.value is not None][:room]
        room -= len(paired)
        told.append(_story(group, paired))
    return told


def _story(group: Sequence[Cell], paired: Sequence[Cell]) -> Story:
    first, metric = group[0].first, group[0].metric
    where = f"split {first.split}" + ("" if first.fold is None else f", fold {first.fold}")
    where += "" if first.label_fraction in (None, 1.0) else f", {first.label_fraction:.0%} of the labels"
    if metric is not None:
        where += f", {plural(metric.n_cases, 'test case')}"
    higher = metric is None or metric.higher_is_better
    sides = [(cell, side) for cell in group for side in cell.sides]
    sides.sort(key=lambda pair: math.inf if pair[1].mean is None else -pair[1].mean if higher else pair[1].mean)
    alone = len(group) == 1 and len(paired) == 1  # the card says it all
    return Story(
        dataset=first.dataset,
        where=where,
        metric=f"{metric_name(metric.id)}{unit_text(metric)}" if metric else "score",
        better="higher" if higher else "lower",
        cards=[cell_card(cell) for cell in paired],
        starts=[] if alone else [_start(cell, side) for cell, side in sides[:_MOST_STARTS]],
        left_out=0 if alone else max(0, len(sides) - _MOST_STARTS),
    )


def _start(cell: Cell, side: Side) -> Start:
    times = sorted(run.seconds for run in side.runs if run.seconds is not None)
    return Start(
        href=cell.href,
        model=cell.first.model,
        protocol=cell.first.protocol,
        name=side.name,
        tone=side.tone,
        score=figures(side)[0],
        spread=number(side.spread, decimals(cell.metric)),
        seeds=len(side.runs),
        time=duration(times[len(times) // 2] if times else None),
        evidence=sorted({mark for run in side.runs for mark in run.evidence}),
    )
