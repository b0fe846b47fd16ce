"""Check 4: ranges and units, counts that add up, scores that follow from counts, empty masks treated as stated."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from harness.errors import UserError
from harness.records.aggregate import empty_rule, find_definition
from harness.records.cases import CaseRow
from harness.records.opened import Opened
from harness.records.pretext import PretextDefinition
from harness.records.schema import EmptyRule, Metric
from harness.records.sums import FILE as SUMS
from harness.records.sums import Sums
from harness.records.verification import Finding, differ
from harness.scoring.definitions import Definition
from harness.scoring.policies import apply_policy
from harness.scoring.soft import score_soft

__all__ = ["check_values"]

_SMOOTHING = 1e-5
# Metrics that `_Values._from_counts` knows.
_COUNTED = frozenset(
    ["dice", "iou", "precision", "recall", "volume_difference", "relative_volume_error", "volume_difference_voxels"]
)


def check_values(opened: Opened) -> Iterator[Finding]:
    """Check 4: ranges, counts that add up, scores that follow from counts, and empty masks treated as stated."""
    checks = {metric.id: _Values(metric) for metric in opened.record.metrics}
    # Rows are sorted, so those of one case and of one pair of masks stand together.
    case: str | None = None
    label: int | None = None
    of_case: tuple[Any, ...] = ()
    masks = _Masks(())
    for row in opened.rows:
        stated = row[6:]
        if row[0] != case:
            case, label, of_case = row[0], None, stated[5:]
        elif stated[5:] != of_case:
            yield Finding(4, "error", _place(row), "spacing, seconds or prediction differ from other rows of the case")
        if row[1] != label:
            label, masks = row[1], _Masks(())
        metric = checks.get(row[3])
        if metric is not None and metric.soft:  # its counts are of p > 0.5, not of the label map
            wrong = metric.fault_of_sums(row, _Masks(stated), opened.sums)
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
        expected = self._from_counts(row, *masks.stated[:3])
        if expected is not None and differ(value, expected):
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

    def _from_counts(self, row: CaseRow, tp: int, fp: int, fn: int) -> float | None:
        if self.short == "dice":
            return 2 * tp / (2 * tp + fp + fn)
        if self.short == "iou":
            return tp / (tp + fp + fn)
        if self.short == "precision":
            return tp / (tp + fp)
        if self.short == "recall":
            return tp / (tp + fn)
        if self.short == "volume_difference_voxels":
            return float(abs(fp - fn))
        if self.short == "relative_volume_error":
            return abs(fp - fn) / (tp + fn)
        if self.short == "volume_difference" and row.spacing_x and row.spacing_y and row.spacing_z:
            return abs(fp - fn) * row.spacing_x * row.spacing_y * row.spacing_z / 1000.0
        return None
