"""Confidence intervals of a mean: over cases, over seeds, over seeds and cases. The unit is always the case.

SciPy's functions are imported where they are called, so that importing this module costs nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import UserError

__all__ = ["N_RESAMPLES", "Interval", "bca_interval", "finite", "t_interval", "two_level_interval"]

Values = npt.NDArray[np.float64]

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


def finite(values: npt.ArrayLike, what: str, minimum: int = 1) -> Values:
    """Return values as floats, refusing what would be averaged silently; ``what`` begins the message."""
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
    Efron 1987, doi:10.1080/01621459.1987.10478410.

    Examples
    --------
    >>> bca_interval([0.5, 0.5, 0.5]).high
    0.5
    """
    array = finite(values, "Bootstrap interval")
    degenerate = _degenerate(array, confidence)
    if degenerate is not None:
        return degenerate
    low, high = _bca(array, _resampled_means(array, n_resamples, seed), confidence)
    return Interval(
        value=float(array.mean()),
        low=low,
        high=high,
        n=array.size,
        method="bca",
        confidence=confidence,
        n_resamples=n_resamples,
        seed=seed,
    )


def _resampled_means(array: Values, n_resamples: int, seed: int) -> Values:
    """Return the mean of each resample; the draws of many cases are made in pieces, those of few are kept."""
    batch = max(1, _BATCH_NUMBERS // array.size)
    if n_resamples <= batch:
        return np.asarray(array[_places(array.size, n_resamples, seed)].mean(axis=-1), np.float64)
    rng = np.random.default_rng(seed)
    sizes = (min(batch, n_resamples - start) for start in range(0, n_resamples, batch))
    drawn = (rng.integers(0, array.size, (size, array.size)) for size in sizes)
    return np.concatenate([array[places].mean(axis=-1) for places in drawn])


@functools.lru_cache(maxsize=2)
def _places(n_cases: int, n_resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw which cases each resample takes, as (resamples, cases): records of one data set ask for the same draws."""
    return np.random.default_rng(seed).integers(0, n_cases, (n_resamples, n_cases))


def _bca(array: Values, means: Values, confidence: float) -> tuple[float, float]:
    """Return the bounds: quantiles of the resampled means, moved for bias and for skewness.

    `scipy.stats.bootstrap` gives the same to rounding; it would draw again for every record.
    """
    from scipy.special import ndtr, ndtri

    mean = array.mean()
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * means.size)
    # What leaving one case out does to a mean is known without doing it: the acceleration is a sixth of the skewness
    # of the cases, over the root of their number.
    away = array - mean
    spread = (away**2).sum()
    if not 0 < below < 1 or spread == 0:
        return math.nan, math.nan  # nothing can be said: all resamples lie on one side, or all cases are nearly equal
    acceleration = (away**3).sum() / (6 * spread**1.5)
    bias, tail = ndtri([below, (1 - confidence) / 2])
    moved = bias + np.array([tail, -tail])
    low, high = np.quantile(means, ndtr(bias + moved / (1 - acceleration * moved)))
    return float(low), float(high)


def t_interval(values: npt.ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Student-t interval of a mean: over seeds, or over cases when there are 50 or more.

    Examples
    --------
    >>> interval = t_interval([0.80, 0.82, 0.84])  # half-width 2.48 sd with three seeds
    >>> round((interval.high - interval.value) / 0.02, 2)
    2.48
    """
    array = finite(values, "t interval")
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
    finite(table.ravel(), "Two-level interval")
    degenerate = _degenerate(table.ravel(), confidence)
    if degenerate is not None:
        return degenerate
    n_seeds, n_cases = table.shape
    batch = max(1, _BATCH_NUMBERS // (n_seeds + n_cases))
    if n_resamples <= batch:
        drawn: Iterable[tuple[Values, Values]] = [_seeded_weights(n_seeds, n_cases, n_resamples, seed)]
    else:
        rng = np.random.default_rng(seed)
        sizes = (min(batch, n_resamples - start) for start in range(0, n_resamples, batch))
        drawn = (_weights(n_seeds, n_cases, size, rng) for size in sizes)
    # Cases first: there are fewer seeds than cases, and what lies between has one column per seed.
    draws = [np.einsum("ij,ij->i", of_cases @ table.T, of_seeds) for of_seeds, of_cases in drawn]
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


@functools.lru_cache(maxsize=4)
def _seeded_weights(n_seeds: int, n_cases: int, size: int, seed: int) -> tuple[Values, Values]:
    """Return `_weights` from a fresh generator: a board asks for the same draws once per cell."""
    return _weights(n_seeds, n_cases, size, np.random.default_rng(seed))


def _weights(n_seeds: int, n_cases: int, size: int, rng: np.random.Generator) -> tuple[Values, Values]:
    """Draw how often each seed and each case is taken, as shares; shapes (size, seeds) and (size, cases)."""
    of_seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=size) / n_seeds
    of_cases = rng.multinomial(n_cases, np.full(n_cases, 1 / n_cases), size=size) / n_cases
    return of_seeds, of_cases
