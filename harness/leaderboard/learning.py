"""How fast runs learnt, in words: the best validation of a run, and how soon each twin reached the same target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.leaderboard.cells import Cell
from harness.leaderboard.reading import is_number, log_lines
from harness.leaderboard.text import duration, number
from harness.records.convergence import Arrival, Point, Ratio, speed_up, to_target

__all__ = ["Race", "learning_facts", "race", "read_points"]


@dataclass(frozen=True)
class Race:
    """Both twins on the way to one target: the best validation of the one that ended lower.

    ``rows`` are name of the start, step, seconds and samples; ``said`` is the sentence below them.
    """

    target: str
    rows: list[tuple[str, str, str, str]]
    said: str


def read_points(log: bytes) -> list[Point]:
    """Read the validations of a log that a stranger may have written; what is no validation is left out."""
    found = []
    for line in log_lines(log):
        if not isinstance(line, dict) or not is_number(line.get("step")) or not is_number(line.get("metric")):
            continue
        seconds, samples = (line[name] if is_number(line.get(name)) else None for name in ("seconds", "samples"))
        found.append(Point(int(line["step"]), seconds, samples, float(line["metric"])))
    return found


def learning_facts(points: list[Point]) -> list[tuple[str, Any]]:
    """Say where a run validated best and what it had taken until then; nothing where it never validated."""
    if not points:
        return []
    arrival = to_target(points, max(point.score for point in points))
    return [("Best validation", f"{number(arrival.target)} {_when(arrival)}")]


def race(cell: Cell, points: Mapping[str, list[Point]]) -> Race | None:
    """Compare the first seeds of the twins; None where one of them was never validated.

    Parameters
    ----------
    cell : Cell
        Its pretrained and its scratch side.
    points : mapping of str to list of Point
        Run id to the validations of the run.
    """
    sides = [side for side in (cell.side("pretrained"), cell.side("scratch")) if side is not None]
    held = [points.get(side.runs[0].run_id, []) for side in sides]
    if len(sides) != 2 or not all(held):
        return None
    target = min(max(point.score for point in side) for side in held)
    arrivals = [to_target(side, target) for side in held]
    rows = [
        (side.name, f"{at.step:,}", duration(at.seconds), "—" if at.samples is None else f"{at.samples:,}")
        for side, at in zip(sides, arrivals, strict=True)
    ]
    return Race(number(target), rows, _said(speed_up(arrivals[0], arrivals[1])))


def _said(ratio: Ratio | None) -> str:
    if ratio is None:
        return "One of the two was there at its first validation, so nothing can be said about how many times faster."
    if ratio.value == 1:
        return "Both took the same number of steps."
    faster, times = ("pretrained", ratio.value) if ratio.value > 1 else ("scratch", 1 / ratio.value)
    return (
        f"The {faster} twin took {number(times, 1)} times fewer steps, as far as validations tell: each moment is late "
        "by at most one interval between two of them. One seed of each."
    )


def _when(arrival: Arrival) -> str:
    parts = [duration(arrival.seconds) + " of training"] if arrival.seconds is not None else []
    parts += [f"{arrival.samples:,} samples"] if arrival.samples is not None else []
    return f"at step {arrival.step:,}" + (f" ({', '.join(parts)})" if parts else "")
