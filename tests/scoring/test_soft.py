"""Soft metrics from sums equal those from the probabilities, however the sums were gathered and stored."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.errors import UserError
from harness.scoring.soft import THRESHOLDS, SoftStatistics, auc, score_soft, soft_value, sufficient_statistics
from harness.scoring.summary import summarise

PROBABILITIES = hnp.arrays(np.float32, (4, 5), elements=st.floats(0, 1, width=32))
MASKS = hnp.arrays(np.bool_, (4, 5))


def two_class_iou(p, y):
    """Models Genesis' mean over ten thresholds, written from its description."""
    values = []
    for t in np.arange(0.5, 1.0, 0.05):
        guess = p > np.float32(t)
        both = [(guess & y, guess | y), (~guess & ~y, ~guess | ~y)]
        values.append(np.mean([shared.sum() / whole.sum() for shared, whole in both if whole.any()]))
    return np.mean(values)


@settings(deadline=None, max_examples=80)
@given(PROBABILITIES, MASKS)
def test_values_equal_their_definitions(p, y):
    s = sufficient_statistics(p, y)
    d = p.astype(np.float64)
    assert s.sum_pp == pytest.approx((d * d).sum(), rel=1e-12)
    assert soft_value("iou_genesis", s) == pytest.approx(two_class_iou(p, y), rel=1e-12)
    above = p > 0.5
    union = (above | y).sum()
    assert soft_value("iou_fg_pooled", s) == pytest.approx(
        (above & y).sum() / union if union else math.nan, nan_ok=True
    )
    if y.any():
        assert soft_value("soft_dice", s) == pytest.approx(2 * (d * y).sum() / (d.sum() + y.sum()), rel=1e-12)
        any_p = p > 0
        assert soft_value("dice_any_p", s) == pytest.approx(2 * (any_p & y).sum() / (any_p.sum() + y.sum()))
    else:
        assert math.isnan(soft_value("soft_dice", s))
        assert math.isnan(soft_value("dice_any_p", s))


@settings(deadline=None, max_examples=40)
@given(PROBABILITIES, MASKS, st.integers(0, 4))
def test_blocks_add_up(p, y, cut):
    whole = sufficient_statistics(p, y)
    parts = sufficient_statistics(p[:cut], y[:cut]) + sufficient_statistics(p[cut:], y[cut:])
    assert parts.n_above == whole.n_above
    assert parts.n_above_y == whole.n_above_y
    assert (parts.n, parts.sum_y, parts.n_positive, parts.n_positive_y) == (
        whole.n,
        whole.sum_y,
        whole.n_positive,
        whole.n_positive_y,
    )
    assert parts.sum_py == pytest.approx(whole.sum_py, rel=1e-12)


def test_soft_dice_is_not_hard_dice():
    p = np.array([0.9, 0.6, 0.4, 0.1], np.float32)
    y = np.array([1, 1, 0, 0])
    s = sufficient_statistics(p, y)
    assert soft_value("soft_dice", s) == pytest.approx(2 * 1.5 / (2.0 + 2), rel=1e-6)
    assert soft_value("dice_any_p", s) == pytest.approx(4 / 6)
    assert s.n_above_y[0] == 2


def test_thresholds_are_strict_and_in_the_precision_of_p():
    p = np.array(THRESHOLDS, np.float32)
    s = sufficient_statistics(p, np.ones(10, int))
    assert s.n_above == tuple(range(9, -1, -1))


def test_json_round_trip():
    rng = np.random.default_rng(0)
    s = sufficient_statistics(rng.random((3, 4, 5)), rng.random((3, 4, 5)) > 0.5)
    stored = json.loads(json.dumps(s.to_json(), allow_nan=False))
    assert SoftStatistics.from_json(stored) == s
    for wrong in (
        {**stored, "thresholds": [0.5]},
        {k: v for k, v in stored.items() if k != "sum_pp"},
        {**stored, "x": 1},
    ):
        with pytest.raises(UserError, match="another release"):
            SoftStatistics.from_json(wrong)


