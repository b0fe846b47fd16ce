"""How fast a run learnt: validation scores against steps, seconds and samples, and when a target was reached.

A run that never reached the target is censored: all that is known is that it would have taken longer than it ran.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Arrival", "Point", "Ratio", "scores", "speed_up", "to_target"]

Unit = Literal["step", "seconds", "samples"]


@dataclass(frozen=True)
class Point:
    """One validation.

    Attributes
    ----------
    step : int
        Updates done before it.
    seconds : float or None
        Wall time of training before it, without validations; None where the log does not say.
    samples : int or None
        Training samples used before it.
    score : float
        Higher is better.
    """

    step: int
    seconds: float | None
    samples: int | None
    score: float


@dataclass(frozen=True)
class Arrival:
    """When a run first scored at least the target; with ``reached`` false, the last moment at which it had not."""

    target: float
    reached: bool
    step: int
    seconds: float | None
    samples: int | None


@dataclass(frozen=True)
class Ratio:
    """How many times longer the second run took than the first, or what is known of it."""

    value: float
    known: Literal["exactly", "at least", "at most"]


def scores(log: str) -> list[Point]:
    """Read the validations out of the text of a ``log.jsonl``."""
    lines = [json.loads(line) for line in log.splitlines() if line]
    return [
        Point(line["step"], line.get("seconds"), line.get("samples"), line["metric"])
        for line in lines
        if line.get("metric") is not None
    ]


def to_target(points: Sequence[Point], target: float) -> Arrival:
    """Return when the score first was ``target`` or better.

    The moment is that of a validation, so it is late by at most one interval between two of them.

    Raises
    ------
    ValueError
        There are no validations.

    >>> points = [Point(100, 1.0, 200, 0.5), Point(200, 2.0, 400, 0.7), Point(300, 3.0, 600, 0.6)]
    >>> to_target(points, 0.65).step, to_target(points, 0.8)
    (200, Arrival(target=0.8, reached=False, step=300, seconds=3.0, samples=600))
    """
    if not points:
        raise ValueError("no validation was logged; steps to a target need selection.rule: best_val")
    ordered = sorted(points, key=lambda point: point.step)
    first = next((point for point in ordered if point.score >= target), None)
    at = first or ordered[-1]
    return Arrival(target, first is not None, at.step, at.seconds, at.samples)


def speed_up(one: Arrival, other: Arrival, unit: Unit = "step") -> Ratio | None:
    """Return how many times longer ``other`` took than ``one`` to the same target; None where nothing is known.

    >>> fast, slow = Arrival(0.8, True, 100, 1.0, 200), Arrival(0.8, False, 500, 5.0, 1000)
    >>> speed_up(fast, slow)
    Ratio(value=5.0, known='at least')
    """
    if one.target != other.target:
        raise ValueError(f"arrivals at {one.target} and at {other.target} cannot be compared")
    mine, theirs = getattr(one, unit), getattr(other, unit)
    if not mine or theirs is None or not (one.reached or other.reached):
        return None
    if one.reached and other.reached:
        return Ratio(theirs / mine, "exactly")
    return Ratio(theirs / mine, "at least" if one.reached else "at most")
