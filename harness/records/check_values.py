"""Check 4: ranges and units, counts that add up, scores that follow from counts, empty masks treated as stated."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.records.aggregate import empty_rule, find_definition
from harness.records.columns import CaseRow, Columns
from harness.records.opened import Opened
from harness.records.pretext import PretextDefinition
from harness.records.schema import EmptyRule, Metric
from harness.records.sums import FILE as SUMS
from harness.records.sums import Sums
from harness.records.verification import TOLERANCE, Finding, differ
from harness.scoring.definitions import Definition
from harness.scoring.policies import apply_policy
from harness.scoring.soft import score_soft

__all__ = ["check_values"]

Number = Any  # a number, or an array of them
_SMOOTHING = 1e-5
_EXACT: Final = 2**51  # counts up to here can be added and multiplied by two without an error
_CLOSE: Final = TOLERANCE / 2  # whatever else `differ` calls equal is looked at row by row
# Metrics that `_Values.from_counts` knows.
_COUNTED = frozenset(
    ["dice", "iou", "precision", "recall", "volume_difference", "relative_volume_error", "volume_difference_voxels"]
)


def check_values(opened: Opened) -> Iterator[Finding]:
    """Check 4: ranges, counts that add up, scores that follow from counts, and empty masks treated as stated."""
    checks = {metric.id: _Values(metric) for metric in opened.record.metrics}
    yield from _check_rows(_doubtful(opened, checks), checks, opened.sums)


def _doubtful(opened: Opened, checks: Mapping[str, _Values]) -> list[CaseRow]:
    """Leave out the rows that are clearly right; `_check_rows` judges the others, and says what is wrong with them."""
    columns = opened.columns
    right = None if columns is None else _clearly_right(columns, checks)
    if right is None:
        return opened.rows
    if right.all():
        return []
    return list(itertools.compress(opened.rows, np.repeat(right, opened.layout.n_metrics) == 0))


@np.errstate(all="ignore")
def _clearly_right(columns: Columns, checks: Mapping[str, _Values]) -> NDArray[np.bool_] | None:
    """Tell of each case and class whether both masks have voxels and nothing is wrong; None where that is not enough.

    All cases at once, and strict: whatever is missing, empty or near a bound is left to be looked at closely.
    """
    layout, masks = columns.layout, columns.masks
    if columns.of_row is not None or any(check.soft for check in checks.values()):
        return None
    per_case = layout.n_classes  # whose rows say the same of the scan and the prediction
    if any(column[place::per_case] != column[::per_case] for column in masks[5:] for place in range(1, per_case)):
        return None
    try:
        numbers = np.array(masks[:8], dtype=np.float64)  # what is missing becomes NaN, which is never right
    except OverflowError:
        return None
    tp, fp, fn, n_ref, n_pred, x, y, z = numbers
    right: NDArray[np.bool_] = (tp + fn == n_ref) & (tp + fp == n_pred) & (numbers[:3] >= 0).all(axis=0)
    right &= (numbers[3:5] <= _EXACT).all(axis=0) & (numbers[3:] > 0).all(axis=0)
    for name in layout.metrics:
        check, rows = checks.get(name), layout.of_metric(name)
        if check is None:
            continue
        values, reasons = np.array(columns.values[rows], dtype=np.float64), columns.reasons[rows]
        right &= values >= 0
        if check.bounded:
            right &= values <= 1
        if any(reasons):
            right &= np.array([reason is None for reason in reasons])
        if check.short in _COUNTED:
            right &= np.abs(values - check.from_counts(tp, fp, fn, x * y * z)) < _CLOSE
    return right


def _check_rows(rows: Iterable[CaseRow], checks: Mapping[str, _Values], sums: Sums) -> Iterator[Finding]:
    # Rows are sorted, so those of one case and of one pair of masks stand together.
    case: str | None = None
    label: int | None = None
    of_case: tuple[Any, ...] = ()
    masks = _Masks(())
    for row in rows:
        stated = row[6:]
        if row[0] != case:
            case, label, of_case = row[0], None, stated[5:]
        elif stated[5:] != of_case:
            yield Finding(4, "error", _place(row), "spacing, seconds or prediction differ from other rows of the case")
        if row[1] != label:
            label, masks = row[1], _Masks(())
        metric = checks.get(row[3])
        if metric is not None and metric.soft:  # its counts are of p > 0.5, not of the label map
            wrong = metric.fault_of_sums(row, _Masks(stated), sums)
            if wrong:
                yield Finding(4, "error", _place(row), wrong)
            continue
        if not masks.stated:
            masks = _Masks(stated)
        elif stated[:5] != masks.stated[:5]:
            yield Finding(4, "error", _place(row), "the counts differ from those of another metric of the same masks")
        of_row = masks if stated[:8] == masks.stated[:8] else _Masks(stated)
        wrong = metric.fault(row, of_row) if metric is not None else None
        if wrong:
            yield Finding(4, "error", _place(row), wrong)


def _place(row: CaseRow) -> str:
    return f"cases.csv: {row.case_id}, {row.class_name}, {row.metric_id}"


class _Masks:
    """What a row says of its two masks, which no metric changes: looked at once for all of them."""

    __slots__ = ("fault", "missing", "state", "stated")

    def __init__(self, stated: tuple[Any, ...]) -> None:
        self.stated = stated
        self.state = ""
        self.fault: str | None = None
        counts, spacing = stated[:5], stated[5:8]
        self.missing = not counts or None in counts
        if not self.missing:
            tp, fp, fn, n_ref, n_pred = counts
            self.state = ("both" if n_ref else "ref_empty") if n_pred else ("pred_empty" if n_ref else "both_empty")
            if tp < 0 or fp < 0 or fn < 0 or tp + fn != n_ref or tp + fp != n_pred:
                self.fault = (
                    f"the counts do not add up: TP {tp}, FP {fp}, FN {fn}, reference {n_ref}, prediction {n_pred}"
                )
        if any(size is not None and size <= 0 for size in spacing):
            self.fault = f"the spacing {spacing} is not positive"


class _Values:
    """What may stand in a row of one metric."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.card: Definition | PretextDefinition | None = None
        self.rule = EmptyRule(both_empty="as measured", pred_empty="as measured", ref_empty="as measured")
        # An unknown metric or policy is reported by check 3.
        with contextlib.suppress(UserError):
            self.card = find_definition(metric.id)
            self.rule = empty_rule(metric.policy, self.card)
        self.bounded = metric.unit == "fraction" and metric.higher_is_better
        self.short = self.card.id if isinstance(self.card, Definition) else None
        self.counted = isinstance(self.card, Definition) and self.card.needs == "labels"
        self.soft = isinstance(self.card, Definition) and self.card.needs == "probabilities"

    def fault_of_sums(self, row: CaseRow, masks: _Masks, sums: Sums) -> str | None:
        """Say what is wrong with a row of a metric of probabilities: range, counts, and what its sums give."""
        found = self._out_of_range(row.value) or masks.fault
        if found or not sums or self.short is None:
            return found
        kept = sums.get(row.case_id, {}).get(row.class_name)
        if kept is None:
            return f"{SUMS} has no sums of it"
        undrawn = [row.class_name] if row.reason == "not_annotated" else []
        (again,) = apply_policy(
            score_soft({row.class_name: kept}, [self.short], not_annotated=undrawn), self.metric.policy
        )
        value = again["value"] if math.isfinite(again["value"]) else None
        counts = tuple(again[name] for name in ("tp", "fp", "fn", "n_ref", "n_pred"))
        if masks.stated[:5] != counts:
            return f"the counts are {masks.stated[:5]}, but the sums give {counts}"
        return f"the value is {row.value}, but the sums give {value}" if differ(row.value, value) else None

    def _out_of_range(self, value: float | None) -> str | None:
        if value is None or (value >= 0 and not (self.bounded and value > 1)):
            return None
        allowed = "0 to 1" if self.bounded else "0 or more"
        return f"the value {value} is outside {allowed} ({self.metric.unit})"

    def fault(self, row: CaseRow, masks: _Masks) -> str | None:
        value = row.value
        found = self._out_of_range(value) or masks.fault
        if found is not None:
            return found
        if masks.missing:
            return "the voxel counts are missing" if self.counted and row.reason != "failed" else None
        if row.reason in ("not_annotated", "failed"):
            return None if value is None else f"a value stands beside {row.reason}"
        if row.state != masks.state:
            return f"the reason {row.reason!r} contradicts the counts ({row.n_ref} and {row.n_pred} voxels)"
        if masks.state != "both":
            voxels = masks.stated[3] + masks.stated[4]
            return self._fault_of_empty(value, getattr(self.rule, masks.state), voxels)
        if self.short not in _COUNTED:
            return None
        spacing = masks.stated[5:8]
        voxel = math.prod(spacing) if all(spacing) else math.nan  # mm3
        tp, fp, fn = masks.stated[:3]
        expected = self.from_counts(tp, fp, fn, voxel)
        if not math.isnan(expected) and differ(value, expected):
            return f"the value {value} does not follow from the counts, which give {expected}"
        return None

    def _fault_of_empty(self, value: float | None, fill: str, voxels: int) -> str | None:
        if fill == "as measured":
            return None
        if fill == "skip":
            return None if value is None else f"the policy {self.metric.policy!r} leaves this case out, not {value}"
        if value is None:
            return f"the policy {self.metric.policy!r} counts this case as {fill}, but it has no value"
        if fill == "diagonal":
            return None if value > 0 else f"a miss costs the diagonal of the volume, not {value}"
        expected = _SMOOTHING / (voxels + _SMOOTHING) if fill == "smoothed" else float(fill)
        return f"the policy {self.metric.policy!r} gives {expected}, not {value}" if differ(value, expected) else None

    def from_counts(self, tp: Number, fp: Number, fn: Number, voxel: Number) -> Number:
        """Return the value of a metric of `_COUNTED`, for one pair of masks or for arrays of them; NaN is unknown.

        ``voxel`` is the volume of a voxel in mm3.
        """
        match self.short:
            case "dice":
                return 2 * tp / (2 * tp + fp + fn)
            case "iou":
                return tp / (tp + fp + fn)
            case "precision":
                return tp / (tp + fp)
            case "recall":
                return tp / (tp + fn)
            case "volume_difference_voxels":
                return 1.0 * abs(fp - fn)
            case "relative_volume_error":
                return abs(fp - fn) / (tp + fn)
            case _:
                return abs(fp - fn) * voxel / 1000.0
