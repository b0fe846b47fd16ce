"""Intervals and tests over cases. The unit is always the case; rankings are in `ranking.py`.

SciPy does the work where it can and is imported by the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.errors import UserError

__all__ = [
    "Equivalence",
    "Interval",
    "Paired",
    "SignedRank",
    "bca_interval",
    "equivalent",
    "holm",
    "paired_difference",
    "signed_rank",
    "t_interval",
    "two_level_interval",
]

Values = npt.NDArray[np.float64]
Alternative = Literal["two-sided", "greater", "less"]

N_RESAMPLES = 9_999
_BATCH_NUMBERS = 2_000_000  # resampled values held at once: 16 MB, however many cases there are


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its confidence interval.

    Attributes
    ----------
    value : float
        The mean.
    low, high : float
        Bounds; nan where a single case allows none.
    n : int
        Cases (for a t interval over seeds: seeds).
    method : str
        ``"bca"``, ``"t"``, ``"two_level_percentile"``, ``"constant"`` (all values equal) or ``"single"``.
    confidence : float
        Nominal coverage.
    n_resamples, seed : int or None
        What makes a bootstrap repeatable; None for a t interval.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    confidence: float = 0.95
    n_resamples: int | None = None
    seed: int | None = None


def _finite(values: npt.ArrayLike, what: str, minimum: int = 1) -> Values:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or array.size < minimum:
        raise UserError(f"{what}: got an array of shape {array.shape}, but need at least {minimum} values in a row.")
    wrong = np.count_nonzero(~np.isfinite(array))
    if wrong:
        raise UserError(
            f"{what}: {wrong} of {array.size} values are nan or infinite. Apply an empty-mask policy first and leave "
            "out what it leaves undefined, so that nothing is averaged silently."
        )
    return array


def _degenerate(values: Values, confidence: float) -> Interval | None:
    """Return the interval where no resampling can help: one case, or all values equal."""
    mean = float(values[0]) if np.all(values == values[0]) else float(values.mean())
    if values.size == 1:
        return Interval(value=mean, low=math.nan, high=math.nan, n=1, method="single", confidence=confidence)
    if np.all(values == values[0]):
        return Interval(value=mean, low=mean, high=mean, n=values.size, method="constant", confidence=confidence)
    return None


def bca_interval(
    values: npt.ArrayLike, *, confidence: float = 0.95, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of a mean over cases.

    Parameters
    ----------
    values : array_like of shape (n,)
        One finite number per case.
    confidence : float
        Nominal coverage.
    n_resamples : int
        Bootstrap samples, at least 9,999 for anything that is published.
    seed : int
        Seed of NumPy's default generator; the same seed gives the same interval.

    Raises
    ------
    UserError
        No values, or some are nan or infinite.

    References
    ----------
    Efron 1987, doi:10.1080/01621459.1987.10478410; `scipy.stats.bootstrap`.

    Examples
    --------
    >>> bca_interval([0.5, 0.5, 0.5]).high
    0.5
    """
    array = _finite(values, "Bootstrap interval")
    degenerate = _degenerate(array, confidence)
    if degenerate is not None:
        return degenerate
    from scipy.stats import bootstrap

    found = bootstrap(
        (array,),
        np.mean,
        method="BCa",
        n_resamples=n_resamples,
        batch=max(1, _BATCH_NUMBERS // array.size),
        confidence_level=confidence,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(
        value=float(array.mean()),
        low=float(found.low),
        high=float(found.high),
        n=array.size,
        method="bca",
        confidence=confidence,
        n_resamples=n_resamples,
        seed=seed,
    )


def t_interval(values: npt.ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Student-t interval of a mean: over seeds, or over cases when there are 50 or more.

    Examples
    --------
    >>> interval = t_interval([0.80, 0.82, 0.84])  # half-width 2.48 sd with three seeds
    >>> round((interval.high - interval.value) / 0.02, 2)
    2.48
    """
    array = _finite(values, "t interval")
    degenerate = _degenerate(array, confidence)
    if degenerate is not None:
        return degenerate
    from scipy.special import stdtrit

    half = float(stdtrit(array.size - 1, (1 + confidence) / 2) * array.std(ddof=1) / math.sqrt(array.size))
    mean = float(array.mean())
    return Interval(value=mean, low=mean - half, high=mean + half, n=array.size, method="t", confidence=confidence)


def two_level_interval(
    scores: npt.ArrayLike, *, confidence: float = 0.95, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Interval:
    """Percentile interval that resamples seeds first and cases within, the same cases for every drawn seed.

    Parameters
    ----------
    scores : array_like of shape (seeds, cases)
        One finite number per seed and case; every seed scored the same cases.

    Notes
    -----
    Seeds and cases are crossed, not pooled: a resample is the mean over drawn seeds of the mean over drawn cases.
    With one seed only the cases vary, and the interval says nothing about training noise.
    """
    table = np.asarray(scores, np.float64)
    if table.ndim != 2:
        raise UserError(f"Two-level interval: need a table of seeds x cases, got shape {table.shape}.")
    _finite(table.ravel(), "Two-level interval")
    degenerate = _degenerate(table.ravel(), confidence)
    if degenerate is not None:
        return degenerate
    n_seeds, n_cases = table.shape
    rng = np.random.default_rng(seed)
    draws = []
    batch = max(1, _BATCH_NUMBERS // (n_seeds + n_cases))
    for start in range(0, n_resamples, batch):
        size = min(batch, n_resamples - start)
        seed_weights = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=size) / n_seeds
        case_weights = rng.multinomial(n_cases, np.full(n_cases, 1 / n_cases), size=size) / n_cases
        draws.append(np.einsum("ij,ij->i", seed_weights @ table, case_weights))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(draws), [tail, 1 - tail])
    return Interval(
        value=float(table.mean()),
        low=float(low),
        high=float(high),
        n=n_cases,
        method="two_level_percentile",
        confidence=confidence,
        n_resamples=n_resamples,
        seed=seed,
    )


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
    array = _finite(differences, "Signed-rank test")
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
    a = _finite(first, "Paired difference, first method")
    b = _finite(second, "Paired difference, second method")
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
    array = _finite(differences, "Equivalence test", minimum=2)
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
