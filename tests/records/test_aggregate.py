from __future__ import annotations

import itertools
import math

import pytest

from harness.errors import UserError
from harness.records.aggregate import aggregate, empty_rule, find_definition
from harness.records.cases import CaseRow
from harness.records.pretext import PRETEXT_METRICS, pretext_definition
from harness.scoring.catalogue import CARDS
from harness.scoring.definitions import definition
from harness.scoring.policies import apply_policy, known_policies

DICE = "dice.hard.native.v1"


def row(case, value, label=1, metric=DICE, reason=None, **counts):
    return CaseRow(case, label, f"class {label}", metric, value, reason, **counts)


METRICS = ["dice", "hd95", "nsd@2", "assd", "hd95_floor", "specificity", "volume_difference"]


@pytest.mark.parametrize(("policy", "metric"), list(itertools.product(known_policies(), METRICS)))
def test_the_stated_empty_rule_is_what_the_policy_does(policy, metric):
    stated = empty_rule(policy, definition(metric))
    for state, n_ref, n_pred in (("both_empty", 0, 0), ("pred_empty", 7, 0), ("ref_empty", 0, 7)):
        raw = {"class": "x", "metric": metric, "value": 0.125, "state": state, "n_ref": n_ref, "n_pred": n_pred}
        text = getattr(stated, state)
        try:
            (done,) = apply_policy([{**raw, "diagonal_mm": 33.0}], policy)
        except UserError:
            assert text == "as measured"  # the policy has no answer, so such a record cannot be made at all
            continue
        expected = {"skip": math.nan, "diagonal": 33.0, "as measured": 0.125, "smoothed": 1e-5 / (7 + 1e-5)}
        if text == "smoothed" and state == "both_empty":
            expected["smoothed"] = 1.0
        assert done["value"] == pytest.approx(expected[text] if text in expected else float(text), nan_ok=True)


def test_averaging_changes_the_value():
    rows = [row("a", 0.2), row("a", 0.4, 2), row("b", 0.6), row("b", None, 2, reason="absent_in_both")]
    by_case = aggregate(rows, policy="adopted")[0]
    assert by_case.value == pytest.approx((0.3 + 0.6) / 2)
    assert (by_case.n_cases, by_case.n_undefined, by_case.per_class["class 2"].n) == (2, 1, 1)
    by_class = aggregate(rows, policy="adopted", averaging={DICE: "case_then_class"})[0]
    assert by_class.value == pytest.approx((0.4 + 0.4) / 2)
    assert by_class.ci95 is None


def test_pooled_counts():
    rows = [row("a", 0.5, tp=1, fp=1, fn=1), row("b", 1.0, tp=10, fp=0, fn=0)]
    pooled = aggregate(rows, policy="adopted", averaging={DICE: "pooled"})[0]
    assert pooled.value == pytest.approx(22 / 24)


def test_what_nobody_drew_is_counted_apart():
    rows = [row("a", 0.5), row("b", None, reason="not_annotated")]
    metric = aggregate(rows, policy="adopted")[0]
    assert (metric.value, metric.n_cases, metric.n_undefined) == (0.5, 1, 0)
    assert metric.per_class["class 1"].n_not_annotated == 1
    assert metric.ci95 is None  # one case allows no interval


def test_a_failed_case_is_counted_and_never_skipped_silently():
    metric = aggregate([row("a", 0.5), row("b", None, reason="failed")], policy="adopted")[0]
    assert (metric.n_cases, metric.n_undefined) == (1, 1)


def test_equal_scores_have_a_constant_interval():
    metric = aggregate([row("a", 0.5), row("b", 0.5), row("c", 0.5)], policy="adopted")[0]
    assert metric.ci95 == (0.5, 0.5)
    assert metric.ci95_method.name == "constant"


def test_the_interval_follows_from_rows_and_seed():
    rows = [row(f"case {n}", 0.3 + 0.05 * n**1.1) for n in range(8)]
    first, again = aggregate(rows, policy="adopted")[0], aggregate(rows[::-1], policy="adopted")[0]
    assert first == again
    assert first.ci95 != aggregate(rows, policy="adopted", seed=1)[0].ci95
    assert first.ci95_method.draws == 9999


def test_nothing_defined_is_null_and_not_nan():
    metric = aggregate([row("a", None, reason="absent_in_both")], policy="adopted")[0]
    assert (metric.value, metric.n_cases, metric.ci95) == (None, 0, None)


def test_pretext_scores_go_the_same_way():
    rows = [row("held_out", 0.046, 0, "mse.restoration.v1"), row("held_out", 0.186, 0, "mse.restoration_identity.v1")]
    metrics = aggregate(rows, policy="adopted")
    assert [metric.value for metric in metrics] == [0.046, 0.186]
    assert (metrics[0].unit, metrics[0].higher_is_better, metrics[0].grid) == ("squared_intensity", False, "patch")
    assert pretext_definition("mse_identity").baseline_of == "mse"


def test_every_metric_can_be_found_by_the_id_that_records_use():
    for card in [*CARDS.values(), *PRETEXT_METRICS.values()]:
        assert find_definition(card.record_id).sha256 == card.sha256
    assert len({card.sha256 for card in PRETEXT_METRICS.values()}) == len(PRETEXT_METRICS)
    with pytest.raises(UserError, match=r"dice\.hard\.native\.v1"):
        find_definition("dice.hard.native.v9")


def test_a_metric_that_was_asked_for_must_have_rows():
    with pytest.raises(UserError, match="hd95"):
        aggregate([row("a", 0.5)], policy="adopted", order=[DICE, "hd95.native.v1"])
