"""Values from counts and distances small enough to check by hand."""

import math

import numpy as np
import pytest

from harness.errors import UserError
from harness.scoring import score
from harness.scoring.definitions import definition
from harness.scoring.facts import Directed, Facts
from harness.scoring.formulas import from_counts, value

COUNTS = Facts(tp=6, fp=2, fn=4, tn=88, voxel_mm3=500.0)


@pytest.mark.parametrize(
    ("metric", "answer"),
    [
        ("dice", 12 / 18),
        ("iou", 6 / 12),
        ("precision", 6 / 8),
        ("recall", 6 / 10),
        ("specificity", 88 / 90),
        ("volume_difference", 1.0),  # 2 voxels of 500 mm^3 are 1 ml
        ("volume_difference_voxels", 2.0),
        ("relative_volume_error", 0.2),
    ],
)
def test_values_from_counts(metric, answer):
    assert value(definition(metric), COUNTS) == pytest.approx(answer, rel=1e-15)


@pytest.mark.parametrize(
    ("metric", "both_empty", "pred_empty", "ref_empty"),
    [
        ("dice", math.nan, 0, 0),
        ("iou", math.nan, 0, 0),
        ("precision", math.nan, 0, 0),
        ("recall", math.nan, 0, 0),
        ("specificity", 1, 1, 0.9),
        ("volume_difference", 0, 0.01, 0.01),
        ("volume_difference_voxels", 0, 10, 10),
        ("relative_volume_error", math.nan, 1, math.inf),
        ("hd", math.nan, math.inf, math.inf),
        ("hd95", math.nan, math.inf, math.inf),
        ("hd95_pooled", math.nan, math.inf, math.inf),
        ("hd95_floor", math.nan, math.inf, math.inf),
        ("hd95_surfel", math.nan, math.inf, math.inf),
        ("hd_surfel", math.nan, math.inf, math.inf),
        ("assd", math.nan, math.inf, math.inf),
        ("masd", math.nan, math.inf, math.inf),
        ("nsd@1", math.nan, 0, 0),
        ("nsd_surfel@1", math.nan, 0, 0),
    ],
)
def test_raw_values_of_empty_masks(metric, both_empty, pred_empty, ref_empty):
    nothing, block = np.zeros((4, 5, 5), np.uint8), np.zeros((4, 5, 5), np.uint8)
    block[1:3, :1, :] = 1
    for pair, answer in (
        ((nothing, nothing), both_empty),
        ((nothing, block), pred_empty),
        ((block, nothing), ref_empty),
    ):
        (row,) = score(*pair, (1, 1, 1), {"a": [1]}, [metric])
        assert row["value"] == pytest.approx(answer, nan_ok=True)


def test_specificity_of_a_reference_that_fills_the_array():
    (row,) = score(np.ones((2, 2, 2), int), np.ones((2, 2, 2), int), (1, 1, 1), {"a": [1]}, ["specificity"])
    assert math.isnan(row["value"])


def over(prediction, reference, areas=None):
    ones = None if areas is None else np.asarray(areas, float)
    surface = Directed(np.asarray(prediction, float), np.asarray(reference, float), ones, ones)
    return Facts(tp=1, fp=1, fn=1, tn=1, voxel_mm3=1.0, voxel_surface=surface, surfel_surface=surface)


def test_three_percentile_rules_differ():
    facts = over(range(20), [0.0] * 20)
    assert value(definition("hd95"), facts) == pytest.approx(18.05)
    assert value(definition("hd95_pooled"), facts) == pytest.approx(np.percentile([*range(20), *[0] * 20], 95))
    assert value(definition("hd95_floor"), facts) == 19
    assert value(definition("hd"), facts) == 19
    assert value(definition("assd"), facts) == pytest.approx(190 / 40)
    uneven = over([3.0], [1.0, 1.0, 1.0])
    assert value(definition("assd"), uneven) == pytest.approx(1.5)
    assert value(definition("masd"), uneven) == pytest.approx(2.0)


def test_the_weighted_percentile_is_the_first_element_to_reach_95_percent():
    facts = over(range(20), [0.0] * 20, areas=[1.0] * 20)
    assert value(definition("hd95_surfel"), facts) == 18  # 19 of 20 equal areas are exactly 95 %
    heavy = over([5.0, 1.0], [0.0, 0.0], areas=[0.04, 0.96])
    assert value(definition("hd95_surfel"), heavy) == 1
    assert value(definition("hd_surfel"), heavy) == 5
    assert value(definition("nsd_surfel@2"), heavy) == pytest.approx((0.96 + 1.0) / 2)
    assert value(definition("nsd@2"), heavy) == pytest.approx(3 / 4)


def test_tolerance_is_inclusive():
    facts = over([1.0, 2.0], [2.0, 2.0], areas=[1.0, 1.0])
    for family in ("nsd", "nsd_surfel"):
        assert value(definition(f"{family}@2"), facts) == 1.0
        assert value(definition(f"{family}@1"), facts) == 0.25
        assert value(definition(f"{family}@1.9999"), facts) == 0.25


def test_only_functions_of_counts_can_be_pooled():
    assert from_counts(definition("dice"), COUNTS) == pytest.approx(12 / 18)
    for metric in ("hd95", "specificity", "volume_difference", "nsd@1", "lesion_f1.atlas2"):
        with pytest.raises(UserError, match="cannot be pooled"):
            from_counts(definition(metric), COUNTS)
