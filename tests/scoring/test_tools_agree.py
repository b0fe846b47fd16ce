"""The named definitions against what the tools themselves returned for the same masks."""

import json
from pathlib import Path

import pytest

from harness.scoring import score

CASES = json.loads((Path(__file__).parent / "data/expected.json").read_text(encoding="utf-8"))["cases"]
TAUS = ("0.5", "1", "2")
# tool -> the tool's name for a number -> our definition; masks that are not empty, so no policy is involved.
SAME = {
    "monai": {"hd": "hd", "hd95": "hd95", "assd": "assd"}
    | {f"nsd_voxel@{tau}": f"nsd@{tau}" for tau in TAUS}
    | {f"nsd_subvoxel@{tau}": f"nsd_surfel@{tau}" for tau in TAUS},
    "medpy": {"dice": "dice", "jaccard": "iou", "hd": "hd", "hd95": "hd95_pooled", "assd": "assd"},
    "metrics_reloaded": {"dsc": "dice", "iou": "iou", "hd": "hd", "hd95": "hd95", "assd": "assd", "masd": "masd"}
    | {f"nsd@{tau}": f"nsd@{tau}" for tau in TAUS},
    "surface_distance": {"dice": "dice", "hd95": "hd95_surfel", "hd100": "hd_surfel"}
    | {f"surface_dice@{tau}": f"nsd_surfel@{tau}" for tau in TAUS},
    "pymic": {"hd95": "hd95_floor", "assd": "assd", "rve": "relative_volume_error"},
    "nnunetv2": {"dice": "dice", "iou": "iou"},
}
METRICS = sorted({metric for names in SAME.values() for metric in names.values()})
WITHOUT_SPACING = {"panoptica": {"hd95": "hd95_pooled", "hd": "hd", "assd": "masd"}}


def compare(case, volumes, tools, spacing):
    entry = CASES[case]
    prediction, reference = volumes[f"{case}_pred"], volumes[f"{case}_ref"]
    metrics = sorted({metric for names in tools.values() for metric in names.values()})
    compared = 0
    for row in score(prediction, reference, spacing, entry["classes"], metrics):
        if row["state"] != "both":
            continue
        for tool, names in tools.items():
            for theirs, ours in names.items():
                answer = entry["tools"][row["class"]].get(tool, {}).get(theirs)
                if ours == row["metric"] and isinstance(answer, (int, float)):
                    close = pytest.approx(answer, rel=1e-5 if tool == "monai" else 1e-9, abs=1e-12)
                    assert row["value"] == close, (row["class"], tool, theirs)
                    compared += 1
    return compared


NOT_EMPTY = [
    case
    for case, entry in CASES.items()
    if any(a["tp"] + a["fp"] and a["tp"] + a["fn"] for a in entry["adopted"].values())
]


@pytest.mark.parametrize("case", NOT_EMPTY)
def test_definitions_are_those_of_the_tools(case, volumes):
    assert compare(case, volumes, SAME, volumes[f"{case}_spacing"]) >= 15


@pytest.mark.parametrize("case", [case for case in NOT_EMPTY if CASES[case]["spacing"] == [1.0, 1.0, 1.0]])
def test_panoptica_on_isotropic_voxels(case, volumes):
    compare(case, volumes, WITHOUT_SPACING, volumes[f"{case}_spacing"])
