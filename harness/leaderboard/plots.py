"""The plots of the board as SVG text. Colours live in the style sheet; form (dash, open or filled) says the same.

Every plot gets its numbers in a table beside it, written by the template that shows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.leaderboard.svg import Scale, figure, path, tag, ticks
from harness.leaderboard.text import clean, number, plural, signed

__all__ = [
    "Curve",
    "Estimate",
    "Pair",
    "Strip",
    "curves",
    "dumbbells",
    "fitting",
    "forest",
    "horizontal_grid",
    "left_room",
    "rows_frame",
    "rows_middle",
    "strips",
]

_WIDTH = 480.0
_LEFT = (72.0, 250.0)  # least and most room for row names
_SIGN = 7.6  # what a sign takes at the size of a label, on average
_RIGHT = 58.0  # room for the number at the end of a row
_ROW, _TIGHT_ROW = 25.0, 18.0
_MANY_ROWS = 16  # so many stand tighter, or one plot would fill two screens
_FOOT = 48.0  # room for tick labels and the name of the axis below them
_LEAST_SPAN = 0.05  # of an axis of shares: a difference of 0.001 must not look like a gulf
_BUCKETS = 200  # a curve of any length is drawn with at most this many points


@dataclass(frozen=True)
class Curve:
    """A named line: ``points`` are (step, value), in order of step. ``tone`` is "a" (pretrained) or "b" (scratch)."""

    name: str
    points: Sequence[tuple[float, float]]
    tone: str = "a"


@dataclass(frozen=True)
class Pair:
    """Two values of one thing: from scratch and pretrained."""

    name: str
    scratch: float
    pretrained: float


@dataclass(frozen=True)
class Strip:
    """All values of one class, and their mean."""

    name: str
    values: Sequence[float]
    mean: float | None


@dataclass(frozen=True)
class Estimate:
    """A difference with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float


def curves(lines: Sequence[Curve], what: str, ident: str, height: float = 240) -> Markup | None:
    """Draw learning curves: the mean of each stretch of steps as a line, its range as a band.

    Returns
    -------
    Markup or None
        None where no line has two finite points.
    """
    kept = [(line, _buckets(line.points)) for line in lines]
    kept = [(line, rows) for line, rows in kept if len(rows) > 1]
    if not kept:
        return None
    low = min(row[2] for _, rows in kept for row in rows)
    high = max(row[3] for _, rows in kept for row in rows)
    low = 0.0 if 0 <= low < 0.4 * high else low
    x = Scale(min(rows[0][0] for _, rows in kept), max(rows[-1][0] for _, rows in kept), 46, _WIDTH - 82)
    bottom = height - _FOOT
    y = Scale(low, high, bottom, 28)
    body = [*horizontal_grid(y, 46, _WIDTH - 82), *_x_axis(x, bottom, "step")]
    body.append(tag("text", what, x=0, y=11, class_="tick"))
    ends: list[tuple[float, str, str]] = []
    for line, rows in kept:
        if all(bottom == top for _, _, bottom, top in rows):
            continue  # every point stands for itself, so there is no range to show
        upper = [(x(step), y(top)) for step, _, _, top in rows]
        lower = [(x(step), y(bottom)) for step, _, bottom, _ in reversed(rows)]
        body.append(tag("path", d=path([*upper, *lower], close=True), class_=f"band {_tone(line)}"))
    for line, rows in kept:
        drawn = zip(x.many([row[0] for row in rows]), y.many([row[1] for row in rows]), strict=True)
        body.append(tag("path", d=path(list(drawn)), class_=f"line {_tone(line)}"))
        ends.append((y(rows[-1][1]), line.name, _tone(line)))
    body += _end_labels(ends, _WIDTH - 76, 28, bottom)
    names = ", ".join(clean(line.name, 60) for line, _ in kept)
    return figure(_WIDTH, height, f"{what} against training step: {names}", body, ident)


def _tone(line: Curve) -> str:
    return f"tone-{line.tone}"


