"""Score one case: two label maps in, one row per class and metric out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import unknown_name
from harness.scoring.formulas import SURFEL_FAMILIES, VOXEL_FAMILIES, family, value
from harness.scoring.inputs import check_classes, check_metrics, check_pair, check_spacing
from harness.scoring.lesions import RULES, lesion_values
from harness.scoring.measure import measure_classes

__all__ = ["score"]


def score(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    spacing: Sequence[float],
    classes: Mapping[str, Iterable[int]],
    metrics: Iterable[str],
    *,
    not_annotated: Collection[str] = (),
    threads: int | None = None,
) -> list[dict[str, Any]]:
    """Compare a predicted label map with a reference, class by class.

    Parameters
    ----------
    prediction, reference : array_like of shape (S, R, C)
        Label maps on one grid, any integer or boolean dtype, any memory order. Labels in no class are background.
    spacing : sequence of 3 floats
        Voxel size in mm per array axis, in the order of the axes.
    classes : mapping of str to iterable of int
        Class name -> the label values that form its mask. Classes may overlap (regions).
    metrics : iterable of str
        Short metric ids, such as ``["dice", "hd95", "nsd@2"]``; see `harness.scoring.definitions.known`.
    not_annotated : collection of str
        Classes that nobody drew in this case. They get rows in the state ``not_annotated`` with the value nan, so
        that summaries count them instead of taking an undrawn organ for an absent one.
    threads : int, optional
        Threads to use: by default the CPUs of this process, at most ``OMP_NUM_THREADS``.

    Returns
    -------
    list of dict
        One row per class and metric, classes in the given order, with ``class``, ``metric`` (as asked for), ``value``
        (raw, in the unit of the metric's definition; may be inf or nan), ``state`` (``both``, ``pred_empty``,
        ``ref_empty`` or ``both_empty``), the voxel counts ``tp``, ``fp``, ``fn``, ``n_ref``, ``n_pred``, and the
        ``spacing`` and ``diagonal_mm`` of the volume. Empty masks follow the metric's definition; what they cost
        is said by a policy afterwards (`harness.scoring.policies`).

    Raises
    ------
    UserError
        Shapes differ, an array is not 3-D or not of integers, the spacing, a class or a metric id is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> reference = np.zeros((4, 4, 4), np.uint8)
    >>> reference[1:3, 1:3, 1:3] = 1
    >>> prediction = np.roll(reference, 1, axis=2)
    >>> rows = score(prediction, reference, (3.0, 1.0, 1.0), {"organ": [1]}, ["dice", "hd"])
    >>> [(row["metric"], row["value"]) for row in rows]
    [('dice', 0.5), ('hd', 1.0)]
    """
    prediction, reference = check_pair(prediction, reference)
    spacing = check_spacing(spacing)
    members = check_classes(classes)
    asked = check_metrics(metrics)
    unknown = [name for name in not_annotated if name not in members]
    if unknown:
        raise unknown_name("class", unknown[0], members, "It was given as not annotated.")
    drawn = [name for name in members if name not in not_annotated]
    families = {family(card) for card in asked.values()}
    rules = {rule for card in asked.values() if (rule := card.id.partition(".")[2]) in RULES}
    facts_of = measure_classes(
        prediction,
        reference,
        spacing,
        members,
        voxels=drawn if families & VOXEL_FAMILIES.keys() else (),
        surfels=drawn if families & SURFEL_FAMILIES.keys() else (),
        threads=threads,
    )
    diagonal = math.sqrt(sum((n * step) ** 2 for n, step in zip(prediction.shape, spacing, strict=True)))
    rows = []
    for name, facts in facts_of:
        if rules and name in drawn:
            masks = _mask(prediction, members[name]), _mask(reference, members[name])
            lesions = {rule: lesion_values(rule, *masks, spacing) for rule in rules}
            facts = dataclasses.replace(facts, lesions=lesions)
        common = {
            "state": facts.state if name in drawn else "not_annotated",
            "tp": facts.tp,
            "fp": facts.fp,
            "fn": facts.fn,
            "n_ref": facts.n_ref,
            "n_pred": facts.n_pred,
            "spacing": spacing,
            "diagonal_mm": diagonal,
        }
        for metric_id, card in asked.items():
            number = value(card, facts) if name in drawn else math.nan
            rows.append({"class": name, "metric": metric_id, "value": number, **common})
    return rows


def _mask(labels: npt.NDArray[Any], members: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return the voxels of a class in the labels' own memory order, without `numpy.isin`'s wide temporary arrays."""
    mask = np.zeros_like(labels, bool)
    for label in members:
        mask |= labels == label
    return mask
