"""The statistics of the scoring room in one place: intervals, comparisons and rankings, each in a file of its own."""

from __future__ import annotations

from harness.scoring.comparisons import (
    Equivalence,
    Paired,
    SignedRank,
    equivalent,
    holm,
    paired_difference,
    signed_rank,
)
from harness.scoring.intervals import Interval, bca_interval, t_interval, two_level_interval
from harness.scoring.ranking import Ranking, mean_then_rank, rank_methods, rank_then_mean, tiers

__all__ = [
    "Equivalence",
    "Interval",
    "Paired",
    "Ranking",
    "SignedRank",
    "bca_interval",
    "equivalent",
    "holm",
    "mean_then_rank",
    "paired_difference",
    "rank_methods",
    "rank_then_mean",
    "signed_rank",
    "t_interval",
    "tiers",
    "two_level_interval",
]