@pytest.mark.parametrize(
    ("p", "y", "says"),
    [
        (np.array([0.5, 1.5]), [0, 1], "between 0 and 1"),
        (np.array([0.5, -0.1]), [0, 1], "between 0 and 1"),
        (np.array([0.5, np.nan]), [0, 1], "between 0 and 1"),
        (np.array([1, 0]), [0, 1], "floats"),
        (np.array([0.5, 0.5]), [0, 2], "mask of 0 and 1"),
        (np.array([0.5, 0.5]), [0.0, 1.0], "mask of 0 and 1"),
        (np.array([0.5, 0.5]), [0, 1, 1], "same"),
    ],
)
def test_bad_probabilities_are_refused(p, y, says):
    with pytest.raises(UserError, match=says):
        sufficient_statistics(p, y)


def test_rows_and_states():
    one, zero = np.ones(4), np.zeros(4)
    regions = {
        "both": sufficient_statistics(one * 0.3, one.astype(int)),
        "pred_empty": sufficient_statistics(zero, one.astype(int)),
        "ref_empty": sufficient_statistics(one * 0.7, zero.astype(int)),
        "both_empty": sufficient_statistics(zero, zero.astype(int)),
    }
    rows = score_soft(regions, ["soft_dice"])
    assert [row["state"] for row in rows] == [row["class"] for row in rows]
    assert rows[0]["value"] == pytest.approx(2 * 1.2 / (1.2 + 4))
    assert (rows[0]["tp"], rows[0]["fn"]) == (0, 4)  # counts are those of p > 0.5
    assert rows[1]["value"] == 0
    assert math.isnan(rows[2]["value"])


def test_pooled_iou_adds_up_sums_before_the_formula():
    rng = np.random.default_rng(1)
    rows, all_p, all_y = [], [], []
    for case, size in (("a", 50), ("b", 500), ("c", 20)):
        p, y = rng.random(size).astype(np.float32), rng.random(size) > 0.6
        all_p.append(p)
        all_y.append(y)
        found = score_soft({"nodule": sufficient_statistics(p, y)}, ["iou_genesis", "iou_fg_pooled", "soft_dice"])
        rows += [{"case_id": case, **row} for row in found]
    summary = summarise(rows, "monai_ignore_empty", intervals=False)
    p, y = np.concatenate(all_p), np.concatenate(all_y)
    assert summary.metrics["iou_genesis"].overall.value == pytest.approx(two_class_iou(p, y), rel=1e-12)
    above = p > 0.5
    pooled = summary.metrics["iou_fg_pooled"]
    assert pooled.overall.value == pytest.approx((above & y).sum() / (above | y).sum())
    assert pooled.averaging == "pooled"
    assert pooled.overall.n == 3
    assert summary.metrics["soft_dice"].averaging == "case_then_class"


def test_hard_metrics_are_pointed_to_score():
    s = sufficient_statistics(np.zeros(3), np.zeros(3, int))
    with pytest.raises(UserError, match=r"score\(\)"):
        soft_value("dice", s)
    with pytest.raises(UserError, match="Did you mean 'soft_dice'"):
        soft_value("softdice", s)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30))
def test_auc_counts_pairs(cases):
    scores, labels = [score for score, _ in cases], [label for _, label in cases]
    positive = [s for s, label in cases if label]
    negative = [s for s, label in cases if not label]
    if not (positive and negative):
        assert math.isnan(auc(scores, labels))
        return
    wins = sum((a > b) + (a == b) / 2 for a in positive for b in negative)
    assert auc(scores, labels) == pytest.approx(wins / (len(positive) * len(negative)), rel=1e-12)


@pytest.mark.parametrize(
    ("scores", "labels", "says"),
    [([0.1, 0.2], [0], "one label per case"), ([0.1, math.nan], [0, 1], "finite"), ([0.1, 0.2], [1, 2], "0 or 1")],
)
def test_bad_auc_input_is_refused(scores, labels, says):
    with pytest.raises(UserError, match=says):
        auc(scores, labels)
