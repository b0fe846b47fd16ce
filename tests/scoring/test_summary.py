"""Every mean says what it is made of."""

import math

import numpy as np
import pytest

from harness.errors import UserError
from harness.scoring import score
from harness.scoring.summary import summarise


def volume(*labels):
    """Eight voxels per label along axis 0, in a volume of 4 x 2 x 4."""
    array = np.zeros((4, 2, 4), np.uint8)
    for at, label in enumerate(labels):
        array[at] = label
    return array


def scored(case, prediction, reference, metrics=("dice", "hd95"), **settings):
    rows = score(prediction, reference, (1, 1, 1), {"a": [1], "b": [2]}, metrics, **settings)
    return [{"case_id": case, **row} for row in rows]


@pytest.fixture
def rows():
    return [
        *scored("1", volume(1, 2), volume(1, 2)),  # both perfect
        *scored("2", volume(1, 0), volume(1, 2)),  # b missed
        *scored("3", volume(0, 0), volume(0, 0)),  # nothing anywhere
        *scored("4", volume(1, 1), volume(1, 0)),  # a twice as large, b absent in both
        *scored("5", volume(1, 2), volume(1, 0), not_annotated=["b"]),  # nobody drew b
    ]


def test_counts_beside_every_mean(rows):
    summary = summarise(rows, "adopted", intervals=False)
    dice = summary.metrics["dice"]
    assert summary.n_cases == 5
    assert dice.averaging == "class_then_case"
    a, b = dice.per_class["a"], dice.per_class["b"]
    assert a.value == pytest.approx((1 + 1 + 2 / 3 + 1) / 4)
    assert (a.n, a.n_undefined, a.n_not_annotated) == (4, 1, 0)
    assert a.states == {"both": 4, "pred_empty": 0, "ref_empty": 0, "both_empty": 1}
    assert b.value == pytest.approx(1 / 2)
    assert (b.n, b.n_undefined, b.n_not_annotated) == (2, 2, 1)
    assert b.states == {"both": 1, "pred_empty": 1, "ref_empty": 0, "both_empty": 2}
    assert dice.per_case == {"1": 1.0, "2": 0.5, "4": pytest.approx(2 / 3), "5": 1.0}
    assert dice.overall.value == pytest.approx((1 + 0.5 + 2 / 3 + 1) / 4)
    assert (dice.overall.n, dice.overall.n_undefined, dice.overall.n_not_annotated) == (4, 1, 1)
    assert sum(dice.overall.states.values()) + dice.overall.n_not_annotated == 10


def test_averaging_changes_the_number(rows):
    by_case = summarise(rows, "adopted", "class_then_case", intervals=False).metrics["dice"].overall
    by_class = summarise(rows, "adopted", "case_then_class", intervals=False).metrics["dice"].overall
    pooled = summarise([row for row in rows if row["metric"] == "dice"], "adopted", "pooled", intervals=False)
    assert by_class.value == pytest.approx(((1 + 1 + 2 / 3 + 1) / 4 + 1 / 2) / 2)
    assert by_class.n == 2
    assert by_case.value != pytest.approx(by_class.value)
    overall = pooled.metrics["dice"].overall
    tp, fp, fn = 8 * 5, 8, 8
    assert overall.value == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert overall.n_not_annotated == 1
    assert pooled.metrics["dice"].per_class["b"].value == pytest.approx(2 * 8 / (2 * 8 + 8))


def test_policy_changes_the_number(rows):
    skipped = summarise(rows, "adopted", intervals=False).metrics["dice"].per_class["b"]
    counted = summarise(rows, "brats2023", intervals=False).metrics["dice"].per_class["b"]
    assert counted.value == pytest.approx((1 + 0 + 1 + 1) / 4)
    assert counted.n == skipped.n + skipped.n_undefined
    hd95 = summarise(rows, "adopted", intervals=False).metrics["hd95"].per_class["b"]
    assert hd95.value == pytest.approx((0 + math.sqrt(16 + 4 + 16)) / 2)


def test_nothing_defined_is_none_not_zero():
    summary = summarise(scored("1", volume(), volume()), "adopted")
    mean = summary.metrics["dice"].overall
    assert mean.value is None
    assert (mean.n, mean.n_undefined) == (0, 1)
    assert summary.metrics["dice"].interval is None
    pooled = summarise(scored("1", volume(), volume(), ["dice"]), "adopted", "pooled").metrics["dice"].overall
    assert (pooled.value, pooled.n, pooled.n_undefined) == (None, 0, 2)


def test_all_not_annotated():
    rows = scored("1", volume(1), volume(1), ["dice"], not_annotated=["a", "b"])
    for averaging in ("class_then_case", "case_then_class", "pooled"):
        mean = summarise(rows, "adopted", averaging).metrics["dice"].overall
        assert mean.value is None
        assert mean.n_not_annotated == 2


def test_interval_is_over_cases(rows):
    dice = summarise(rows, "adopted", seed=1).metrics["dice"]
    assert dice.interval.n == len(dice.per_case) == 4
    assert dice.interval.low <= dice.overall.value <= dice.interval.high
    assert dice.interval.seed == 1
    assert summarise(rows, "adopted", "case_then_class").metrics["dice"].interval is None


def test_the_order_of_cases_does_not_matter(rows):
    assert summarise(rows, intervals=False).metrics["dice"].overall == (
        summarise(rows[::-1], intervals=False).metrics["dice"].overall
    )


def test_rows_with_a_policy_are_not_filled_twice(rows):
    from harness.scoring.policies import apply_policy

    once = apply_policy(rows, "brats2023")
    assert summarise(once, "brats2023", intervals=False) == summarise(rows, "brats2023", intervals=False)
    with pytest.raises(UserError, match="already applied"):
        summarise(once, "adopted", intervals=False)


def test_missing_and_doubled_rows_are_errors(rows):
    with pytest.raises(UserError, match=r"Case '2' has no row for class 'b', metric 'hd95'"):
        summarise([row for row in rows if (row["case_id"], row["class"], row["metric"]) != ("2", "b", "hd95")])
    with pytest.raises(UserError, match="has two rows"):
        summarise([*rows, rows[0]])
    with pytest.raises(UserError, match="no 'case_id'"):
        summarise(score(volume(1), volume(1), (1, 1, 1), {"a": [1]}, ["dice"]))
    with pytest.raises(UserError, match="no rows"):
        summarise([])


def test_distances_cannot_be_pooled(rows):
    with pytest.raises(UserError, match="'hd95' cannot be pooled"):
        summarise(rows, "adopted", "pooled")


def test_infinity_is_never_averaged():
    rows = scored("1", volume(1), volume(0), ["relative_volume_error"])
    mean = summarise(rows, "adopted").metrics["relative_volume_error"].overall
    assert mean.value is None
    assert mean.n_undefined == 1
