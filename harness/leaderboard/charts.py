"""Charts over several cells: gain against share of labels, score against cost, ranks.

As in `plots`, forms say what colours say, and whoever shows one puts its numbers beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.leaderboard.plots import horizontal_grid, left_room, rows_frame, rows_middle
from harness.leaderboard.svg import Scale, figure, path, tag
from harness.leaderboard.text import clean, plural

__all__ = ["Dot", "Effect", "Place", "effects", "ranks", "scatter"]

_WIDTH = 480.0
_LEFT = 54.0
_HEIGHT = 260.0


@dataclass(frozen=True)
class Dot:
    """One run: what it cost and what it scored. ``tone`` is "a" (pretrained, a filled dot) or "b" (an open ring)."""

    x: float
    y: float
    tone: str


@dataclass(frozen=True)
class Effect:
    """A difference with its 95 % interval at one x."""

    x: float
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Place:
    """A rank with its interval over bootstrap resamples, and the tier of what cannot be told apart."""

    name: str
    rank: float
    low: float
    high: float
    tier: int


def effects(points: Sequence[Effect], x_name: str, y_name: str, ident: str) -> Markup | None:
    """Draw differences against a logarithmic x, joined by a line, with a line at zero.

    Returns
    -------
    Markup or None
        None where there are not two different x.
    """
    held = sorted((p for p in points if p.x > 0), key=lambda p: p.x)
    if len({p.x for p in held}) < 2:
        return None
    values = [v for p in held for v in (p.value, p.low, p.high, 0.0) if v is not None]
    x, marks = _log_scale([p.x for p in held])
    y = Scale(min(values) * 1.1, max(values) * 1.1, _HEIGHT - 40, 28)
    body = [
        tag("text", y_name, x=0, y=11, class_="tick"),
        *horizontal_grid(y, _LEFT, x.stop),
        *_log_axis(x, marks, x_name, percent=True),
    ]
    body.append(tag("path", d=path([(_LEFT, y(0)), (x.stop, y(0))]), class_="zero"))
    body.append(tag("path", d=path([(x(math.log10(p.x)), y(p.value)) for p in held]), class_="line tone-a"))
    for p in held:
        at = x(math.log10(p.x))
        if p.low is not None and p.high is not None:
            body.append(tag("path", d=path([(at, y(p.low)), (at, y(p.high))]), class_="interval"))
            body += [tag("path", d=path([(at - 5, y(v)), (at + 5, y(v))]), class_="interval") for v in (p.low, p.high)]
        body.append(tag("circle", cx=at, cy=y(p.value), r=5, class_="dot tone-a"))
    title = f"{y_name} against {x_name}: {plural(len(held), 'point')} with 95 % intervals; above the line is a gain"
    return figure(_WIDTH, _HEIGHT, title, body, ident)


def scatter(points: Sequence[Dot], x_name: str, y_name: str, ident: str) -> Markup | None:
    """Draw scores against a logarithmic cost; None where nothing was measured or all of it at one cost."""
    held = [p for p in points if p.x > 0 and math.isfinite(p.y)]
    if len({p.x for p in held}) < 2:
        return None
    x, marks = _log_scale([p.x for p in held])
    values = [p.y for p in held]
    spread = (max(values) - min(values)) * 0.08 or 0.05
    y = Scale(min(values) - spread, max(values) + spread, _HEIGHT - 40, 28)
    body = [
        tag("text", y_name, x=0, y=11, class_="tick"),
        *horizontal_grid(y, _LEFT, x.stop),
        *_log_axis(x, marks, x_name, percent=False),
    ]
    for p in held:
        kind = "dot tone-a" if p.tone == "a" else "ring tone-b"
        body.append(tag("circle", cx=x(math.log10(p.x)), cy=y(p.y), r=5, class_=kind))
    title = f"{y_name} against {x_name}: {plural(len(held), 'run')}; dots pretrained, rings from scratch"
    return figure(_WIDTH, _HEIGHT, title, body, ident)


def ranks(places: Sequence[Place], ident: str) -> Markup | None:
    """Draw the rank of each method as a square on its interval, tier by tier; 1 is best and stands left."""
    if len(places) < 2:
        return None
    names = [place.name for place in places]
    tiers = [place.tier for place in places]
    x = Scale(1.0, float(len(places)), left_room(names), _WIDTH - 92)
    whole = [float(place) for place in range(1, len(places) + 1, max(1, len(places) // 6))]
    body, height = rows_frame(names, x, "rank, 1 is best", marks=whole)
    for i, place in enumerate(places):
        y = rows_middle(i, len(places))
        body.append(tag("path", d=path([(x(place.low), y), (x(place.high), y)]), class_="interval"))
        body += [
            tag("path", d=path([(x(v), y - 5), (x(v), y + 5)]), class_="interval") for v in (place.low, place.high)
        ]
        body.append(tag("rect", x=x(place.rank) - 5, y=y - 5, width=10, height=10, class_="estimate"))
        tied = ", tied" if tiers.count(place.tier) > 1 else ""
        body.append(tag("text", f"tier {place.tier}{tied}", x=_WIDTH - 82, y=y + 4, class_="tick"))
    said = ", ".join(clean(name, 40) for name in names)
    return figure(_WIDTH, height, f"Ranks with 95 % intervals over the cases, best tier first: {said}", body, ident)


def _log_scale(values: Sequence[float]) -> tuple[Scale, list[float]]:
    """Return a scale of decimal logarithms, and round marks (1, 2, 5 times a power of ten) inside it."""
    low, high = math.log10(min(values)), math.log10(max(values))
    pad = max(0.04 * (high - low), 0.02)
    scale = Scale(low - pad, high + pad, _LEFT + 6, _WIDTH - 24)
    powers = range(math.floor(scale.low), math.ceil(scale.high) + 1)
    steps: tuple[int, ...] = (1, 2, 5) if scale.high - scale.low < 3 else (1,)
    marks = [step * 10.0**power for power in powers for step in steps]
    return scale, [mark for mark in marks if scale.low <= math.log10(mark) <= scale.high]


def _log_axis(x: Scale, marks: Sequence[float], name: str, *, percent: bool) -> list[Markup]:
    bottom = _HEIGHT - 40
    shapes = [tag("path", d=path([(_LEFT, bottom), (x.stop, bottom)]), class_="axis")]
    for mark in marks:
        text = f"{100 * mark:g} %" if percent else f"{mark:g}"
        shapes.append(tag("text", text, x=x(math.log10(mark)), y=bottom + 18, class_="tick middle"))
    shapes.append(tag("text", name, x=x.stop, y=bottom + 35, class_="tick end"))
    return shapes
