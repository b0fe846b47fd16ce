"""Verification: every check that a record's own files, the cards and its fellow records allow. Hard on any error."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from harness.errors import HarnessError, UserError
from harness.progress import track
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
from harness.records.crew import Crew
from harness.records.crosscheck import Summary, compare, summarise
from harness.records.index import check_index
from harness.records.opened import Opened, check_bytes, open_record
from harness.records.registry import Registry
from harness.records.store import RECORD
from harness.records.verification import Finding, Verification

__all__ = [
    "Finding",
    "Verification",
    "find_records",
    "record_folder",
    "verify",
    "verify_all",
    "verify_opened",
]

_SAMPLE = 100  # one record in so many has its intervals drawn again, unless all are asked for
_WORTH_WORKERS = 100  # fewer records are checked before another interpreter has started
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
        The record's folder, its ``record.json``, or the run's folder with ``record/`` in it.
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
    return _verify(path, rescore, full, tuple(cards), data_root)[0]


def _verify(
    path: Path, rescore: bool, full: bool, cards: tuple[Path, ...], data_root: Path | None
) -> tuple[Verification, Summary | None]:
    folder = record_folder(path)
    try:
        opened = open_record(folder)
    except HarnessError as error:
        return Verification(folder, None, (Finding(1, "error", RECORD, str(error)),), 0), None
    found = verify_opened(opened, rescore=rescore, full=full, cards=cards, data_root=data_root)
    return found, summarise(opened)


def verify_opened(
    opened: Opened,
    *,
    rescore: bool = False,
    full: bool = False,
    cards: Iterable[Path] = (),
    data_root: Path | None = None,
) -> Verification:
    """Check a record that `harness.records.opened.open_record` read already; see `verify`."""
    registry = Registry(tuple(cards))
    findings = [*opened.faults, *_checks(opened, registry, full or _in_sample(opened))]
    if rescore:
        from harness.records.rescore import rescore as score_again

        findings += score_again(opened, registry, data_root)
    ordered = _ordered(findings)
    return Verification(opened.folder, opened.record.run_id, ordered, _trust(opened, ordered, rescore))


def verify_all(
    paths: Iterable[Path],
    *,
    rescore: bool = False,
    full: bool = False,
    cards: Iterable[Path] = (),
    data_root: Path | None = None,
    workers: int = 1,
) -> list[Verification]:
    """Check every record below some folders, each by itself and all against one another.

    Parameters
    ----------
    paths : iterable of Path
        Folders with records at any depth. Where one is a results repository (`harness.records.archive`), its index
        is checked as well.
    workers : int
        Processes. Other parameters are those of `verify`.

    Returns
    -------
    list of Verification
        Sorted by path. A folder of a record that the index names and that is gone has one too.

    Raises
    ------
    UserError
        A path does not exist, or there is no record below any of them.
    """
    tops = list(paths)
    folders = sorted({folder for top in tops for folder in find_records(top)})
    work = functools.partial(_verify, rescore=rescore, full=full, cards=tuple(cards), data_root=data_root)
    with Crew(workers, worth=2 if rescore or full else _WORTH_WORKERS) as crew:
        pairs = list(track(crew.map(work, folders), "verifying records", total=len(folders)))
    lost = [finding for top in tops for finding in check_index(top, {pair[0].run_id for pair in pairs})]
    if not pairs and not lost:
        raise UserError(f"There is no {RECORD} below {', '.join(map(str, tops))}. Name a run, or a folder of runs.")
    joint = compare([summary for _, summary in pairs if summary is not None])
    verdicts = [_joined(verdict, joint.get(verdict.run_id or "", [])) for verdict, _ in pairs]
    return [*verdicts, *(Verification(path, run_id, (finding,), 0) for path, run_id, finding in lost)]


def find_records(top: Path) -> Iterator[Path]:
    """Yield every folder below ``top`` that holds ``record.json``; links to folders are not followed."""
    if not top.exists():
        raise UserError(f"There is no folder {top}. Check the path.")
    top = record_folder(top)
    for folder, below, names in os.walk(top):
        below[:] = [name for name in below if not name.startswith(".")]
        if RECORD in names:
            yield Path(folder)
            below.clear()


def _joined(verdict: Verification, more: list[Finding]) -> Verification:
    if not more:
        return verdict
    trust = 0 if any(finding.level == "error" for finding in more) else verdict.trust
    return replace(verdict, findings=_ordered([*verdict.findings, *more]), trust=trust)


def _ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (_WEIGHT[finding.level], finding.check)))


def record_folder(path: Path) -> Path:
    """Return the folder that holds ``record.json``: the given one, ``record/`` in it, or that of the file itself."""
    if path.name == RECORD and path.is_file():
        return path.parent
    return path if (path / RECORD).is_file() or not (path / "record" / RECORD).is_file() else path / "record"


def _checks(opened: Opened, registry: Registry, intervals: bool) -> Iterator[Finding]:
    yield from check_bytes(opened)
    yield from check_config(opened, registry)
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
    if code.dirty or code.commit == "unknown" or not len(opened.layout):
        return 1
    return 3 if rescored and not any(finding.check == 6 for finding in findings) else 2
