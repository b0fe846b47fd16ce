"""The metric cards that are computed from counts, surfaces and sums. Lesion rules have theirs in `lesion_cards.py`."""

from __future__ import annotations

from harness.scoring.definitions import Definition, EmptyRule
from harness.scoring.lesion_cards import LESION_CARDS

__all__ = ["CARDS", "WITH_TOLERANCE"]

_OVERLAP = EmptyRule(both="nan", one="0")
_DISTANCE = EmptyRule(both="nan", one="inf")
_AS_FORMULA = EmptyRule(both="as formula", one="as formula")

VOXEL_SURFACE = "voxel centres of the mask with a face neighbour outside it; outside the array is background"
SURFEL_SURFACE = (
    "surface elements: points of the grid shifted by half a voxel whose 8 voxels are mixed, weighted by the area of "
    "their marching-cubes triangles in mm^2; outside the array is background"
)
_EACH_THEN_MAX = "95th percentile of each direction, linearly interpolated, then the larger"
_TP_FP_FN = "Dice 1945, doi:10.2307/1932409; integer counts, equal to nnU-Net v2"


def _overlap(id: str, formula: str, source: str, stem: str = "") -> Definition:  # noqa: A002  the field's name
    return Definition(
        id=id, stem=stem or id, unit="fraction", higher_is_better=True, formula=formula,
        empty_rule=_OVERLAP, source=source,
    )  # fmt: skip


def _distance(id: str, formula: str, percentile: str, surface: str, source: str) -> Definition:  # noqa: A002
    return Definition(
        id=id, stem=id, unit="mm", higher_is_better=False, formula=formula, percentile=percentile,
        surface=surface, empty_rule=_DISTANCE, source=source,
    )  # fmt: skip


_FROM_COUNTS = [
    _overlap("dice", "2 TP / (2 TP + FP + FN)", _TP_FP_FN, stem="dice.hard"),
    _overlap("iou", "TP / (TP + FP + FN)", "Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x", stem="iou.hard"),
    _overlap("precision", "TP / (TP + FP)", "positive predictive value; an empty prediction scores 0, not nothing"),
    _overlap("recall", "TP / (TP + FN)", "sensitivity; an empty reference with a prediction scores 0"),
    Definition(
        id="specificity",
        stem="specificity",
        unit="fraction",
        higher_is_better=True,
        formula="TN / (TN + FP) over all voxels of the array; nan where the reference fills the array",
        empty_rule=_AS_FORMULA,
        source="BraTS 2023 evaluation script",
    ),
    Definition(
        id="volume_difference",
        stem="volume_difference",
        unit="ml",
        higher_is_better=False,
        formula="|V_prediction - V_reference| with V = voxels * voxel volume",
        empty_rule=_AS_FORMULA,
        source="ISLES'22 evaluation",
    ),
    Definition(
        id="volume_difference_voxels",
        stem="volume_difference_voxels",
        unit="voxels",
        higher_is_better=False,
        formula="|n_prediction - n_reference|",
        empty_rule=_AS_FORMULA,
        source="ATLAS v2 challenge evaluation",
    ),
    Definition(
        id="relative_volume_error",
        stem="relative_volume_error",
        unit="fraction",
        higher_is_better=False,
        formula="|n_prediction - n_reference| / n_reference",
        empty_rule=EmptyRule(both="nan", one="inf where the reference is empty, 1 where the prediction is"),
        source="PyMIC rve",
    ),
]

_FROM_SURFACES = [
    _distance("hd", "maximum of both directed distance lists", "none", VOXEL_SURFACE, "MONAI, MedPy, panoptica"),
    _distance(
        "hd95", "larger 95th percentile of the two directed distance lists", _EACH_THEN_MAX, VOXEL_SURFACE,
        "MONAI 1.6, MetricsReloaded",
    ),
    _distance(
        "hd95_pooled", "95th percentile of the two directed lists concatenated", "linearly interpolated, pooled",
        VOXEL_SURFACE, "MedPy, panoptica, nnU-Net v1",
    ),
    _distance(
        "hd95_floor", "larger of sorted[int(0.95 n)] of the two directed lists", "order statistic int(0.95 n)",
        VOXEL_SURFACE, "PyMIC",
    ),
    _distance(
        "hd95_surfel", "larger of the two directed area-weighted 95 % distances",
        "first element, sorted by distance, whose cumulated area reaches 95 %", SURFEL_SURFACE,
        "google-deepmind surface-distance, BraTS 2023",
    ),
    _distance(
        "hd_surfel", "maximum of both directed lists", "none", SURFEL_SURFACE, "google-deepmind surface-distance",
    ),
    _distance(
        "assd", "(sum of both directed lists) / (n1 + n2)", "none", VOXEL_SURFACE,
        "MONAI symmetric=True, MedPy, MetricsReloaded, PyMIC",
    ),
    _distance("masd", "mean of the two directed means", "none", VOXEL_SURFACE, "MetricsReloaded masd, panoptica ASSD"),
]  # fmt: skip

