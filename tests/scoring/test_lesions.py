"""Lesion-wise rules against the challenges' own scripts, and the cases that tell the rules apart."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from harness.scoring import score
from harness.scoring.policies import apply_policy

EXPECTED = json.loads((Path(__file__).parent / "data/expected.json").read_text(encoding="utf-8"))["cases"]
LESION_CASES = [case for case, entry in EXPECTED.items() if "lesion" in entry]
BRATS_REGIONS = {"WT": [1, 2, 3], "TC": [1, 3], "ET": [3]}


def scored(volumes, case, classes, metrics, as_et=False):
    prediction, reference = volumes[f"{case}_pred"], volumes[f"{case}_ref"]
    if as_et:
        prediction, reference = prediction * np.uint8(3), reference * np.uint8(3)
    rows = score(prediction, reference, volumes[f"{case}_spacing"], classes, metrics)
    return rows, {(row["class"], row["metric"]): row["value"] for row in rows}


@pytest.mark.parametrize("case", LESION_CASES)
def test_lesion_rules(case, expected, volumes):
    ids = {
        ("atlas2", "volume_difference_voxels"): "volume_difference_voxels",
        ("atlas2", "simple_lesion_count_difference"): "lesion_count_difference.atlas2",
        ("atlas2", "lesion_f1"): "lesion_f1.atlas2",
        ("isles22", "lesion_count_difference"): "lesion_count_difference.isles22",
        ("isles22", "lesion_f1"): "lesion_f1.isles22",
        ("monai", "per_component_dice"): "lesion_dice.monai-component",
        **{
            ("panoptica_cc_iou0.5", key): f"lesion_{key}.panoptic-iou50" for key in ("tp", "fp", "fn", "rq", "sq", "pq")
        },
        ("panoptica_cc_iou0.5", "sq_dsc"): "lesion_dice.panoptic-iou50",
    }
    _, found = scored(volumes, case, expected[case]["classes"], sorted(set(ids.values())))
    compared = 0
    for name, tools in expected[case]["lesion"].items():
        for (tool, key), metric in ids.items():
            if key in tools.get(tool, {}):
                rel = 1e-5 if tool == "monai" else 1e-9
                answer = float(tools[tool][key])
                assert found[name, metric] == pytest.approx(answer, rel=rel, nan_ok=True), (name, metric)
                compared += 1
    assert compared >= 5


@pytest.mark.parametrize("task", ["gli", "men", "met"])
@pytest.mark.parametrize("case", LESION_CASES)
def test_brats_2023(case, task, expected, volumes):
    entry = expected[case]
    as_et = "brats2023" not in entry
    answers = entry["brats2023_as_ET" if as_et else "brats2023"][f"BraTS-{task.upper()}"]
    rule = f"brats2023-{task}"
    ids = {
        "Num_TP": f"lesion_tp.{rule}",
        "Num_FP": f"lesion_fp.{rule}",
        "Num_FN": f"lesion_fn.{rule}",
        "LesionWise_Score_Dice": f"lesion_dice.{rule}",
        "LesionWise_Score_HD95": f"lesion_hd95.{rule}",
        "Sensitivity": "recall",
        "Specificity": "specificity",
        "Legacy_Dice": "dice",
        "Legacy_HD95": "hd95_surfel",
    }
    rows, _ = scored(volumes, case, BRATS_REGIONS, sorted(ids.values()), as_et)
    found = {(row["class"], row["metric"]): row["value"] for row in apply_policy(rows, "brats2023")}
    for region, values in answers.items():
        for key, metric in ids.items():
            assert found[region, metric] == pytest.approx(float(values[key]), rel=1e-9), (region, key)


@pytest.mark.parametrize("case", [case for case in LESION_CASES if "brats_evaluation_gli" in EXPECTED[case]])
def test_brats_2024(case, expected, volumes):
    answers = expected[case]["brats_evaluation_gli"]
    ids = {f"all_instance_{key}": f"lesion_{key}.brats2024" for key in ("tp", "fp", "fn", "f1")}
    ids |= {"all_instance_prec": "lesion_precision.brats2024", "all_instance_rec": "lesion_recall.brats2024"}
    ids |= {f"lesionwise_{key}_mean": f"lesion_{key}.brats2024" for key in ("nsd", "hd95")}
    ids |= {"lesionwise_dsc_mean": "lesion_dice.brats2024", "global_dsc": "dice", "global_hd95": "hd95_pooled"}
    rows, _ = scored(volumes, case, BRATS_REGIONS, sorted(ids.values()))
    found = {(row["class"], row["metric"]): row for row in apply_policy(rows, "brats2024")}
    for region in BRATS_REGIONS:
        for key, metric in ids.items():
            row = found[region, metric]
            value = row["raw"] if key.startswith(("lesionwise", "all_instance")) else row["value"]
            answer = float(answers[f"{key}_{region.lower()}"])
            assert value == pytest.approx(answer, rel=1e-9, nan_ok=True), (region, key)


def lesions(*boxes):
    """A mask of boxes, each given as (start, stop) per axis."""
    mask = np.zeros((20, 20, 20), np.uint8)
    for box in boxes:
        mask[tuple(slice(*edge) for edge in box)] = 1
    return mask


def one(prediction, reference, metric, spacing=(1, 1, 1)):
    (row,) = score(prediction, reference, spacing, {"a": [1]}, [metric])
    return row["value"]


@pytest.mark.parametrize(
    ("contact", "six", "twenty_six"),
    [((2, 2, 4), 1, 1), ((2, 4, 4), 2, 1), ((4, 4, 4), 2, 1), ((2, 2, 5), 2, 2)],
    ids=["face", "edge", "corner", "apart"],
)
def test_what_joins_components(contact, six, twenty_six):
    touching = lesions([(2, 4)] * 3, [(c, c + 2) for c in contact])
    nothing = np.zeros_like(touching)
    assert one(touching, nothing, "lesion_fp.atlas2") == six
    assert one(touching, nothing, "lesion_fp.isles22") == twenty_six


def test_brats_2024_matches_pairs_that_barely_overlap():
    # One voxel of 1000 shared: Dice 0.001, far below any IoU rule and above 1e-6.
    prediction, reference = lesions([(0, 10)] * 3), lesions([(9, 19)] * 3)
    assert one(prediction, reference, "lesion_tp.brats2024") == 1
    assert one(prediction, reference, "lesion_dice.brats2024") == pytest.approx(1 / 1000)
    assert one(prediction, reference, "lesion_tp.panoptic-iou50") == 0


def test_one_to_one_matching_takes_the_best_sum():
    # The prediction's first part overlaps both lesions; giving it to the second leaves a partner for the first.
    reference = lesions([(0, 4), (0, 4), (0, 10)], [(0, 4), (0, 4), (11, 20)])
    prediction = lesions([(0, 1), (0, 4), (0, 3)], [(2, 4), (0, 4), (5, 18)])
    assert one(prediction, reference, "lesion_tp.brats2024") == 2


def test_volumes_are_in_mm3_not_voxels():
    reference, nothing = lesions([(2, 5)] * 3), np.zeros((20, 20, 20), np.uint8)
    # 27 voxels: below 50 mm^3 at 1 mm, above at 2 mm.
    assert one(nothing, reference, "lesion_fn.brats2023-gli") == 0
    assert one(nothing, reference, "lesion_fn.brats2023-gli", (2, 2, 2)) == 1
    assert one(nothing, reference, "lesion_fn.brats2023-met") == 1


@pytest.mark.parametrize("rule", ["gli", "men"])
def test_dilation_at_the_wall_of_the_array(rule):
    # Lesions on the border, three voxels apart: joined by three steps of dilation, not by one.
    reference = lesions([(0, 4), (0, 4), (0, 4)], [(0, 4), (0, 4), (7, 11)])
    assert one(reference, reference, f"lesion_tp.brats2023-{rule}") == (1 if rule == "gli" else 2)
    assert one(reference, reference, f"lesion_dice.brats2023-{rule}") == 1


def test_voronoi_cells_share_out_a_bridging_prediction():
    # A prediction covers both lesions and the gap: each cell sees its own half of the gap.
    reference = lesions([(0, 2), (0, 2), (0, 4)], [(0, 2), (0, 2), (6, 10)])
    prediction = lesions([(0, 2), (0, 2), (0, 10)])
    assert one(prediction, reference, "lesion_dice.monai-component") == pytest.approx(2 * 16 / (16 + 20))
    assert math.isnan(one(prediction, prediction * 0, "lesion_dice.monai-component"))
