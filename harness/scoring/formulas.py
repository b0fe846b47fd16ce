"""Values from raw facts, one short function per formula. Empty masks follow the card of the metric, never a policy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from harness.errors import UserError
from harness.scoring.definitions import Definition
from harness.scoring.facts import Directed, Facts

__all__ = [
    "SURFEL_FAMILIES",
    "VOXEL_FAMILIES",
    "family",
    "from_counts",
    "hd95_pooled",
    "hd95_surfel",
    "nsd_directed_mean",
    "value",
]

Distances = npt.NDArray[np.float64]


def family(card: Definition) -> str:
    """Return the id without its tolerance: ``"nsd"`` of ``"nsd@2"``."""
    return card.id.partition("@")[0]


def value(card: Definition, facts: Facts) -> float:
    """Compute one metric from the facts of one class.

    Returns
    -------
    float
        In the unit of the card; ``nan`` or ``inf`` where a mask is empty and the card says so.
    """
    name = family(card)
    if name in _FROM_COUNTS:
        return _FROM_COUNTS[name](facts)
    lesion_name, _, rule = card.id.partition(".")
    if rule in facts.lesions:
        return facts.lesions[rule][lesion_name]
    over_surfels = name in SURFEL_FAMILIES
    if facts.state == "both_empty":
        return math.nan
    if facts.state != "both":
        return 0.0 if card.tolerance_mm is not None else math.inf
    surface = facts.surfel_surface if over_surfels else facts.voxel_surface
    assert surface is not None, f"{card.id} was asked for without gathering its surface"
    formula = (SURFEL_FAMILIES if over_surfels else VOXEL_FAMILIES)[name]
    return formula(surface) if card.tolerance_mm is None else formula(surface, card.tolerance_mm)


_POOLABLE = ("dice", "iou", "precision", "recall")


def from_counts(card: Definition, totals: Facts) -> float:
    """Compute an overlap metric from counts that were added up over cases.

    Raises
    ------
    UserError
        The metric is no function of TP, FP and FN alone.
    """
    if card.id not in _POOLABLE:
        raise UserError(
            f"Metric {card.id!r} cannot be pooled over cases: it is no function of voxel counts. Pool one of "
            f"{', '.join(_POOLABLE)}, or average {card.id!r} by class or by case."
        )
    return _FROM_COUNTS[card.id](totals)


def _fraction(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _zero_if_one_empty(formula: Callable[[Facts], float]) -> Callable[[Facts], float]:
    def guarded(facts: Facts) -> float:
        return 0.0 if facts.state in ("pred_empty", "ref_empty") else formula(facts)

    return guarded


def _relative_volume_error(facts: Facts) -> float:
    if facts.n_ref == 0:
        return math.inf if facts.n_pred else math.nan
    return abs(facts.n_pred - facts.n_ref) / facts.n_ref


_FROM_COUNTS: dict[str, Callable[[Facts], float]] = {
    "dice": lambda f: _fraction(2 * f.tp, 2 * f.tp + f.fp + f.fn),
    "iou": lambda f: _fraction(f.tp, f.tp + f.fp + f.fn),
    "precision": _zero_if_one_empty(lambda f: _fraction(f.tp, f.tp + f.fp)),
    "recall": _zero_if_one_empty(lambda f: _fraction(f.tp, f.tp + f.fn)),
    "specificity": lambda f: _fraction(f.tn, f.tn + f.fp),
    "volume_difference": lambda f: abs(f.n_pred - f.n_ref) * f.voxel_mm3 / 1000.0,
    "volume_difference_voxels": lambda f: float(abs(f.n_pred - f.n_ref)),
    "relative_volume_error": _relative_volume_error,
}


def _hd(surface: Directed) -> float:
    return float(max(surface.from_prediction.max(), surface.from_reference.max()))


def _hd95(surface: Directed) -> float:
    return max(_percentile95(surface.from_prediction), _percentile95(surface.from_reference))


def _percentile95(distances: Distances) -> float:
    return float(np.percentile(distances, 95))


def hd95_pooled(surface: Directed) -> float:
    """Return the 95th percentile of both directed lists together, in mm."""
    return _percentile95(np.concatenate([surface.from_prediction, surface.from_reference]))


def _hd95_floor(surface: Directed) -> float:
    directed = (surface.from_prediction, surface.from_reference)
    return max(float(np.partition(d, int(0.95 * d.size))[int(0.95 * d.size)]) for d in directed)


def _assd(surface: Directed) -> float:
    first, second = surface.from_prediction, surface.from_reference
    return float((first.sum() + second.sum()) / (first.size + second.size))


def _masd(surface: Directed) -> float:
    return float((surface.from_prediction.mean() + surface.from_reference.mean()) / 2)


def _nsd(surface: Directed, tolerance: float) -> float:
    near = sum(int(np.count_nonzero(d <= tolerance)) for d in (surface.from_prediction, surface.from_reference))
    return near / (surface.from_prediction.size + surface.from_reference.size)


def nsd_directed_mean(surface: Directed, tolerance: float) -> float:
    """Return the mean of the two directed fractions within a tolerance in mm, as panoptica has it."""
    directed = (surface.from_prediction, surface.from_reference)
    return sum(int(np.count_nonzero(d <= tolerance)) / d.size for d in directed) / 2


def _with_areas(surface: Directed) -> list[tuple[Distances, Distances]]:
    assert surface.area_prediction is not None
    assert surface.area_reference is not None
    return [
        (surface.from_prediction, surface.area_prediction),
        (surface.from_reference, surface.area_reference),
    ]


def hd95_surfel(surface: Directed) -> float:
    """Return the larger of the two directed area-weighted 95 % distances, in mm."""
    return max(_weighted95(distances, areas) for distances, areas in _with_areas(surface))


def _weighted95(distances: Distances, areas: Distances) -> float:
    order = np.lexsort((areas, distances))
    share = np.cumsum(areas[order]) / np.sum(areas[order])
    # Rounding can leave the last share a hair below one; the last element is then the answer.
    first = min(int(np.searchsorted(share, 0.95)), share.size - 1)
    return float(distances[order][first])


def _nsd_surfel(surface: Directed, tolerance: float) -> float:
    pairs = _with_areas(surface)
    near = sum(float(areas[distances <= tolerance].sum()) for distances, areas in pairs)
    return near / sum(float(areas.sum()) for _, areas in pairs)


VOXEL_FAMILIES: dict[str, Callable[..., float]] = {
    "hd": _hd,
    "hd95": _hd95,
    "hd95_pooled": hd95_pooled,
    "hd95_floor": _hd95_floor,
    "assd": _assd,
    "masd": _masd,
    "nsd": _nsd,
}
SURFEL_FAMILIES: dict[str, Callable[..., float]] = {
    "hd_surfel": _hd,
    "hd95_surfel": hd95_surfel,
    "nsd_surfel": _nsd_surfel,
}
