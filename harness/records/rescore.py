"""Check 6: the kept predictions against the references once more. The same masks must give the same scores to 1e-6."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.fingerprint import label_map_sha256
from harness.data.layouts import Case, find_cases
from harness.data.reading import as_labels, read
from harness.data.reference import Reference, read_reference
from harness.data.roots import data_root as find_root
from harness.data.volume import Volume
from harness.errors import HarnessError
from harness.progress import track
from harness.records.cases import CaseRow, case_rows
from harness.records.opened import Opened
from harness.records.registry import Registry
from harness.records.verification import Finding, differ
from harness.scoring import score
from harness.scoring.definitions import from_record_id

__all__ = ["rescore"]

_CORNER_TOLERANCE_MM = 1e-3


def rescore(opened: Opened, registry: Registry, data_root: Path | None = None) -> list[Finding]:
    """Score every kept prediction again.

    Parameters
    ----------
    opened : Opened
        The record; its predictions lie in ``../predictions/<case>.nii.gz``.
    registry : Registry
        Says how the data set lies on disk.
    data_root : Path, optional
        Where it lies; by default as `harness.data.roots.data_root` finds it.

    Returns
    -------
    list of Finding
        Empty where every row was scored again and agrees. A note says why nothing could be.
    """
    card, folder = registry.dataset(opened.record), registry.dataset_folder(opened.record)
    place = opened.folder.parent / "predictions"
    if card is None or folder is None:
        return [Finding(6, "note", "predictions", f"no card says where {opened.record.dataset.id!r} lies")]
    if not place.is_dir():
        return [Finding(6, "note", "predictions", "no predictions lie beside the record; nothing was scored again")]
    try:
        cases = find_cases(card, find_root(card, folder, data_root))
    except HarnessError as error:
        return [Finding(6, "note", "predictions", f"the references cannot be found: {error}")]
    by_case: dict[str, list[CaseRow]] = defaultdict(list)
    for row in opened.rows:
        by_case[row.case_id].append(row)
    findings: list[Finding] = []
    for case, rows in track(sorted(by_case.items()), "scoring again"):
        findings += _case(opened, cases.get(case), rows, place / f"{case}.nii.gz")
    extra = sorted(path.name for path in place.glob("*.nii.gz") if path.name.removesuffix(".nii.gz") not in by_case)
    if extra:
        findings.append(Finding(6, "warning", "predictions", f"{len(extra)} label maps of no scored case: {extra[:4]}"))
    return findings


def _case(opened: Opened, case: Case | None, rows: list[CaseRow], path: Path) -> Iterator[Finding]:
    name = rows[0].case_id
    if case is None or case.label is None:
        yield Finding(6, "error", name, "the data set has no reference of this case")
        return
    try:
        predicted, reference = read(path), read_reference(case)
        labels = as_labels(predicted)
    except HarnessError as error:
        yield Finding(6, "error", name, f"cannot be scored again: {error}".replace(str(path.parent), "predictions"))
        return
    remap = {int(stored): value for stored, value in (opened.record.dataset.remap or {}).items()}
    if remap != dict(case.remap):
        yield Finding(6, "error", name, f"labels were renumbered {remap}; the data set card says {dict(case.remap)}")
        return
    if label_map_sha256(labels) != rows[0].prediction_sha256:
        yield Finding(6, "error", name, "the label map is not the one that was scored: its hash differs")
    misfit = _misfit(predicted, reference)
    if misfit:
        yield Finding(6, "error", name, f"prediction and reference do not lie on one grid: {misfit}")
        return
    yield from _compare(opened, rows, labels, reference.labels, reference.grid.spacing)


def _misfit(predicted: Volume, reference: Reference) -> str | None:
    if predicted.grid.shape != reference.grid.shape:
        return f"shapes {predicted.grid.shape} and {reference.grid.shape}"
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * [*(n - 1 for n in reference.grid.shape), 1]
    apart = float(np.abs(corners @ (predicted.grid.matrix - reference.grid.matrix).T).max())
    return f"corners are {apart:.3g} mm apart" if apart > _CORNER_TOLERANCE_MM else None


def _compare(
    opened: Opened, rows: list[CaseRow], labels: Any, truth: Any, spacing: tuple[float, float, float]
) -> Iterator[Finding]:
    record = opened.record
    ids = {metric.id: from_record_id(metric.id) for metric in record.metrics}
    scorable = {key: card for key, card in ids.items() if card.needs == "labels" and card.grid == "native"}
    if len(scorable) < len(ids):
        left = sorted(set(ids) - set(scorable))
        yield Finding(6, "note", rows[0].case_id, f"label maps cannot give {', '.join(left)}; these were not checked")
    undrawn = {row.class_name for row in rows if row.reason == "not_annotated"}
    classes = {name: list(values) for name, values in record.dataset.classes.items()}
    found = score(labels, truth, spacing, classes, [card.id for card in scorable.values()], not_annotated=undrawn)
    by_metric = {metric.id: metric.policy for metric in record.metrics}
    named = [{**row, "case_id": rows[0].case_id} for row in found]
    again: dict[tuple[str, str], CaseRow] = {}
    for policy in set(by_metric.values()):
        for row in case_rows(named, record.dataset.class_ids, policy=policy):
            if by_metric.get(row.metric_id) == policy:
                again[row.class_name, row.metric_id] = row
    for row in rows:
        other = again.get((row.class_name, row.metric_id))
        place = f"{row.case_id}, {row.class_name}, {row.metric_id}"
        if other is None:
            continue
        if row[6:11] != other[6:11]:
            yield Finding(6, "error", place, f"the counts are {other[6:11]}, not {row[6:11]}")
        elif differ(row.value, other.value):
            yield Finding(6, "error", place, f"scoring again gives {other.value}, not {row.value}")
