"""Ranks, their stability, and ties."""

import numpy as np
import pytest

from harness.errors import UserError
from harness.scoring.ranking import mean_then_rank, rank_methods, rank_then_mean, tiers


def test_known_ranking(statistics_answers):
    known = statistics_answers["ranking"]
    scores = np.array(known["scores_case_by_method"])
    assert mean_then_rank(scores).tolist() == known["mean_then_rank"]
    ranks, means = rank_then_mean(scores)
    assert ranks.tolist() == known["rank_then_mean"]
    assert means == pytest.approx(known["mean_of_ranks"], rel=1e-12)
    methods = {f"m{m}": scores[:, m].tolist() for m in range(5)}
    entries = {entry.method: entry for entry in rank_methods(methods)}
    assert entries["m3"].rank == 1
    assert entries["m3"].tier == 1
    assert entries["m3"].n_beaten == 4
    assert (entries["m3"].low, entries["m3"].high) == (1, 1)
    assert entries["m0"].low <= entries["m0"].rank <= entries["m0"].high
    assert rank_methods(methods) == rank_methods(methods)


def test_equal_methods_share_their_places():
    assert mean_then_rank([[0.5, 0.5, 0.9], [0.7, 0.7, 0.1]]).tolist() == [1.5, 1.5, 3.0]


def test_direction():
    scores = {"near": [1.0, 2.0, 1.5, 1.2], "far": [10.0, 12.0, 9.0, 11.0]}
    ranks = {entry.method: entry.rank for entry in rank_methods(scores, higher_is_better=False)}
    assert ranks == {"near": 1.0, "far": 2.0}
    assert next(entry.mean for entry in rank_methods(scores, higher_is_better=False)) == pytest.approx(10.5)


def test_inseparable_methods_share_a_tier_and_are_sorted_by_name():
    rng = np.random.default_rng(0)
    base = rng.normal(0.8, 0.05, 30)
    scores = {
        "zeta": base + rng.normal(0.0005, 0.01, 30),
        "alpha": base + rng.normal(0, 0.01, 30),
        "worse": base - 0.1 + rng.normal(0, 0.01, 30),
    }
    entries = rank_methods(scores)
    assert [(entry.method, entry.tier) for entry in entries] == [("alpha", 1), ("zeta", 1), ("worse", 2)]
    assert entries[2].n_beaten == 0
    assert {entries[0].n_beaten, entries[1].n_beaten} == {1}


def test_tier_leader_rule_for_tests_that_are_not_transitive():
    # a > c is significant, a ~ b and b ~ c are not: b joins the leader, c opens the next tier.
    steps = np.linspace(0.9, 1.1, 30)
    noise = np.where(np.arange(30) % 2 == 0, 1.0, -1.0) * np.linspace(1, 2, 30)
    a, b, c = np.zeros(30), -0.2 * steps + noise, -0.5 * steps
    assert tiers(np.stack([a, b, c], axis=1)) == [1, 1, 2]


def test_few_cases_separate_nothing():
    scores = {"a": [0.9, 0.91, 0.92], "b": [0.5, 0.51, 0.52]}
    assert {entry.tier for entry in rank_methods(scores)} == {1}


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ({"a": [1, 2], "b": [1]}, "same cases"),
        ({"a": [], "b": []}, "same cases"),
        ({}, "same cases"),
        ({"a": [1, float("nan")], "b": [1, 2]}, "nan or infinite"),
    ],
)
def test_bad_tables_are_refused(scores, says):
    with pytest.raises(UserError, match=says):
        rank_methods(scores)
