"""Building SVG as text: elements whose attributes and children are escaped, axes, and round tick values."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

__all__ = ["Scale", "figure", "path", "short", "tag", "ticks"]


_OURS: Final = frozenset({"class_", "d"})  # written by our own code from its own words and numbers
_PLAIN: Final = re.compile(r"[^&<>'\"]*")


def tag(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """Write one element.

    Parameters
    ----------
    name : str
        Element name.
    *children : str
        Text (escaped) or Markup (kept).
    **attributes : str, float or None
        ``stroke_width`` becomes ``stroke-width``, ``class_`` becomes ``class``; numbers are written with two decimals
        at most, so that the same data give the same bytes; None leaves the attribute out.

    Examples
    --------
    >>> str(tag("text", "a<b", x=1.0, class_="label"))
    '<text x="1" class="label">a&lt;b</text>'
    """
    written = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            text = short(value) if not isinstance(value, str) else value if key in _OURS else _escaped(value)
            written.append(f' {_attribute(key)}="{text}"')
    if children:
        inner = "".join(child if isinstance(child, Markup) else _escaped(child) for child in children)
        written.append(f">{inner}</{name}>")
    else:
        written.append("/>")
    # Attributes and children were escaped one by one above, by _escaped or by whoever made the Markup.
    return Markup("".join(written))  # noqa: S704


_ENDS: Final = ((".00", ""), *((f".{digit}0", f".{digit}") for digit in range(1, 10)))


@functools.cache
def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _escaped(text: str) -> str:
    """Escape text for an attribute or an element; most of ours needs nothing, and looking is cheaper than escaping."""
    return text if _PLAIN.fullmatch(text) else str(escape(text))


def short(value: float) -> str:
    """Write a coordinate with two decimals at most."""
    if isinstance(value, int):
        return str(value)
    text = f"{value:.2f}"
    if text[-1] == "0":
        text = text[:-3] if text[-2] == "0" else text[:-1]
    return "0" if text == "-0" else text


def path(points: Sequence[tuple[float, float]], *, close: bool = False) -> str:
    """Return the ``d`` of a polyline through ``points``."""
    # All numbers at once, then the zeros away: every number has two decimals here, so no other digits can match.
    steps = " L".join(["%.2f %.2f"] * len(points)) % tuple(itertools.chain.from_iterable(points))
    if "-" in steps:  # a zero may have a sign
        steps = " L".join([f"{short(x)} {short(y)}" for x, y in points])
    else:
        for end, kept in _ENDS:
            steps = steps.replace(end, kept)
    return (f"M{steps}" if steps else "") + ("Z" if close else "")


def figure(width: float, height: float, title: str, body: Sequence[Markup], ident: str) -> Markup:
    """Wrap shapes into an SVG picture with an accessible name.

    Parameters
    ----------
    width, height : float
        Size in user units, which are CSS pixels at full size.
    title : str
        What the picture shows, read aloud by a screen reader.
    body : sequence of Markup
        The shapes.
    ident : str
        An id that is unique on the page.
    """
    name = tag("title", title, id=f"{ident}-title")
    return tag(
        "svg",
        name,
        *body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {short(width)} {short(height)}",
        width=width,
        height=height,
        role="img",
        aria_labelledby=f"{ident}-title",
        class_="plot",
    )


@dataclass(frozen=True)
class Scale:
    """A linear map from data ``low … high`` to pixels ``start … stop``."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; values outside the range stop at its edge."""
        share = (value - self.low) / (self.high - self.low or 1.0)
        share = 0.0 if share < 0 else min(share, 1.0)
        return self.start + share * (self.stop - self.start)

    def many(self, values: Iterable[float]) -> list[float]:
        """Return the pixels of many values, as calling does one by one."""
        low, span, start, width = self.low, self.high - self.low or 1.0, self.start, self.stop - self.start
        shares = [(value - low) / span for value in values]
        return [start + (0.0 if share < 0 else 1.0 if share > 1 else share) * width for share in shares]


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return about ``wanted`` round values inside ``low … high``.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]
