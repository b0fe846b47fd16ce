"""The data of one cell, from the folder on disk to prepared volumes: found, divided, checked, prepared."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.cards.dataset import DatasetCard
from harness.data.cache import Cache
from harness.data.check import CheckReport, check
from harness.data.contract import InputChoice, Meeting, padded
from harness.data.layouts import Case, locate_set
from harness.data.placement import placed
from harness.data.preprocessing import prepare
from harness.data.settings import Preprocessing
from harness.data.splits import ResolvedSplit, resolve

__all__ = ["CellData", "Division", "open_cell", "prepare_checked"]


@dataclass(frozen=True)
class Division:
    """Which cases of a data set a cell uses; see `harness.data.splits.resolve`."""

    split: str | None = None
    fold: int = 0
    label_fraction: float = 1.0
    subset_seed: int = 0


@dataclass(frozen=True)
class CellData:
    """Prepared volumes, and how they came about.

    Attributes
    ----------
    card : DatasetCard
        Marked as synthetic where the folder holds made-up volumes.
    cases : mapping of str to Case
        Every case on disk.
    split : ResolvedSplit
        Who trains, validates and is scored.
    report : CheckReport
        What the check found in the cases that are used.
    cache : Cache
        The prepared volumes of these cases.
    preprocessing : Preprocessing
        What was done to prepare them.
    rules : tuple of str
        Every rule that was needed for the volumes to meet the weights.
    seconds : float
        Time of the preparation.
    """

    card: DatasetCard
    cases: Mapping[str, Case]
    split: ResolvedSplit
    report: CheckReport
    cache: Cache
    preprocessing: Preprocessing
    rules: tuple[str, ...]
    seconds: float


def open_cell(
    card: DatasetCard,
    card_folder: Path,
    meeting: Meeting,
    choice: InputChoice,
    division: Division,
    patch: tuple[int, int, int],
    *,
    scored_only: bool,
    root: Path | None,
    cache: Path,
    workers: int,
) -> CellData:
    """Find, divide, check and prepare the cases of one cell.

    Parameters
    ----------
    card, card_folder
        The data set, and where its card lies.
    meeting : Meeting
        The preprocessing that was agreed on with the weights.
    choice : InputChoice
        What the protocol allows.
    division : Division
        Which cases.
    patch : tuple of 3 int
        Size of what the network sees at once, in voxels of the prepared volumes.
    scored_only : bool
        Whether training and validation cases are left alone, since nothing is trained.
    root : Path or None
        Where the volumes lie, if it was said for this command.
    cache : Path
        Where prepared volumes are kept.
    workers : int
        Processes that read.

    Raises
    ------
    UserError
        The data are not there, not what the card says, or do not meet the weights.
    """
    card, cases = locate_set(card, card_folder, root)
    split = resolve(card, division.split, division.fold, division.label_fraction, division.subset_seed, ids=cases)
    needed = sorted({*split.scored} if scored_only else {*split.train, *split.val, *split.scored})
    report = check(card, cases, needed=needed, workers=workers, cache=cache)
    report.refuse()
    used = {case: cases[case] for case in needed}
    prepared, rules, seconds = prepare_checked(card, used, report, meeting, choice, cache=cache, workers=workers)
    rules += padded({case: prepared.case(case).image.shape[1:] for case in needed}, patch)
    return CellData(card, cases, split, report, prepared, meeting.preprocessing, rules, seconds)


def prepare_checked(
    card: DatasetCard,
    cases: Mapping[str, Case],
    report: CheckReport,
    meeting: Meeting,
    choice: InputChoice,
    *,
    cache: Path,
    workers: int,
) -> tuple[Cache, tuple[str, ...], float]:
    """Prepare cases that passed the check; return the volumes, the rules it took so far, and the seconds.

    Raises
    ------
    UserError
        A header does not place its volume in the body, and the protocol does not allow that.
    """
    rules = (*meeting.rules, *placed(cases, allow=choice.allow_unplaced))
    begin = time.perf_counter()
    prepared = prepare(card, cases, report.facts, meeting.preprocessing, cache, workers=workers)
    return prepared, rules, time.perf_counter() - begin
