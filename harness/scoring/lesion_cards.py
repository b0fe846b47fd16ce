"""The cards of the lesion-wise rules. What the rules do is in `lesions.py`."""

from __future__ import annotations

from harness.scoring.definitions import Definition, EmptyRule, Unit

__all__ = ["LESION_CARDS"]

_26 = "components of 26 neighbours"
_SCORED = "TP + FN + FP"

# rule -> (how components are made and matched, source)
_RULES = {
    "atlas2": ("components of 6 neighbours; found = one shared voxel", "npnl/atlas2_grand_challenge 55b9524"),
    "isles22": (f"{_26}; found = one shared voxel", "ezequieldlrosa/isles22; npnl/atlas2_grand_challenge 1c46738"),
    "brats2023-gli": (f"{_26}; reference dilated 3 x 18 neighbours; lesions up to 50 mm^3 left out", ""),
    "brats2023-ssa": (f"{_26}; reference dilated 3 x 18 neighbours; lesions up to 50 mm^3 left out", ""),
    "brats2023-ped": (f"{_26}; reference dilated 3 x 18 neighbours; lesions up to 50 mm^3 left out", ""),
    "brats2023-men": (f"{_26}; reference dilated 1 x 18 neighbours; lesions up to 50 mm^3 left out", ""),
    "brats2023-met": (f"{_26}; reference dilated 1 x 18 neighbours; lesions up to 2 mm^3 left out", ""),
    "brats2024": (f"{_26}; one to one, largest summed Dice, pairs with Dice above 1e-6", "brats-evaluation 0.0.10"),
    "panoptic-iou50": (f"{_26}; one to one, IoU at least 0.5", "panoptica 2.1.7, doi:10.1109/CVPR.2019.00963"),
    "monai-component": (f"Voronoi cells of reference {_26}", "MONAI 1.6 DiceMetric(per_component=True)"),
}
_BRATS_2023 = "rachitsaluja/BraTS-2023-Metrics 43c9052"

_COUNTS = {"lesion_tp": (True, "found"), "lesion_fp": (False, "superfluous"), "lesion_fn": (False, "missed")}


def _cards(rule: str) -> list[Definition]:
    how, source = _RULES[rule]
    source = source or _BRATS_2023

    def card(name: str, formula: str, both: str, one: str, unit: Unit = "fraction", better: bool = True) -> Definition:
        return Definition(
            id=f"{name}.{rule}",
            stem=f"{name}.{rule}",
            unit=unit,
            higher_is_better=better,
            formula=f"{formula}; {how}",
            empty_rule=EmptyRule(both=both, one=one),
            source=source,
        )

    if rule == "monai-component":
        formula = "mean over cells of the Dice inside the cell"
        return [card("lesion_dice", formula, "undefined", "0 without prediction, undefined without reference")]
    cards = [
        card(name, f"lesions {word}", "0", "as formula", "count", better) for name, (better, word) in _COUNTS.items()
    ]
    if rule in ("atlas2", "isles22"):
        cards += [
            card("lesion_f1", "TP / (TP + (FP + FN) / 2)", "1", "0"),
            card("lesion_count_difference", "|n_prediction - n_reference|", "0", "as formula", "count", False),
        ]
    elif rule.startswith("brats2023"):
        hd95 = f"(sum hd95_surfel + 374 (FN + FP)) / ({_SCORED})"
        cards += [
            card("lesion_dice", f"sum Dice / ({_SCORED})", "1", "0"),
            card("lesion_hd95", hd95, "0", "374", "mm", False),
        ]
    elif rule == "brats2024":
        cards += [
            card("lesion_dice", "mean Dice of matched pairs", "undefined", "0"),
            card("lesion_hd95", "mean hd95_pooled of matched pairs", "undefined", "inf", "mm", False),
            card(
                "lesion_nsd",
                "mean over matched pairs of the mean directed NSD at the smallest spacing",
                "undefined",
                "0",
            ),
            card("lesion_precision", "TP / (TP + FP)", "undefined", "undefined without prediction, else 0"),
            card("lesion_recall", "TP / (TP + FN)", "undefined", "undefined without reference, else 0"),
            card("lesion_f1", "2 TP / (2 TP + FP + FN)", "undefined", "0"),
        ]
    else:
        cards += [
            card("lesion_rq", "TP / (TP + (FP + FN) / 2)", "undefined", "0"),
            card("lesion_sq", "mean IoU of matched pairs", "undefined", "0"),
            card("lesion_pq", "rq * sq", "undefined", "0"),
            card("lesion_dice", "mean Dice of matched pairs", "undefined", "0"),
        ]
    return cards


LESION_CARDS = [card for rule in _RULES for card in _cards(rule)]
