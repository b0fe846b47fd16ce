"""Empty masks under every policy, and the benchmarks' own answers where the known answers have them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from harness.errors import UserError
from harness.scoring import score
from harness.scoring.policies import apply_policy, known_policies, policy

BLOCK = np.zeros((4, 6, 8), np.uint8)
BLOCK[1:3, 1:3, 1:3] = 1
NOTHING = np.zeros_like(BLOCK)
SPACING = (3.0, 1.0, 0.5)
DIAGONAL = math.sqrt(12**2 + 6**2 + 4**2)
PAIRS = {
    "both_empty": (NOTHING, NOTHING),
    "pred_empty": (NOTHING, BLOCK),
    "ref_empty": (BLOCK, NOTHING),
    "both": (BLOCK, BLOCK),
}
SMOOTHED = 1e-5 / (8 + 1e-5)


def applied(state, policy_id, metric):
    rows = score(*PAIRS[state], SPACING, {"a": [1]}, [metric])
    (row,) = apply_policy(rows, policy_id)
    assert row["policy"] == policy_id
    return row


@pytest.mark.parametrize(
    ("policy_id", "metric", "both_empty", "pred_empty", "ref_empty"),
    [
        ("adopted", "dice", math.nan, 0, 0),
        ("adopted", "nsd_surfel@1", math.nan, 0, 0),
        ("adopted", "precision", math.nan, 0, 0),
        ("adopted", "hd95", math.nan, DIAGONAL, DIAGONAL),
        ("adopted", "assd", math.nan, DIAGONAL, DIAGONAL),
        ("adopted", "volume_difference_voxels", 0, 8, 8),
        ("adopted", "relative_volume_error", math.nan, 1, math.nan),
        ("adopted", "lesion_f1.atlas2", 1, 0, 0),
        ("monai_ignore_empty", "dice", math.nan, 0, math.nan),
        ("monai_ignore_empty", "hd95", math.nan, math.nan, math.nan),
        ("monai_count_empty", "iou", 1, 0, 0),
        ("nnunet", "dice", math.nan, 0, 0),
        ("pymic", "dice", 1, SMOOTHED, SMOOTHED),
        ("pymic", "hd95_floor", 0, 50, 50),
        ("pymic", "assd", 0, 20, 20),
        ("synapse8", "dice", 0, 0, 1),
        ("synapse8", "hd95_pooled", 0, 0, 0),
        ("brats2021", "dice", 1, 0, 0),
        ("brats2021", "hd95", 0, 373.12866, 373.12866),
        ("brats2023", "dice", 1, 0, 0),
        ("brats2023", "hd95_surfel", 0, 374, 374),
        ("brats2024", "dice", math.nan, 0, 0),
        ("brats2024", "hd95_pooled", math.nan, 373, 373),
        ("atlas2", "dice", 1, 0, 0),
        ("isles22", "dice", 1, 0, 0),
    ],
)
def test_empty_masks(policy_id, metric, both_empty, pred_empty, ref_empty):
    for state, answer in (("both_empty", both_empty), ("pred_empty", pred_empty), ("ref_empty", ref_empty)):
        row = applied(state, policy_id, metric)
        assert row["value"] == pytest.approx(answer, rel=1e-7, nan_ok=True), state


@pytest.mark.parametrize("policy_id", known_policies())
def test_measured_values_stay(policy_id):
    for metric in ("dice", "hd95", "assd", "nsd@1", "volume_difference"):
        row = applied("both", policy_id, metric)
        assert row["value"] == row["raw"]
        assert row["reason"] is None


@pytest.mark.parametrize("policy_id", known_policies())
def test_cards_are_plain(policy_id):
    assert json.loads(json.dumps(policy(policy_id).card(), allow_nan=False))["id"] == policy_id


def test_caps_hold_for_measured_distances():
    far = np.zeros((4, 6, 200), np.uint8)
    far[0, 0, 0], other = 1, np.zeros_like(far)
    other[0, 0, 199] = 1
    rows = score(far, other, (1, 1, 1), {"a": [1]}, ["hd95_floor", "assd", "hd95"])
    assert [row["value"] for row in apply_policy(rows, "pymic")] == [50, 20, 199]


def test_reasons_and_raw_values_are_kept():
    row = applied("pred_empty", "adopted", "hd95")
    assert row["raw"] == math.inf
    assert row["reason"] == "absent_in_prediction"
    assert applied("ref_empty", "adopted", "dice")["reason"] == "absent_in_reference"
    assert applied("both_empty", "adopted", "dice")["reason"] == "absent_in_both"


@pytest.mark.parametrize("policy_id", ["nnunet", "atlas2", "isles22", "monai_count_empty"])
def test_a_policy_without_an_answer_says_so(policy_id):
    with pytest.raises(UserError, match="does not say what that costs"):
        applied("pred_empty", policy_id, "hd95")


def test_policies_are_applied_once():
    rows = apply_policy(score(*PAIRS["both"], SPACING, {"a": [1]}, ["dice"]), "adopted")
    with pytest.raises(UserError, match="'adopted' was already applied"):
        apply_policy(rows, "brats2023")


def test_unknown_policy_gets_a_suggestion():
    with pytest.raises(UserError, match="Did you mean 'adopted'"):
        apply_policy([], "adoptd")


def test_monai_and_nnunet_answers(volumes):
    cases = json.loads((Path(__file__).parent / "data/expected.json").read_text(encoding="utf-8"))["cases"]
    ids = {
        ("monai", "dice_ignore_empty"): ("monai_ignore_empty", "dice"),
        ("monai", "dice_no_ignore"): ("monai_count_empty", "dice"),
        ("monai", "iou_ignore_empty"): ("monai_ignore_empty", "iou"),
        ("monai", "iou_no_ignore"): ("monai_count_empty", "iou"),
        ("nnunetv2", "dice"): ("nnunet", "dice"),
        ("pymic", "score_hd95"): ("pymic", "hd95_floor"),
        ("pymic", "score_assd"): ("pymic", "assd"),
    }
    compared = 0
    for case, entry in cases.items():
        metrics = ["dice", "iou", "hd95_floor", "assd"]
        rows = score(
            volumes[f"{case}_pred"], volumes[f"{case}_ref"], volumes[f"{case}_spacing"], entry["classes"], metrics
        )
        for (tool, key), (policy_id, metric) in ids.items():
            for row in apply_policy([row for row in rows if row["metric"] == metric], policy_id):
                answer = entry["tools"][row["class"]].get(tool, {}).get(key)
                if answer is not None:
                    assert row["value"] == pytest.approx(float(answer), rel=1e-5, nan_ok=True), (case, tool, key)
                    compared += 1
    assert compared > 400
