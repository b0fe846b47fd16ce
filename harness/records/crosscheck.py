"""What only several records together can show: copies, twins that started alike, references that disagree.

Each record is boiled down to a `Summary` where it is read, so that memory does not grow with the number of cases.
"""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.records.identity import keys
from harness.records.opened import Opened
from harness.records.verification import Finding

__all__ = ["Summary", "compare", "summarise"]

_SEEDLESS = ("zero_training_baseline", "eval_only")  # they train nothing, so seeds cannot change what they predict
_BAND_SEEDS = 5
_BAND_SD = 6.0


@dataclass(frozen=True)
class Summary:
    """What a record is compared with others by."""

    run_id: str
    created: str
    kind: str
    init: str
    cell: str
    twin: str
    sweep: str
    dataset: str
    reference: str
    state: str | None
    predictions: str | None
    headline: float | None
    supersedes: str | None


def summarise(opened: Opened) -> Summary:
    """Boil a record down."""
    record = opened.record
    found = keys(opened.raw if opened.raw.get("schema_version") == record.schema_version else record.to_json())
    labels = "/".join(sorted(record.dataset.classes))
    return Summary(
        run_id=record.run_id,
        created=record.created,
        kind=record.kind,
        init=record.model.init,
        cell=found.cell,
        twin=found.twin,
        sweep=found.sweep,
        dataset=f"{record.dataset.id}/{record.dataset.fingerprint.scored}/{labels}",
        reference=_reference(opened),
        state=record.weights.state_sha256,
        predictions=record.predictions_sha256 if _says_something(opened) else None,
        headline=record.metrics[0].value if record.metrics else None,
        supersedes=record.supersedes,
    )


def _says_something(opened: Opened) -> bool:
    """Tell whether any row comes from more than a constant map.

    Networks that found nothing at all, or called every voxel the same class, agree by accident, not by copying.
    """
    if opened.columns is not None:
        return any(map(_is_no_constant, *opened.columns.masks[2:5]))
    return any(_is_no_constant(row.fn, row.n_ref, row.n_pred) for row in opened.rows)


def _is_no_constant(fn: int | None, n_ref: int | None, n_pred: int | None) -> bool:
    found, reference = n_pred or 0, max(n_ref or 0, 1)
    everywhere = fn == 0 and found > 20 * reference
    return found > 0 and not everywhere


def _reference(opened: Opened) -> str:
    """Hash the reference's voxel counts per case and class: the label histogram of the scored cases."""
    columns = opened.columns
    if columns is not None and columns.of_row is None:
        counted = zip(columns.layout.of_masks, columns.masks[3], strict=True)
        quick = "".join([f"{masks}{count}\n" for masks, count in counted if count is not None])
        return hashlib.sha256(quick.encode()).hexdigest() if quick else ""
    counts = {(row.case_id, row.class_id): row.n_ref for row in opened.rows if row.n_ref is not None}
    lines = "".join(f"{case}\t{label}\t{count}\n" for (case, label), count in sorted(counts.items()))
    return hashlib.sha256(lines.encode()).hexdigest() if counts else ""


def compare(summaries: Sequence[Summary]) -> dict[str, list[Finding]]:
    """Compare records with one another.

    Returns
    -------
    dict of str to list of Finding
        By run id.
    """
    findings: dict[str, list[Finding]] = defaultdict(list)
    for check in (_copies, _twins, _references, _bands, _corrections):
        for run_id, finding in check(summaries):
            findings[run_id].append(finding)
    return dict(findings)


def _groups(summaries: Sequence[Summary], key: str) -> Iterator[list[Summary]]:
    groups: dict[str, list[Summary]] = defaultdict(list)
    for one in summaries:
        if getattr(one, key):
            groups[getattr(one, key)].append(one)
    yield from (group for group in groups.values() if len(group) > 1)


def _copies(summaries: Sequence[Summary]) -> Iterator[tuple[str, Finding]]:
    """Check 7: other cells cannot have predicted the very same voxels."""
    for group in _groups([one for one in summaries if one.kind not in _SEEDLESS], "predictions"):
        first, *others = sorted(group, key=lambda one: (one.created, one.run_id))
        for other in others:
            if other.cell != first.cell:
                message = f"are those of {first.run_id}, which is another cell; one of the two is a copy"
                yield other.run_id, Finding(7, "error", "predictions_sha256", message)


def _twins(summaries: Sequence[Summary]) -> Iterator[tuple[str, Finding]]:
    """Check 7: a pretrained run and its scratch twin cannot have started from the same parameters."""
    for group in _groups(summaries, "twin"):
        scratch = {one.state: one for one in group if one.init == "scratch" and one.state}
        for one in group:
            if one.init != "scratch" and one.state in scratch:
                message = f"equals that of the scratch twin {scratch[one.state].run_id}: nothing was loaded"
                yield one.run_id, Finding(7, "error", "weights.state_sha256", message)


def _references(summaries: Sequence[Summary]) -> Iterator[tuple[str, Finding]]:
    """Check 4: on the same data every record must have found the same number of reference voxels."""
    for group in _groups([one for one in summaries if one.reference], "dataset"):
        ((common, votes),) = Counter(one.reference for one in group).most_common(1)
        for one in group:
            if one.reference != common or votes * 2 <= len(group):
                message = f"differs from that of other records of {one.dataset.split('/')[0]} with this fingerprint"
                yield one.run_id, Finding(4, "error", "cases.csv: n_ref", message)


def _bands(summaries: Sequence[Summary]) -> Iterator[tuple[str, Finding]]:
    """Check 9: a seed far outside the band of its fellow seeds is for a person to look at."""
    for group in _groups([one for one in summaries if one.headline is not None], "sweep"):
        for one in group:
            others = [other.headline for other in group if other is not one and other.headline is not None]
            if one.headline is None or len(others) < _BAND_SEEDS:
                continue
            centre, spread = statistics.fmean(others), statistics.stdev(others)
            if spread > 0 and abs(one.headline - centre) > _BAND_SD * spread:
                message = f"is {one.headline:.4f}; {len(others)} other seeds give {centre:.4f} with sd {spread:.4f}"
                yield one.run_id, Finding(9, "warning", "metrics", message)


def _corrections(summaries: Sequence[Summary]) -> Iterator[tuple[str, Finding]]:
    """Check 10: a correction names a record that is here."""
    known = {one.run_id for one in summaries}
    for one in summaries:
        if one.supersedes is not None and one.supersedes not in known:
            message = f"names {one.supersedes}, which is not among these records"
            yield one.run_id, Finding(10, "warning", "supersedes", message)
