"""Score one case: two label maps in, one row per class and metric out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.scoring.formulas import SURFEL_FAMILIES, VOXEL_FAMILIES, family, value
from harness.scoring.inputs import check_classes, check_metrics, check_pair, check_spacing
from harness.scoring.plain import measure

__all__ = ["score"]


def score(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    spacing: Sequence[float],
    classes: Mapping[str, Iterable[int]],
    metrics: Iterable[str],
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

    Returns
    -------
    list of dict
        One row per class and metric, classes in the given order, with ``class``, ``metric`` (as asked for), ``value``
        (raw, in the unit of the metric's definition; may be inf or nan), ``state`` (``both``, ``pred_empty``,
        ``ref_empty`` or ``both_empty``), and the voxel counts ``tp``, ``fp``, ``fn``, ``n_ref``, ``n_pred``.

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
    families = {family(card) for card in asked.values()}
    rows = []
    for name, labels in members.items():
        facts = measure(
            np.isin(prediction, labels),
            np.isin(reference, labels),
            spacing,
            voxels=bool(families & {"nsd", *VOXEL_FAMILIES}),
            surfels=bool(families & set(SURFEL_FAMILIES)),
        )
        for metric_id, card in asked.items():
            rows.append(
                {
                    "class": name,
                    "metric": metric_id,
                    "value": value(card, facts),
                    "state": facts.state,
                    "tp": facts.tp,
                    "fp": facts.fp,
                    "fn": facts.fn,
                    "n_ref": facts.n_ref,
                    "n_pred": facts.n_pred,
                }
            )
    return rows
