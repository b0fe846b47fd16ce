"""Ranks of several methods on the same cases, how stable they are, and which methods cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import UserError
from harness.scoring.comparisons import holm, signed_rank

__all__ = ["Ranking", "mean_then_rank", "rank_methods", "rank_then_mean", "tiers"]

Table = npt.NDArray[np.float64]

N_RESAMPLES = 1_000


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """One method's place.

    Attributes
    ----------
    method : str
        Its name.
    mean : float
        Mean over cases.
    rank : float
        Mean-then-rank; equal means share the mean of their places.
    mean_rank : float
        Mean over cases of the rank inside the case.
    rank_by_mean_rank : float
        Rank-then-mean.
    low, high : float
        95 % of the ranks over bootstrap resamples of the cases lie between them.
    tier : int
        1 for the best method and all that cannot be separated from it, and so on downwards.
    n_beaten : int
        How many methods it beats significantly (one-sided signed-rank, Holm).
    """

    method: str
    mean: float
    rank: float
    mean_rank: float
    rank_by_mean_rank: float
    low: float
    high: float
    tier: int
    n_beaten: int


def _ranks(values: Table) -> Table:
    """Rank along the last axis, 1 for the largest; equal values share the mean of their places."""
    greater = (values[..., None, :] > values[..., :, None]).sum(axis=-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(axis=-1)
    return np.asarray(greater + (equal + 1) / 2, np.float64)


def mean_then_rank(scores: npt.ArrayLike) -> Table:
    """Rank methods by their mean over cases; scores (cases, methods), higher is better, rank 1 is best."""
    return _ranks(np.asarray(scores, np.float64).mean(axis=0))


def rank_then_mean(scores: npt.ArrayLike) -> tuple[Table, Table]:
    """Rank methods inside each case, average the ranks, rank again; returns the ranks and the mean ranks."""
    means = _ranks(np.asarray(scores, np.float64)).mean(axis=0)
    return _ranks(-means), means


def rank_methods(
    scores: Mapping[str, Sequence[float]],
    *,
    higher_is_better: bool = True,
    alpha: float = 0.05,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> list[Ranking]:
    """Rank methods on the same cases, with stability intervals and tiers.

    Parameters
    ----------
    scores : mapping of str to sequence of float
        Method -> one finite score per case, the same cases in the same order for all.
    higher_is_better : bool
        Direction of the metric.
    alpha : float
        Significance level after Holm.
    n_resamples, seed : int
        Bootstrap over cases.

    Returns
    -------
    list of Ranking
        By tier, then by name: inside a tier nothing separates the methods, least of all the fourth decimal.

    References
    ----------
    Wiesenfarth et al. 2021, doi:10.1038/s41598-021-82017-6.
    """
    methods = list(scores)
    lengths = {len(values) for values in scores.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise UserError(
            f"Ranking: the methods {methods} have {sorted(lengths)} cases. Rank only methods that were scored on the "
            "same cases; intersect them first."
        )
    table = np.array([scores[method] for method in methods], np.float64).T
    if not np.all(np.isfinite(table)):
        raise UserError("Ranking: some scores are nan or infinite. Apply an empty-mask policy first.")
    oriented = table if higher_is_better else -table
    ranks = mean_then_rank(oriented)
    by_rank, mean_ranks = rank_then_mean(oriented)
    rng = np.random.default_rng(seed)
    drawn = [mean_then_rank(oriented[rng.integers(0, len(oriented), len(oriented))]) for _ in range(n_resamples)]
    low, high = np.quantile(np.array(drawn), [0.025, 0.975], axis=0, method="inverted_cdf")
    tier_of = tiers(oriented, alpha=alpha)
    beaten = _beaten(oriented, alpha)
    found = [
        Ranking(
            method=method,
            mean=float(table[:, m].mean()),
            rank=float(ranks[m]),
            mean_rank=float(mean_ranks[m]),
            rank_by_mean_rank=float(by_rank[m]),
            low=float(low[m]),
            high=float(high[m]),
            tier=tier_of[m],
            n_beaten=beaten[m],
        )
        for m, method in enumerate(methods)
    ]
    return sorted(found, key=lambda entry: (entry.tier, entry.method))


def tiers(scores: npt.ArrayLike, *, alpha: float = 0.05) -> list[int]:
    """Give methods that cannot be separated from a tier's best the same tier.

    Parameters
    ----------
    scores : array_like of shape (cases, methods)
        Higher is better.
    alpha : float
        Significance level of the two-sided signed-rank tests after Holm over all pairs.

    Notes
    -----
    The tests are not transitive, so the leader decides: the best mean opens a tier, everything not separable from
    that method joins, and the best of the rest opens the next.
    """
    table = np.asarray(scores, np.float64)
    n_methods = table.shape[1]
    pairs = [(a, b) for a in range(n_methods) for b in range(a + 1, n_methods)]
    adjusted = holm([signed_rank(table[:, a] - table[:, b]).p for a, b in pairs])
    separable = {pair for pair, p in zip(pairs, adjusted, strict=True) if p < alpha}
    remaining = sorted(range(n_methods), key=lambda m: (-table[:, m].mean(), m))
    tier_of = [0] * n_methods
    tier = 0
    while remaining:
        tier += 1
        leader = remaining[0]
        tied = [m for m in remaining if m == leader or (min(m, leader), max(m, leader)) not in separable]
        for m in tied:
            tier_of[m] = tier
        remaining = [m for m in remaining if m not in tied]
    return tier_of


def _beaten(table: Table, alpha: float) -> list[int]:
    """Count, for each method, the methods it beats in one-sided signed-rank tests after Holm."""
    n_methods = table.shape[1]
    pairs = [(a, b) for a in range(n_methods) for b in range(n_methods) if a != b]
    adjusted = holm([signed_rank(table[:, a] - table[:, b], "greater").p for a, b in pairs])
    won = [a for (a, _), p in zip(pairs, adjusted, strict=True) if p < alpha]
    return [won.count(m) for m in range(n_methods)]
