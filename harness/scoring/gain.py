"""Did pretraining gain anything over the twin from scratch? Paired case by case, under the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.errors import UserError
from harness.scoring.intervals import Interval, bca_interval, two_level_interval

__all__ = ["GainVerdict", "gain_verdict"]

GainState = Literal["gain_confirmed", "no_gain_seen", "loss", "not_attempted"]


@dataclass(frozen=True, kw_only=True)
class GainVerdict:
    """Whether pretraining gained anything over its twin from scratch.

    Attributes
    ----------
    state : {"gain_confirmed", "no_gain_seen", "loss", "not_attempted"}
        Interval above 0, around 0, below 0, or no pair of twins.
    gain : float or None
        Mean paired difference, positive meaning that the pretrained twin is better.
    interval : Interval or None
        95 %: over cases for one seed, over seeds then cases for several.
    claimed : float or None
        The gain that was claimed, oriented the same way.
    share_of_claim : float or None
        Gain divided by claimed gain.
    claim_inside : bool or None
        Whether the claimed gain lies inside the interval.
    sd_over_seeds : float or None
        Spread of the per-seed gains.
    explanation : str
        The verdict in words.
    """

    state: GainState
    gain: float | None
    interval: Interval | None
    claimed: float | None
    share_of_claim: float | None
    claim_inside: bool | None
    sd_over_seeds: float | None
    explanation: str


def gain_verdict(
    pretrained: Sequence[Sequence[float]],
    scratch: Sequence[Sequence[float]],
    *,
    higher_is_better: bool = True,
    claimed: float | None = None,
    seed: int = 0,
) -> GainVerdict:
    """Compare twins case by case, under the same seeds.

    Parameters
    ----------
    pretrained, scratch : array_like of shape (seeds, cases)
        Case scores of both twins; row i of both has the same seed, column j the same case. Empty: not attempted.
    higher_is_better : bool
        Direction of the metric.
    claimed : float, optional
        The claimed gain, in the unit and sign of the metric: claimed pretrained value minus claimed scratch value.
    seed : int
        Seed of the bootstrap.
    """
    first, second = (np.asarray(table, np.float64) for table in (pretrained, scratch))
    sign = 1.0 if higher_is_better else -1.0
    goal = None if claimed is None else sign * claimed
    if first.size == 0 or second.size == 0:
        return GainVerdict(
            state="not_attempted",
            gain=None,
            interval=None,
            claimed=goal,
            share_of_claim=None,
            claim_inside=None,
            sd_over_seeds=None,
            explanation="Not attempted: a gain needs a pretrained run and its twin from scratch under the same seed.",
        )
    if first.ndim != 2 or first.shape != second.shape:
        raise UserError(
            f"Gain: the pretrained scores have shape {first.shape} and the scratch scores {second.shape}. Both need "
            "the same seeds x the same cases."
        )
    gains = sign * (first - second)
    interval = bca_interval(gains[0], seed=seed) if len(gains) == 1 else two_level_interval(gains, seed=seed)
    state: GainState = "gain_confirmed" if interval.low > 0 else "loss" if interval.high < 0 else "no_gain_seen"
    words = {"gain_confirmed": "Gain confirmed", "loss": "Loss", "no_gain_seen": "No gain seen"}[state]
    said = (
        f"{words}: {interval.value:+.4f}, 95 % interval {interval.low:+.4f} to {interval.high:+.4f} over "
        f"{gains.shape[1]} cases and {len(gains)} seeds"
    )
    if len(gains) == 1:
        said += "; one seed says nothing about training noise"
    if goal is not None:
        said += f"; claimed {goal:+.4f}"
    return GainVerdict(
        state=state,
        gain=interval.value,
        interval=interval,
        claimed=goal,
        share_of_claim=interval.value / goal if goal else None,
        claim_inside=None if goal is None else interval.low <= goal <= interval.high,
        sd_over_seeds=float(gains.mean(axis=1).std(ddof=1)) if len(gains) > 1 else None,
        explanation=said + ".",
    )
