"""How many seeds a verdict within its margin will need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from scipy.special import stdtrit

__all__ = ["Seeds", "seeds_for", "seeds_needed"]

_MOST = 100  # beyond, "more seeds" is no advice
_LEAST = 3
_ASSUMED = (0.002, 0.005, 0.01, 0.02)


@dataclass(frozen=True)
class Seeds:
    """What is known about the seeds of one cell.

    Attributes
    ----------
    margin : float
        Of the verdict, as a fraction; fixed by the experiment or the suggested one.
    spread : float or None
        Standard deviation between the seeds that have run; None below two.
    needed : int or None
        Seeds for an interval within the margin at that spread; None where unknown or more than a hundred.
    assumed : dict of str to (int or None)
        The same for spreads that nobody has measured here.
    """

    margin: float
    spread: float | None
    needed: int | None
    assumed: dict[str, int | None]


def seeds_needed(spread: float, margin: float) -> int | None:
    """Return the least number of seeds (3 to 100) whose 95 % t-interval is not wider than the margin on each side.

    >>> seeds_needed(0.005, 0.005)
    7
    """
    for count in range(_LEAST, _MOST + 1):
        if float(stdtrit(count - 1, 0.975)) * spread / math.sqrt(count) <= margin:
            return count
    return None


def seeds_for(values: Sequence[float], margin: float) -> Seeds:
    """Judge the seeds that have run, if any; ``values`` holds the first metric of each."""
    spread = stdev(values) if len(values) > 1 else None
    needed = seeds_needed(spread, margin) if spread is not None else None
    return Seeds(margin, spread, needed, {f"{one:g}": seeds_needed(one, margin) for one in _ASSUMED})
