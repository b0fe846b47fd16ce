"""Checks 2 and 3: the case file is complete, and the aggregates follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness.errors import UserError
from harness.records.aggregate import aggregate, aggregate_columns
from harness.records.columns import Layout
from harness.records.opened import Opened
from harness.records.predictions import parse_predictions
from harness.records.schema import ClassValue, Metric, Record
from harness.records.verification import Finding, differ

__all__ = ["check_aggregates", "check_complete"]


def check_complete(opened: Opened) -> Iterator[Finding]:
    """Check 2: every scored case, class and metric exactly once, and nothing else."""
    record, layout = opened.record, opened.layout
    if len(layout) != record.cases_file.rows:
        message = f"says {record.cases_file.rows}, but cases.csv has {len(layout)} rows"
        yield Finding(2, "error", "cases_file.rows", message)
    yield from _check_classes(record, layout)
    stated, found = {metric.id for metric in record.metrics}, set(layout.metrics)
    if stated != found:
        yield Finding(2, "error", "metrics", f"names {_set(stated)}, but cases.csv holds {_set(found)}")
    if not layout.complete:
        yield from _check_once(layout)
    yield from _check_case_ids(opened)


def _check_once(layout: Layout) -> Iterator[Finding]:
    keys, expected = layout.keys, len(layout.cases) * len(set(layout.class_ids)) * layout.n_metrics
    if len(keys) != len(layout) or len(keys) != expected:
        counted = Counter(zip(layout.case_ids, layout.class_ids, layout.metric_ids, strict=True))
        twice = next((key for key, count in counted.items() if count > 1), None)
        detail = f"{twice} appears twice" if twice else f"{len(keys)} rows instead of {expected}"
        yield Finding(2, "error", "cases.csv", f"not every case has every class and metric exactly once: {detail}")


def _check_classes(record: Record, layout: Layout) -> Iterator[Finding]:
    expected, found = set(record.dataset.class_ids.items()), set(layout.classes)
    if len(layout) and record.dataset.label_map is not None and found != expected:
        yield Finding(2, "error", "dataset.label_map", f"gives the classes {_set(expected)}, cases.csv {_set(found)}")


def _check_case_ids(opened: Opened) -> Iterator[Finding]:
    record, cases = opened.record, opened.layout.cases
    role, counts = record.split.scored_role, record.dataset.n_cases
    stated = counts.test if role == "test" else counts.val if role is not None else None
    if record.status == "complete" and record.kind != "pretrain" and stated is not None and stated != len(cases):
        field = "dataset.n_cases.test" if role == "test" else "dataset.n_cases.val"
        yield Finding(2, "error", field, f"says {stated} scored cases, but cases.csv has {len(cases)}")
    failed = _failed(opened)
    if failed and record.status == "complete":
        yield Finding(2, "error", "status", f"says complete, but {len(failed)} cases failed, such as {failed[0]}")
    left_out = cases & {excluded.case_id for excluded in record.dataset.excluded}
    if left_out:
        yield Finding(2, "error", "dataset.excluded", f"names {_set(set(left_out))}, which were scored all the same")
    yield from _check_predictions(opened, cases, failed)


def _failed(opened: Opened) -> list[str]:
    if opened.columns is not None and "failed" not in opened.columns.reasons:
        return []
    return sorted({row.case_id for row in opened.rows if row.reason == "failed"})


def _check_predictions(opened: Opened, cases: frozenset[str], failed: list[str]) -> Iterator[Finding]:
    if "predictions.txt" not in opened.files or opened.predictions is not None:
        return
    try:
        predicted = parse_predictions(opened.files["predictions.txt"].decode("utf-8", errors="replace"))
    except UserError as error:
        yield Finding(2, "error", "predictions.txt", str(error))
        return
    if set(predicted) - set(failed) != cases - set(failed):
        odd = set(predicted) ^ cases
        yield Finding(2, "error", "predictions.txt", f"names other cases than cases.csv: {_set(odd)}")
    wrong = {row.case_id for row in opened.rows if row.prediction_sha256 != predicted.get(row.case_id)}
    if wrong:
        yield Finding(2, "error", "predictions.txt", f"gives other hashes than cases.csv for {_set(wrong)}")


def check_aggregates(opened: Opened, *, intervals: bool) -> Iterator[Finding]:
    """Check 3: every value recomputed from the rows; intervals with the same draws where asked."""
    record = opened.record
    if not len(opened.layout):
        if record.metrics:
            yield Finding(3, "error", "metrics", "there are no rows to compute them from")
        return
    for stated in record.metrics:
        try:
            found = _again(opened, stated, intervals=intervals and stated.ci95 is not None)
        except (UserError, ValueError) as error:
            yield Finding(3, "error", f"metrics.{stated.id}", f"cannot be recomputed: {error}")
            continue
        yield from _compare(stated, found, intervals)


def _again(opened: Opened, stated: Metric, *, intervals: bool) -> Metric:
    seed = (stated.ci95_method.seed if stated.ci95_method is not None else 0) or 0
    columns, how = opened.columns, stated.averaging
    known = columns is not None and columns.layout.complete and stated.id in columns.layout.metrics
    if columns is not None and known and how != "pooled":
        return aggregate_columns(columns, stated.id, stated.policy, how, seed=seed if intervals else None)
    (found,) = aggregate(
        [row for row in opened.rows if row.metric_id == stated.id],
        policy=stated.policy,
        averaging={stated.id: stated.averaging},
        intervals=intervals,
        seed=seed,
        sums=opened.sums,
    )
    return found


def _compare(stated: Metric, found: Metric, intervals: bool) -> Iterator[Finding]:
    place = f"metrics.{stated.id}"
    if stated.definition_sha256 != found.definition_sha256:
        message = "is not the hash of this release's definition, so another formula may have been used"
        yield Finding(5, "error", f"{place}.definition_sha256", message)
    for name in ("unit", "higher_is_better", "grid", "empty_rule", "n_cases", "n_undefined"):
        if getattr(stated, name) != getattr(found, name):
            message = f"says {getattr(stated, name)}, but recomputing gives {getattr(found, name)}"
            yield Finding(3, "error", f"{place}.{name}", message)
    if differ(stated.value, found.value):
        yield Finding(3, "error", f"{place}.value", f"says {stated.value}, but the rows give {found.value}")
    for name in sorted(stated.per_class.keys() | found.per_class.keys()):
        one, other = stated.per_class.get(name), found.per_class.get(name)
        if one is None or other is None or _counts(one) != _counts(other) or differ(one.value, other.value):
            yield Finding(3, "error", f"{place}.per_class.{name}", f"says {one}, but the rows give {other}")
    if stated.ci95 is None and found.n_cases > 1 and stated.averaging == "class_then_case":
        yield Finding(3, "error", f"{place}.ci95", f"is null, but {found.n_cases} cases allow an interval")
    if stated.ci95 is not None and not _brackets(stated):
        yield Finding(3, "error", f"{place}.ci95", f"{list(stated.ci95)} is no interval around {stated.value}")
    if intervals and stated.ci95 is not None:
        if found.ci95 is None or any(differ(a, b) for a, b in zip(stated.ci95, found.ci95, strict=True)):
            yield Finding(3, "error", f"{place}.ci95", f"says {stated.ci95}, but the same draws give {found.ci95}")
        elif stated.ci95_method != found.ci95_method:
            yield Finding(3, "error", f"{place}.ci95_method", f"says {stated.ci95_method}, not {found.ci95_method}")


def _brackets(metric: Metric) -> bool:
    low, high = metric.ci95 or (0.0, 0.0)
    # A BCa interval of very skewed scores may miss the mean, but never the range that the metric can take.
    return low <= high and (metric.unit != "fraction" or not metric.higher_is_better or (low >= 0 and high <= 1))


def _counts(value: ClassValue) -> tuple[int, int, int]:
    return value.n, value.n_undefined, value.n_not_annotated


def _set(items: object) -> str:
    listed = sorted(items, key=str) if isinstance(items, set) else [items]
    shown = ", ".join(str(item) for item in listed[:6])
    return f"{shown}{', …' if len(listed) > 6 else ''}" or "nothing"
