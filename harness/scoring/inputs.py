"""What may be scored: checks of arrays, spacing, classes and metric ids, each answered with a sentence."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import UserError
from harness.scoring.definitions import Definition, definition

__all__ = ["LabelMap", "check_classes", "check_metrics", "check_pair", "check_spacing"]

LabelMap = npt.NDArray[Any]  # any integer or boolean dtype


def check_pair(prediction: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[LabelMap, LabelMap]:
    """Return both label maps as arrays, refusing anything but 3-D integers of one shape."""
    arrays = []
    for name, given in (("prediction", prediction), ("reference", reference)):
        array = np.asarray(given)
        if array.dtype.kind not in "iub":
            raise UserError(
                f"The {name} has dtype {array.dtype}, but a label map holds whole numbers. Apply argmax or a threshold "
                "to probabilities first, or round labels that were stored as floats."
            )
        if array.ndim != 3 or 0 in array.shape:
            raise UserError(
                f"The {name} has shape {array.shape}, but scoring needs a volume with three axes and at least one "
                "voxel. Give a single slice as shape (rows, columns, 1)."
            )
        arrays.append(array)
    if arrays[0].shape != arrays[1].shape:
        raise UserError(
            f"The prediction has shape {arrays[0].shape} and the reference {arrays[1].shape}. Nothing is resampled "
            "silently: bring the prediction onto the reference's grid first."
        )
    return arrays[0], arrays[1]


def check_spacing(spacing: Sequence[float]) -> tuple[float, float, float]:
    """Return the spacing in mm per array axis as three positive floats."""
    try:
        values = tuple(float(value) for value in spacing)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 3 or not all(math.isfinite(value) and value > 0 for value in values):
        raise UserError(
            f"The spacing is {spacing!r}, but it must be three positive numbers, mm per array axis in the order of the "
            "axes (nibabel's zooms follow the array, SimpleITK's GetSpacing() is reversed)."
        )
    return values


def check_classes(classes: Mapping[str, Iterable[int]]) -> dict[str, tuple[int, ...]]:
    """Return class name -> its label values as plain integers, in the given order."""
    if not isinstance(classes, Mapping) or not classes:
        raise UserError(
            f"The classes are {classes!r}, but they must map each name to its label values, such as "
            "{'liver': [1], 'tumour': [2, 3]}."
        )
    checked = {}
    for name, labels in classes.items():
        try:
            values = tuple(operator.index(label) for label in labels)
        except TypeError:
            values = ()
        if not values:
            raise UserError(
                f"Class {name!r} has the labels {labels!r}, but it needs a list of at least one whole number."
            )
        checked[name] = values
    return checked


def check_metrics(metrics: Iterable[str]) -> dict[str, Definition]:
    """Return asked-for id -> definition, refusing unknown ids and metrics that label maps cannot give."""
    if isinstance(metrics, str):
        raise UserError(f"The metrics are the text {metrics!r}; give a list of ids, such as [{metrics!r}].")
    asked = {metric_id: definition(metric_id) for metric_id in metrics}
    if not asked:
        raise UserError("No metric was asked for. Give at least one id, such as ['dice', 'hd95'].")
    for metric_id, card in asked.items():
        if card.needs != "labels":
            raise UserError(
                f"Metric {metric_id!r} cannot be computed from label maps: it needs {card.needs.replace('_', ' ')}. "
                "Write sufficient statistics at inference and use harness.scoring.soft."
            )
    return asked
