"""Metrics that label maps cannot give, from sums written at inference: soft Dice, every p > 0, ten thresholds, AUC.

A case is reduced to a few numbers per region (`SoftStatistics`); they add up over blocks of a volume and over cases,
so nothing has to be held in memory, and every metric here can be computed again later without the probabilities.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import UserError, unknown_name
from harness.scoring.definitions import definition

__all__ = ["SOFT_METRICS", "THRESHOLDS", "SoftStatistics", "auc", "score_soft", "soft_value", "sufficient_statistics"]

THRESHOLDS = tuple(round(0.50 + 0.05 * step, 2) for step in range(10))
"""0.50, 0.55, ... 0.95: those of Models Genesis' IoU."""


@dataclass(frozen=True, kw_only=True)
class SoftStatistics:
    """Sums over the voxels of one region, p being the probability and y the reference (0 or 1).

    Attributes
    ----------
    n : int
        Voxels.
    sum_y : int
        Reference voxels.
    sum_p, sum_pp, sum_py : float
        Sums of p, p^2 and p y.
    n_positive, n_positive_y : int
        Voxels with p > 0, and those of them in the reference.
    n_above, n_above_y : tuple of int
        The same for each of `THRESHOLDS`.
    """

    n: int
    sum_y: int
    sum_p: float
    sum_pp: float
    sum_py: float
    n_positive: int
    n_positive_y: int
    n_above: tuple[int, ...]
    n_above_y: tuple[int, ...]

    def __add__(self, other: SoftStatistics) -> SoftStatistics:
        """Add up two parts of a volume, or two cases."""
        together: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            ours, theirs = getattr(self, item.name), getattr(other, item.name)
            pairs = zip(ours, theirs, strict=True) if isinstance(ours, tuple) else None
            together[item.name] = ours + theirs if pairs is None else tuple(a + b for a, b in pairs)
        return SoftStatistics(**together)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `from_json` reads them back exactly."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()} | {
            "thresholds": list(THRESHOLDS)
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SoftStatistics:
        """Read what `to_json` wrote, refusing other fields or other thresholds."""
        names = {item.name for item in dataclasses.fields(cls)}
        if stored.keys() != names | {"thresholds"} or tuple(stored["thresholds"]) != THRESHOLDS:
            raise UserError(
                f"These sufficient statistics have the fields {sorted(stored)} and thresholds "
                f"{stored.get('thresholds')}, but {sorted(names)} at {list(THRESHOLDS)} are needed. They come from "
                "another release; run inference again to write new ones."
            )
        values: dict[str, Any] = {name: tuple(v) if isinstance(v := stored[name], list) else v for name in names}
        return cls(**values)


def sufficient_statistics(probability: npt.ArrayLike, reference: npt.ArrayLike) -> SoftStatistics:
    """Reduce the probabilities of one region to sums.

    Parameters
    ----------
    probability : array_like of floats
        p of each voxel, in [0, 1]: one channel after sigmoid, or the sum of a region's channels after softmax. Any
        shape: a whole volume or a block of it.
    reference : array_like of bool or integers, same shape
        The region's mask, 0 or 1.

    Raises
    ------
    UserError
        Shapes differ, p is not a probability, or the reference is not a mask.

    Notes
    -----
    p is compared with the thresholds in its own precision, as the published scripts do; sums are in double.
    """
    p, y = np.asarray(probability), np.asarray(reference)
    if p.shape != y.shape:
        raise UserError(f"The probabilities have shape {p.shape} and the reference {y.shape}; they must be the same.")
    if p.dtype.kind != "f" or not np.all((p >= 0) & (p <= 1)):
        raise UserError(
            f"The probabilities (dtype {p.dtype}) must be floats between 0 and 1 without nan. Apply sigmoid or softmax "
            "to logits first."
        )
    if y.dtype.kind not in "iub" or not np.all((y == 0) | (y == 1)):
        raise UserError(f"The reference (dtype {y.dtype}) must be a mask of 0 and 1; select the region's labels first.")
    mask = y.astype(bool)
    inside = p[mask]
    return SoftStatistics(
        n=p.size,
        sum_y=int(np.count_nonzero(mask)),
        sum_p=float(p.sum(dtype=np.float64)),
        sum_pp=float(np.square(p, dtype=np.float64).sum()),
        sum_py=float(inside.sum(dtype=np.float64)),
        n_positive=int(np.count_nonzero(p > 0)),
        n_positive_y=int(np.count_nonzero(inside > 0)),
        n_above=tuple(int(np.count_nonzero(p > t)) for t in THRESHOLDS),
        n_above_y=tuple(int(np.count_nonzero(inside > t)) for t in THRESHOLDS),
    )


