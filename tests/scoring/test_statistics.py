"""Intervals and tests against SciPy's and statsmodels' known answers, and their edges."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.errors import UserError
from harness.scoring.statistics import (
    bca_interval,
    equivalent,
    holm,
    paired_difference,
    signed_rank,
    t_interval,
    two_level_interval,
)

SAMPLES = [
    "organ_n20",
    "organ_n80",
    "tumour_skewed_n60",
    "with_zeros_n40",
    "hd95_heavy_tail_n50",
    "tiny_n6",
    "constant_n10",
]
PAIRS = ["n12", "n40", "n40_no_effect", "n30_with_zero_differences"]


@pytest.mark.parametrize("name", SAMPLES)
def test_intervals_of_a_mean(name, statistics_answers):
    known = statistics_answers["single_sample"][name]
    found = bca_interval(known["values"])
    # The tolerance is four standard deviations of a run of 20,000 resamples; ours has 9,999 draws of its own.
    assert [found.low, found.high] == pytest.approx(known["bca_ci95"], abs=2.5 * known.get("bca_tolerance", 1e-12))
    assert found.value == pytest.approx(known["mean"], rel=1e-12)
    assert found.n == known["n"]
    parametric = t_interval(known["values"])
    assert [parametric.low, parametric.high] == pytest.approx(known["t_ci95"], rel=1e-9)


@pytest.mark.parametrize("name", PAIRS)
def test_paired_comparisons(name, statistics_answers):
    known = statistics_answers["paired"][name]
    found = paired_difference(known["a"], known["b"])
    assert found.interval.value == pytest.approx(known["mean_difference"], rel=1e-9)
    assert [found.interval.low, found.interval.high] == pytest.approx(
        known["bca_ci95"], abs=2.5 * known["bca_tolerance"]
    )
    assert found.test.p == pytest.approx(known["wilcoxon_pratt_two_sided_p"], rel=1e-9)
    assert found.test.statistic == known["statistic"]
    greater = signed_rank(np.subtract(known["b"], known["a"]), "greater")
    assert greater.p == pytest.approx(known["wilcoxon_pratt_greater_p"], rel=1e-9)
    assert found.n_better + found.n_worse + found.test.n_zero == len(known["a"])


def test_holm(statistics_answers):
    known = statistics_answers["holm"]
    assert holm(known["p"]) == pytest.approx(known["holm"], rel=1e-12)
    assert holm([]) == []
    assert holm([0.9, 0.9]) == [1.0, 1.0]


def test_the_same_seed_gives_the_same_interval():
    values = [0.1, 0.5, 0.4, 0.9, 0.3]
    assert bca_interval(values, seed=3) == bca_interval(values, seed=3)
    assert bca_interval(values, seed=3) != bca_interval(values, seed=4)
    assert bca_interval(values).n_resamples >= 9_999


@pytest.mark.parametrize("n", [2, 7, 100, 401])  # of 401 cases the draws are made in pieces
def test_the_interval_over_cases_is_that_of_scipy(n):
    rng = np.random.default_rng(n)
    for values in (rng.uniform(0.5, 1, n), rng.exponential(3, n)):
        found = bca_interval(values, seed=5)
        same = stats.bootstrap(
            (values,), np.mean, n_resamples=9_999, batch=2_000_000 // n, random_state=np.random.default_rng(5)
        ).confidence_interval
        assert [found.low, found.high] == pytest.approx([same.low, same.high], rel=1e-12)


def test_an_interval_that_cannot_be_known_is_none():
    found = bca_interval([0.0, 1e-200, 0.0, 0.0])
    assert [found.low, found.high] == pytest.approx([math.nan, math.nan], nan_ok=True)


def test_many_cases_need_little_memory():
    values = np.random.default_rng(0).normal(0.8, 0.1, 3_000)
    found = bca_interval(values)  # resampled in pieces: 9,999 x 3,000 numbers at once would be 240 MB
    assert found.low < values.mean() < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.1 / math.sqrt(3_000), rel=0.1)


def test_equal_values_and_single_cases():
    constant = bca_interval([0.1] * 7)
    assert (constant.low, constant.high, constant.method) == (0.1, 0.1, "constant")
    assert t_interval([0.1] * 7).method == "constant"
    single = bca_interval([0.7])
    assert math.isnan(single.low)
    assert single.value == 0.7
    assert math.isnan(t_interval([0.7]).high)
    assert two_level_interval([[0.5, 0.5], [0.5, 0.5]]).method == "constant"


@pytest.mark.parametrize("function", [bca_interval, t_interval, signed_rank])
@pytest.mark.parametrize("values", [[], [0.1, math.nan], [0.1, math.inf], [[0.1, 0.2]]])
def test_undefined_values_are_refused(function, values):
    with pytest.raises(UserError, match=r"need at least|nan or infinite"):
        function(values)


def test_pairs_need_the_same_cases():
    with pytest.raises(UserError, match="3 cases and the second 2"):
        paired_difference([1, 2, 3], [1, 2])


def test_signed_rank_without_any_difference():
    found = signed_rank([0.0, 0.0, 0.0])
    assert (found.p, found.n_zero) == (1.0, 3)


def test_signed_rank_is_exact_for_six_cases():
    # Six positive differences: 2 of the 64 equally likely sign patterns are as extreme.
    assert signed_rank([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).p == pytest.approx(2 / 64, rel=1e-12)


def test_two_level_interval_sees_both_levels():
    rng = np.random.default_rng(1)
    cases, seeds = rng.normal(0, 0.05, 40), rng.normal(0, 0.03, 6)
    table = 0.8 + seeds[:, None] + cases[None, :]
    both = two_level_interval(table)
    cases_only = two_level_interval(table.mean(axis=0, keepdims=True))
    expected = 1.96 * math.sqrt(np.var(seeds) / 6 + np.var(cases) / 40)
    assert both.high - both.value == pytest.approx(expected, rel=0.1)
    assert cases_only.high - cases_only.low < both.high - both.low
    assert both == two_level_interval(table)
    assert both.n == 40


def test_seeds_are_not_pooled_as_cases():
    # The same 12 cases scored under 50 seeds are 12 cases, not 600.
    cases = np.random.default_rng(2).normal(0.8, 0.1, 12)
    many = two_level_interval(np.tile(cases, (50, 1)))
    one = two_level_interval(cases[None, :])
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.05)


def test_equivalence():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.001, 0.004, 40)
    found = equivalent(differences, 0.01)
    # The definition, written out: both one-sided t tests against the margins.
    from scipy.stats import ttest_1samp

    lower = ttest_1samp(differences, -0.01, alternative="greater").pvalue
    upper = ttest_1samp(differences, 0.01, alternative="less").pvalue
    assert found.p_above_lower == pytest.approx(lower, rel=1e-9)
    assert found.p_below_upper == pytest.approx(upper, rel=1e-9)
    assert found.p == max(found.p_above_lower, found.p_below_upper) < 0.05
    assert equivalent(differences + 0.02, 0.01).p > 0.9


def test_equivalence_without_spread_and_with_bad_margins():
    assert equivalent([0.001] * 5, 0.01).p == 0.0
    assert equivalent([0.02] * 5, 0.01).p == 1.0
    assert equivalent([0.01] * 5, 0.01).p == 1.0
    for margin in (0, -1, math.nan):
        with pytest.raises(UserError, match="margin"):
            equivalent([0.1, 0.2], margin)
    with pytest.raises(UserError, match="at least 2"):
        equivalent([0.1], 0.01)
