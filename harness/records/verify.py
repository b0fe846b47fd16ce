"""Verification: every check that a record's own files, the cards and its fellow records allow. Hard on any error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.errors import UserError
from harness.records.check_cases import check_aggregates, check_complete
from harness.records.check_facts import (
    check_config,
    check_declarations,
    check_identity,
    check_loading,
    check_privacy,
    check_separation,
)
from harness.records.check_values import check_values
from harness.records.opened import Opened, check_bytes, open_record
from harness.records.registry import Registry
from harness.records.store import RECORD
from harness.records.verification import Finding, Verification

__all__ = ["Finding", "Verification", "record_folder", "verify"]

_SAMPLE = 100  # one record in so many has its intervals drawn again, unless all are asked for
_WEIGHT = {"error": 0, "warning": 1, "note": 2}


def verify(
    path: Path,
    *,
    rescore: bool = False,
    full: bool = False,
    cards: Iterable[Path] = (),
    data_root: Path | None = None,
) -> Verification:
    """Check one record.

    Parameters
    ----------
    path : Path
        The record's folder, or the run's folder with ``record/`` in it.
    rescore : bool
        Compare the predictions that lie beside the record's folder (``../predictions/<case>.nii.gz``) with the data
        set's references again.
    full : bool
        Draw the intervals again too. By default this is done for one record in a hundred, chosen by its id.
    cards : iterable of Path
        Folders of the user's own cards.
    data_root : Path, optional
        Where the data set lies, for re-scoring.

    Returns
    -------
    Verification
        With every finding; it never raises for what is wrong with the record.
    """
    folder = record_folder(path)
    try:
        opened = open_record(folder)
    except UserError as error:
        return Verification(folder, None, (Finding(1, "error", RECORD, str(error)),), 0)
    registry = Registry(tuple(cards))
    findings = [*opened.faults, *_checks(opened, registry, full or _in_sample(opened))]
    if rescore:
        from harness.records.rescore import rescore as score_again

        findings += score_again(opened, registry, data_root)
    ordered = tuple(sorted(findings, key=lambda finding: (_WEIGHT[finding.level], finding.check)))
    return Verification(folder, opened.record.run_id, ordered, _trust(opened, ordered, rescore))


def record_folder(path: Path) -> Path:
    """Return the folder that holds ``record.json``: the given one, or ``record/`` in it."""
    return path if (path / RECORD).is_file() or not (path / "record" / RECORD).is_file() else path / "record"


def _checks(opened: Opened, registry: Registry, intervals: bool) -> Iterator[Finding]:
    yield from check_bytes(opened)
    yield from check_config(opened)
    yield from check_complete(opened)
    yield from check_aggregates(opened, intervals=intervals)
    yield from check_values(opened)
    yield from check_identity(opened, registry)
    yield from check_loading(opened, registry)
    yield from check_separation(opened, registry)
    yield from check_privacy(opened)
    yield from check_declarations(opened)


def _in_sample(opened: Opened) -> bool:
    return int(opened.record.run_id, 16) % _SAMPLE == 0


def _trust(opened: Opened, findings: tuple[Finding, ...], rescored: bool) -> int:
    """Return the level that the checks just made support; see `Verification`."""
    if any(finding.level == "error" for finding in findings):
        return 0
    code = opened.record.harness
    if code.dirty or code.commit == "unknown" or not opened.rows:
        return 1
    return 3 if rescored and not any(finding.check == 6 for finding in findings) else 2