def _soft_dice(s: SoftStatistics) -> float:
    return 2 * s.sum_py / (s.sum_p + s.sum_y) if s.sum_y else math.nan


def _dice_any_p(s: SoftStatistics) -> float:
    return 2 * s.n_positive_y / (s.n_positive + s.sum_y) if s.sum_y else math.nan


def _iou_genesis(s: SoftStatistics) -> float:
    means = []
    for above, tp in zip(s.n_above, s.n_above_y, strict=True):
        union = above + s.sum_y - tp
        both_background = s.n - union
        # A class without a voxel in either map has no IoU and leaves the mean, as TensorFlow's mean_iou has it.
        parts = [(tp, union), (both_background, s.n - tp)]
        means.append(float(np.mean([shared / whole for shared, whole in parts if whole])))
    return float(np.mean(means))


def _iou_at_half(s: SoftStatistics) -> float:
    union = s.n_above[0] + s.sum_y - s.n_above_y[0]
    return s.n_above_y[0] / union if union else math.nan


_FORMULAS: dict[str, Callable[[SoftStatistics], float]] = {
    "soft_dice": _soft_dice,
    "dice_any_p": _dice_any_p,
    "iou_genesis": _iou_genesis,
    "iou_fg_pooled": _iou_at_half,
}


SOFT_METRICS = frozenset(_FORMULAS)
"""Ids of the metrics that come from these sums; label maps cannot give them."""


def soft_value(metric_id: str, statistics: SoftStatistics) -> float:
    """Compute one metric from the sums of a case, or of many cases added up.

    Parameters
    ----------
    metric_id : str
        ``soft_dice``, ``dice_any_p``, ``iou_genesis`` or ``iou_fg_pooled``.
    statistics : SoftStatistics
        For the pooled metrics: the sum over all cases.

    Returns
    -------
    float
        A fraction; nan where the definition leaves it open (empty reference).
    """
    if metric_id not in _FORMULAS:
        definition(metric_id)  # an unknown id is answered with the nearest known one
        raise unknown_name("metric of probabilities", metric_id, _FORMULAS, "Label maps give it: score().")
    return _FORMULAS[metric_id](statistics)


def score_soft(
    regions: Mapping[str, SoftStatistics], metrics: Iterable[str], *, not_annotated: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Score one case from its sufficient statistics.

    Parameters
    ----------
    regions : mapping of str to SoftStatistics
        Region name -> its sums.
    metrics : iterable of str
        Ids that `soft_value` knows.
    not_annotated : collection of str
        Regions that nobody drew in this case: their rows have the value nan and the state ``not_annotated``.

    Returns
    -------
    list of dict
        Rows like those of `harness.scoring.score`; the counts are those of p > 0.5, a prediction is empty where no
        p is above 0, and ``sufficient`` carries the sums for metrics that are pooled over cases.
    """
    metrics = list(metrics)
    rows = []
    for name, s in regions.items():
        tp, n_pred = s.n_above_y[0], s.n_above[0]
        state = {(True, True): "both", (False, True): "pred_empty", (True, False): "ref_empty"}.get(
            (s.n_positive > 0, s.sum_y > 0), "both_empty"
        )
        drawn = name not in not_annotated
        common = {
            "state": state if drawn else "not_annotated",
            "tp": tp,
            "fp": n_pred - tp,
            "fn": s.sum_y - tp,
            "n_ref": s.sum_y,
            "n_pred": n_pred,
            "sufficient": s,
        }
        rows += [
            {"class": name, "metric": metric, "value": soft_value(metric, s) if drawn else math.nan, **common}
            for metric in metrics
        ]
    return rows


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Area under the ROC curve over cases; ties count one half.

    Parameters
    ----------
    scores : array_like of shape (n,)
        One finite number per case, larger meaning more likely positive.
    labels : array_like of shape (n,)
        True or 1 for positive cases.

    Returns
    -------
    float
        A fraction; nan where there is no positive or no negative case.

    Examples
    --------
    >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(labels)
    if values.ndim != 1 or values.shape != truth.shape or not np.all(np.isfinite(values)):
        raise UserError(
            f"AUC: scores of shape {values.shape} and labels of shape {truth.shape}; need one finite score and one "
            "label per case."
        )
    if not np.all((truth == 0) | (truth == 1)):
        raise UserError("AUC: the labels must be 0 or 1; several classes are scored one against the rest.")
    positive = truth.astype(bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not (n_positive and n_negative):
        return math.nan
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # the mean rank of each group of equal scores
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