def _buckets(points: Sequence[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """Reduce points to rows of (step, mean, lowest, highest), at most `_BUCKETS` of them."""
    finite = [(step, value) for step, value in points if math.isfinite(value) and math.isfinite(step)]
    size = max(1, math.ceil(len(finite) / _BUCKETS))
    if size == 1:
        return [(step, value, value, value) for step, value in finite]
    rows = []
    for start in range(0, len(finite), size):
        part = finite[start : start + size]
        values = [value for _, value in part]
        rows.append((part[len(part) // 2][0], sum(values) / len(values), min(values), max(values)))
    return rows


def _end_labels(ends: list[tuple[float, str, str]], x: float, top: float, bottom: float) -> list[Markup]:
    """Name each line at its right end, moved apart where they would touch."""
    placed: list[Markup] = []
    last = top - 16
    for y, name, tone in sorted(ends):
        last = min(max(y, last + 16), bottom)
        placed.append(tag("text", clean(name, 14), x=x, y=last + 4, class_=f"label {tone}"))
    return placed


def horizontal_grid(y: Scale, left: float, right: float) -> list[Markup]:
    """Draw round values of ``y`` as faint lines from ``left`` to ``right``, named at the left."""
    shapes = []
    marks = ticks(y.low, y.high)
    digits = _digits(marks)
    for mark in marks:
        shapes.append(tag("path", d=path([(left, y(mark)), (right, y(mark))]), class_="grid"))
        shapes.append(tag("text", number(mark, digits), x=left - 8, y=y(mark) + 4, class_="tick end"))
    return shapes


def _x_axis(x: Scale, bottom: float, name: str) -> list[Markup]:
    marks = ticks(x.low, x.high)
    digits = _digits(marks)
    shapes = [tag("path", d=path([(x.start, bottom), (x.stop, bottom)]), class_="axis")]
    shapes += [tag("text", number(mark, digits), x=x(mark), y=bottom + 18, class_="tick middle") for mark in marks]
    shapes.append(tag("text", name, x=x.stop, y=bottom + 36, class_="tick end"))
    return shapes


def _digits(marks: Sequence[float]) -> int:
    """Return how many decimals tell these marks apart."""
    return next((d for d in range(5) if all(abs(round(m, d) - m) < 1e-9 for m in marks)), 5)


def rows_frame(
    names: Sequence[str], x: Scale, axis: str, *, marks: Sequence[float] | None = None
) -> tuple[list[Markup], float]:
    """Draw row names, a faint line per row and the x axis; returns the shapes and the height."""
    row = _row(len(names))
    bottom = 12 + row * len(names)
    marks = _that_fit(x) if marks is None else marks
    room = int((x.start - 16) / _SIGN)
    body = [tag("path", d=path([(x(m), 8), (x(m), bottom)]), class_="grid") for m in marks]
    for i, name in enumerate(names):
        y = rows_middle(i, len(names))
        body.append(tag("text", fitting(name, room), x=x.start - 12, y=y + 4, class_="label end"))
        body.append(tag("path", d=path([(x.start, y), (x.stop, y)]), class_="row"))
    digits = _digits(marks)
    body += [tag("text", number(m, digits), x=x(m), y=bottom + 18, class_="tick middle") for m in marks]
    body.append(tag("text", axis, x=x.stop, y=bottom + 36, class_="tick end"))
    return body, bottom + 44


def _that_fit(x: Scale) -> list[float]:
    """Return round values for the marks of an axis, fewer where their labels would touch."""
    for wanted in (5, 4, 3, 2):
        marks = ticks(x.low, x.high, wanted)
        widest = max((len(number(mark, _digits(marks))) for mark in marks), default=1)
        if len(marks) < 2 or x(marks[1]) - x(marks[0]) > _SIGN * widest + 6:
            break
    return marks


def _row(count: int) -> float:
    """Return the height of a row where there are ``count`` of them."""
    return _ROW if count <= _MANY_ROWS else _TIGHT_ROW


def rows_middle(place: int, count: int) -> float:
    """Return the y of the row at ``place`` of ``count`` rows."""
    return 12 + _row(count) * (place + 0.5)


def left_room(names: Sequence[str]) -> float:
    """Return where the axis starts, so that the longest name fits, or nearly."""
    longest = max((len(name) for name in names), default=0)
    return min(max(longest * _SIGN + 20, _LEFT[0]), _LEFT[1])


def fitting(name: str, room: int) -> str:
    """Shorten a name in its middle, since names of one family often differ only at their end.

    >>> fitting("models_genesis.chest_ct, scratch", 20)
    'models_gen…, scratch'
    """
    text = clean(name, 200)
    if len(text) <= room:
        return text
    tail = (room - 1) // 2
    return f"{text[: room - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{text[-tail:]}"


def _range(values: Sequence[float], *, share: bool) -> tuple[float, float]:
    """Return the range of an axis of points: shares over what they span, everything else from 0."""
    low, high = min(values), max(values)
    if share:
        pad = max(0.06 * (high - low), (_LEAST_SPAN - (high - low)) / 2, 0.002)
        return max(0.0, low - pad), min(1.0, high + pad)
    return min(0.0, low), high * 1.05 or 1.0


def dumbbells(pairs: Sequence[Pair], metric: str, ident: str, *, share: bool) -> Markup | None:
    """Draw one row per case or class: an open ring from scratch, a filled dot pretrained, a line between them.

    Parameters
    ----------
    pairs : sequence of Pair
        Rows from top to bottom.
    metric : str
        Name of the axis.
    ident : str
        Unique on the page.
    share : bool
        Whether the values are fractions in 0–1.
    """
    if not pairs:
        return None
    low, high = _range([v for pair in pairs for v in (pair.scratch, pair.pretrained)], share=share)
    names = [pair.name for pair in pairs]
    x = Scale(low, high, left_room(names), _WIDTH - _RIGHT)
    body, height = rows_frame(names, x, metric)
    for i, pair in enumerate(pairs):
        y = rows_middle(i, len(pairs))
        body.append(tag("path", d=path([(x(pair.scratch), y), (x(pair.pretrained), y)]), class_="link"))
        body.append(tag("circle", cx=x(pair.scratch), cy=y, r=5, class_="ring tone-b"))
        body.append(tag("circle", cx=x(pair.pretrained), cy=y, r=5, class_="dot tone-a"))
        body.append(
            tag(
                "text",
                signed(pair.pretrained - pair.scratch, 4 if share else 3),
                x=_WIDTH - 4,
                y=y + 4,
                class_="tick end",
            )
        )
    title = f"{metric} of {plural(len(pairs), 'row')}: from scratch (ring) and pretrained (dot), with the difference"
    return figure(_WIDTH, height, title, body, ident)


def strips(rows: Sequence[Strip], metric: str, ident: str, *, share: bool) -> Markup | None:
    """Draw one row per class: a dot for each case, a bar at the mean."""
    values = [value for row in rows for value in row.values]
    if not values:
        return None
    low, high = _range(values, share=share)
    names = [row.name for row in rows]
    x = Scale(low, high, left_room(names), _WIDTH - _RIGHT)
    body, height = rows_frame(names, x, metric)
    for i, row in enumerate(rows):
        y = rows_middle(i, len(rows))
        # Strokes without length and with round ends are dots: one element however many cases there are.
        dots = f"M%.1f {y:.1f}h0" * len(row.values) % tuple(x.many(row.values))
        body.append(tag("path", d=dots, class_="dots tone-a"))
        if row.mean is not None:
            body.append(tag("path", d=path([(x(row.mean), y - 9), (x(row.mean), y + 9)]), class_="mean"))
        body.append(tag("text", number(row.mean), x=_WIDTH - 4, y=y + 4, class_="tick end"))
    title = f"{metric} per class: a dot for each case, a bar at the mean, the mean at the right"
    return figure(_WIDTH, height, title, body, ident)


def forest(rows: Sequence[Estimate], axis: str, ident: str) -> Markup | None:
    """Draw differences with their intervals, one row each, against a line at zero."""
    if not rows:
        return None
    reach = max(max(abs(row.low), abs(row.high), abs(row.value)) for row in rows) * 1.15 or 1.0
    names = [row.name for row in rows]
    x = Scale(-reach, reach, left_room(names), _WIDTH - _RIGHT)
    body, height = rows_frame(names, x, axis)
    body.append(tag("path", d=path([(x(0), 4), (x(0), height - 44)]), class_="zero"))
    for i, row in enumerate(rows):
        y = rows_middle(i, len(rows))
        body.append(tag("path", d=path([(x(row.low), y), (x(row.high), y)]), class_="interval"))
        body += [
            tag("path", d=path([(x(edge), y - 5), (x(edge), y + 5)]), class_="interval") for edge in (row.low, row.high)
        ]
        body.append(tag("rect", x=x(row.value) - 5, y=y - 5, width=10, height=10, class_="estimate"))
        body.append(tag("text", signed(row.value, 4), x=_WIDTH - 4, y=y + 4, class_="tick end"))
    return figure(_WIDTH, height, f"{axis}: estimate and 95 % interval of {plural(len(rows), 'row')}", body, ident)
