"""Tests of paired differences over cases: signed rank, several comparisons, equivalence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.errors import UserError
from harness.scoring.intervals import N_RESAMPLES, Interval, bca_interval, finite

__all__ = ["Equivalence", "Paired", "SignedRank", "equivalent", "holm", "paired_difference", "signed_rank"]

Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True, kw_only=True)
class SignedRank:
    """A Wilcoxon signed-rank test: p-value, statistic, and how many pairs were equal."""

    p: float
    statistic: float
    n: int
    n_zero: int
    alternative: Alternative


def signed_rank(differences: npt.ArrayLike, alternative: Alternative = "two-sided") -> SignedRank:
    """Wilcoxon signed-rank test of paired differences; zeros by Pratt, exact where SciPy has the exact distribution.

    Notes
    -----
    `scipy.stats.wilcoxon` uses the exact distribution up to 50 pairs without zeros or ties, and the normal
    approximation otherwise. Differences that are all zero give p = 1.
    """
    array = finite(differences, "Signed-rank test")
    n_zero = int(np.count_nonzero(array == 0))
    if n_zero == array.size:
        return SignedRank(p=1.0, statistic=0.0, n=array.size, n_zero=n_zero, alternative=alternative)
    from scipy.stats import wilcoxon

    found = wilcoxon(array, zero_method="pratt", alternative=alternative)
    return SignedRank(
        p=float(found.pvalue),
        statistic=float(found.statistic),
        n=array.size,
        n_zero=n_zero,
        alternative=alternative,
    )


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Difference of two methods on the same cases, second minus first."""

    interval: Interval
    test: SignedRank
    n_better: int
    n_worse: int


def paired_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Compare two methods on the same cases: mean of ``second - first`` with a BCa interval, and a signed-rank test.

    Parameters
    ----------
    first, second : array_like of shape (n,)
        Scores of the same cases in the same order.
    """
    a = finite(first, "Paired difference, first method")
    b = finite(second, "Paired difference, second method")
    if a.size != b.size:
        raise UserError(
            f"Paired difference: the first method has {a.size} cases and the second {b.size}. Pairs need the same "
            "cases in the same order; intersect them first."
        )
    differences = b - a
    return Paired(
        interval=bca_interval(differences, confidence=confidence, n_resamples=n_resamples, seed=seed),
        test=signed_rank(differences),
        n_better=int(np.count_nonzero(differences > 0)),
        n_worse=int(np.count_nonzero(differences < 0)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for several comparisons by Holm's step-down rule, in the given order.

    References
    ----------
    Holm 1979, https://www.jstor.org/stable/4615733.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Two one-sided tests of whether a mean difference lies within a margin."""

    p: float
    p_above_lower: float
    p_below_upper: float
    margin: float
    n: int


def equivalent(differences: npt.ArrayLike, margin: float) -> Equivalence:
    """Two one-sided t tests (TOST) that the mean of paired differences lies inside (-margin, margin).

    Parameters
    ----------
    differences : array_like of shape (n,)
        Paired differences, at least two.
    margin : float
        Positive, fixed beforehand, in the unit of the differences.

    Returns
    -------
    Equivalence
        `p` is the larger of the two one-sided p-values; below 0.05 means equivalent at the margin.

    References
    ----------
    Schuirmann 1987, doi:10.1007/BF01068419.
    """
    array = finite(differences, "Equivalence test", minimum=2)
    if not (math.isfinite(margin) and margin > 0):
        raise UserError(f"Equivalence test: the margin is {margin}, but it must be a positive number.")
    mean, spread = float(array.mean()), float(array.std(ddof=1))
    if np.all(array == array[0]):  # no spread: the answer is certain, and a t statistic would divide by zero
        lower, upper = float(array[0] <= -margin), float(array[0] >= margin)
    else:
        from scipy.special import stdtr

        error = spread / math.sqrt(array.size)
        lower = float(stdtr(array.size - 1, -(mean + margin) / error))
        upper = float(stdtr(array.size - 1, (mean - margin) / error))
    return Equivalence(p=max(lower, upper), p_above_lower=lower, p_below_upper=upper, margin=margin, n=array.size)