_FROM_PROBABILITIES = [
    Definition(
        id="soft_dice",
        stem="dice.soft",
        unit="fraction",
        higher_is_better=True,
        formula="2 sum(p y) / (sum(p) + sum(y))",
        empty_rule=EmptyRule(both="nan", one="nan where the reference is empty, 0 where no p is above 0"),
        threshold="none",
        averaging="case_then_class",
        needs="probabilities",
        source="BrainSegFounder and Swin UNETR BraTS scripts on MONAI 1.1 or older: no threshold before Dice",
    ),
    Definition(
        id="dice_any_p",
        stem="dice.any_p",
        unit="fraction",
        higher_is_better=True,
        formula="2 sum(y [p > 0]) / (count(p > 0) + sum(y))",
        empty_rule=EmptyRule(both="nan", one="nan where the reference is empty, 0 where no p is above 0"),
        threshold="p > 0",
        averaging="case_then_class",
        needs="probabilities",
        source="the same scripts on MONAI 1.2 or newer: every p above 0 counts as foreground",
    ),
    Definition(
        id="iou_genesis",
        stem="iou.genesis",
        unit="fraction",
        higher_is_better=True,
        formula="mean over t = 0.50, 0.55, ... 0.95 of (IoU_foreground + IoU_background) / 2 of p > t",
        empty_rule=EmptyRule(both="background IoU alone", one="as formula"),
        threshold="ten: 0.50 to 0.95 in steps of 0.05, p > t",
        averaging="pooled",
        needs="probabilities",
        source="Models Genesis keras utils, TensorFlow mean_iou with two classes; one pooled matrix per threshold",
    ),
    Definition(
        id="iou_fg_pooled",
        stem="iou.fg_pooled",
        unit="fraction",
        higher_is_better=True,
        formula="sum TP / (sum TP + sum FP + sum FN) over all cases of p > 0.5",
        empty_rule=EmptyRule(both="nan", one="0"),
        threshold="p > 0.5",
        averaging="pooled",
        needs="probabilities",
        source="Models Genesis keras utils, the [BIN] printout",
    ),
    Definition(
        id="auc",
        stem="auc",
        unit="fraction",
        higher_is_better=True,
        formula="probability that a random positive case scores above a random negative one, ties count one half",
        empty_rule=EmptyRule(both="nan where one of the two classes has no case", one="nan"),
        threshold="none",
        averaging="pooled",
        needs="case_scores",
        source="Mann-Whitney form of the ROC area; scikit-learn roc_auc_score",
    ),
]

CARDS = {card.id: card for card in [*_FROM_COUNTS, *_FROM_SURFACES, *_FROM_PROBABILITIES, *LESION_CARDS]}

WITH_TOLERANCE = {
    "nsd": Definition(
        id="nsd",
        stem="nsd",
        unit="fraction",
        higher_is_better=True,
        formula="(count(d1 <= tolerance) + count(d2 <= tolerance)) / (n1 + n2)",
        surface=VOXEL_SURFACE,
        empty_rule=_OVERLAP,
        source="Nikolov et al. 2021, doi:10.2196/26151; MONAI SurfaceDiceMetric(use_subvoxels=False), MetricsReloaded",
    ),
    "nsd_surfel": Definition(
        id="nsd_surfel",
        stem="nsd_surfel",
        unit="fraction",
        higher_is_better=True,
        formula="(area(d1 <= tolerance) + area(d2 <= tolerance)) / (area1 + area2)",
        surface=SURFEL_SURFACE,
        empty_rule=_OVERLAP,
        source="Nikolov et al. 2021, doi:10.2196/26151; google-deepmind surface-distance, MONAI use_subvoxels=True",
    ),
}
