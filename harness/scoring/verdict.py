"""Does a reproduced number agree with a reported one, and was there a gain? One rule, as pure functions.

The margin is fixed before the run. Two questions are kept apart: was it comparable (`protocol_difference`, from
`protocol_fields.py`), and did it agree (`value_verdict`). A paper's message is usually the gain over training from
scratch (`gain_verdict`, from `gain.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.errors import UserError
from harness.scoring.gain import GainVerdict, gain_verdict
from harness.scoring.intervals import Interval, bca_interval, t_interval, two_level_interval
from harness.scoring.protocol_fields import BLOCKING_FIELDS, PROTOCOL_FIELDS, ProtocolDifference, protocol_difference

__all__ = [
    "BLOCKING_FIELDS",
    "PROTOCOL_FIELDS",
    "GainVerdict",
    "ProtocolDifference",
    "ValueVerdict",
    "gain_verdict",
    "protocol_difference",
    "suggested_margin",
    "value_verdict",
]

ValueState = Literal[
    "reproduced",
    "lower",
    "higher",
    "inconclusive",
    "not_comparable",
    "not_attempted",
    "not_reproducible_as_published",
]

LEAST_SEEDS = 3
FEW_CASES = 30  # below, a suggested margin is twice as wide
_MOST_SEEDS = 100  # beyond, "more seeds" is no advice


def suggested_margin(n_cases: int, *, eval_only: bool = False) -> float:
    """Return the margin to write into an experiment before it runs, as a fraction.

    0.001 for a released checkpoint that is only evaluated, 0.01 below 30 test cases, 0.005 from 30 on.
    """
    if eval_only:
        return 0.001
    return 0.01 if n_cases < FEW_CASES else 0.005


@dataclass(frozen=True, kw_only=True)
class ValueVerdict:
    """Whether a reproduced value agrees with a reported one.

    Attributes
    ----------
    state : str
        ``reproduced``, ``lower``, ``higher``, ``inconclusive``, ``not_comparable``, ``not_attempted`` or
        ``not_reproducible_as_published``.
    difference : float or None
        Reproduced minus reported, in the unit of the metric; None where they must not be compared.
    low, high : float or None
        The 95 % interval of the difference.
    interval_kind : str or None
        ``seeds`` (t over runs on the claim's own cases), ``seeds_then_cases`` (two-level bootstrap on other cases),
        ``cases`` (the same with a released checkpoint) or ``versions`` (a released checkpoint on the claim's cases).
    margin : float
        Fixed beforehand.
    seeds_needed : int or None
        Where inconclusive: how many seeds would settle it, if the spread stays as it is.
    explanation : str
        The verdict in words.
    """

    state: ValueState
    difference: float | None
    low: float | None
    high: float | None
    interval_kind: str | None
    margin: float
    seeds_needed: int | None
    explanation: str


def value_verdict(
    *,
    reported: float,
    margin: float,
    runs: npt.ArrayLike = (),
    case_scores: npt.ArrayLike | None = None,
    same_cases: bool = True,
    eval_only: bool = False,
    rounding: float = 0.0,
    protocol: ProtocolDifference | None = None,
    not_public: str | None = None,
    not_attempted: str = "nobody has run it yet",
    seed: int = 0,
) -> ValueVerdict:
    """Judge a claim by the runs there are.

    Parameters
    ----------
    reported : float
        The claimed value, in the unit of the metric (a fraction, not a percentage).
    margin : float
        M, positive, fixed before the run, same unit.
    runs : array_like of shape (seeds,)
        One value per run. With `eval_only`: one per framework version that evaluated the released checkpoint.
    case_scores : array_like of shape (seeds, cases), optional
        Needed where other cases were scored.
    same_cases : bool
        Whether the scored cases are the claim's.
    eval_only : bool
        A released checkpoint was evaluated: there is no training noise.
    rounding : float
        The unit of the last digit the claim prints (0.0001 for 82.74 %); half of it is added on both sides where the
        cases are the same.
    protocol : ProtocolDifference, optional
        A blocking difference makes the verdict ``not_comparable``.
    not_public : str, optional
        What is not public (weights, data, split): the claim cannot be reproduced as published, whoever runs what.
    not_attempted : str
        Why there is no run, shown where `runs` is empty.
    seed : int
        Seed of the bootstrap.
    """
    if not (math.isfinite(margin) and margin > 0 and math.isfinite(reported) and rounding >= 0):
        raise UserError(
            f"Verdict: margin {margin}, reported {reported}, rounding {rounding}; need finite numbers, M > 0."
        )
    values = np.asarray(runs, np.float64)
    if not_public:
        return _without_interval(
            "not_reproducible_as_published", margin, f"It cannot be reproduced as published: {not_public}."
        )
    if values.size == 0:
        return _without_interval("not_attempted", margin, f"Not attempted: {not_attempted}.")
    if protocol is not None and not protocol.comparable:
        fields = ", ".join(name.replace("_", " ") for name in protocol.blocking)
        return _without_interval("not_comparable", margin, f"Not comparable: the protocols differ in {fields}.")
    interval, kind = _difference(values, case_scores, same_cases, eval_only, seed)
    widened = rounding / 2 if same_cases else 0.0
    difference, low, high = interval.value - reported, interval.low - reported, interval.high - reported
    low, high = low - widened, high + widened
    too_few = not eval_only and (values.size < LEAST_SEEDS if same_cases else values.size < 2)
    state: ValueState = "inconclusive" if too_few else _place(low, high, margin)
    needed = None
    if state == "inconclusive" and same_cases and not eval_only and values.size > 1:
        needed = _seeds_needed(difference, float(values.std(ddof=1)), widened, margin)
    return ValueVerdict(
        state=state,
        difference=difference,
        low=None if math.isnan(low) else low,
        high=None if math.isnan(high) else high,
        interval_kind=kind,
        margin=margin,
        seeds_needed=needed,
        explanation=_explain(state, difference, low, high, margin, kind, values.size, too_few, needed),
    )


def _without_interval(state: ValueState, margin: float, explanation: str) -> ValueVerdict:
    return ValueVerdict(
        state=state,
        difference=None,
        low=None,
        high=None,
        interval_kind=None,
        margin=margin,
        seeds_needed=None,
        explanation=explanation,
    )


def _difference(
    values: npt.NDArray[np.float64],
    case_scores: npt.ArrayLike | None,
    same_cases: bool,
    eval_only: bool,
    seed: int,
) -> tuple[Interval, str]:
    """Return the interval of the reproduced value and what it was made of."""
    if same_cases and eval_only:
        low, high = float(values.min()), float(values.max())
        middle = float(values.mean())
        return Interval(value=middle, low=low, high=high, n=values.size, method="range"), "versions"
    if same_cases:
        return t_interval(values), "seeds"
    if case_scores is None:
        raise UserError(
            "Verdict: other cases than the claim's were scored, so the interval needs case_scores, a table of "
            "seeds x cases. Give it, or score the claim's own cases."
        )
    table = np.atleast_2d(np.asarray(case_scores, np.float64))
    if len(table) != values.size:
        raise UserError(f"Verdict: {values.size} runs but {len(table)} rows of case scores; they belong together.")
    if eval_only:
        return bca_interval(table.mean(axis=0), seed=seed), "cases"
    return two_level_interval(table, seed=seed), "seeds_then_cases"


def _place(low: float, high: float, margin: float) -> ValueState:
    if -margin <= low and high <= margin:
        return "reproduced"
    if high < -margin:
        return "lower"
    if low > margin:
        return "higher"
    return "inconclusive"


def _seeds_needed(difference: float, spread: float, widened: float, margin: float) -> int | None:
    """Return the smallest number of seeds whose t interval would clear the edge it straddles now."""
    from scipy.special import stdtrit

    for n in range(LEAST_SEEDS, _MOST_SEEDS + 1):
        half = float(stdtrit(n - 1, 0.975)) * spread / math.sqrt(n) + widened
        if _place(difference - half, difference + half, margin) != "inconclusive":
            return n
    return None


def _explain(
    state: ValueState,
    difference: float,
    low: float,
    high: float,
    margin: float,
    kind: str,
    n_runs: int,
    too_few: bool,
    needed: int | None,
) -> str:
    said = f"reproduced minus reported is {difference:+.4f}"
    if not math.isnan(low):
        said += f", 95 % interval {low:+.4f} to {high:+.4f} ({kind.replace('_', ' ')}, {n_runs} runs)"
    said += f", margin {margin:g}"
    if state != "inconclusive":
        return f"{state.capitalize()}: {said}."
    if too_few:
        least = "at least 3 seeds are needed (a t interval has a half-width of 2.48 sd with 3 and 1.24 sd with 5)"
        advice = least if kind == "seeds" else "one seed says nothing about training noise"
        if needed:
            advice += f"; with this spread {needed} would settle it"
    elif needed:
        advice = f"with this spread {needed} seeds would settle it"
    elif kind == "seeds":
        advice = f"with this spread not even {_MOST_SEEDS} seeds would settle it"
    else:
        advice = "the interval straddles the margin"
    return f"Inconclusive: {said}; {advice}."
