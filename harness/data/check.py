"""The validator of data sets: every case against its card, and the set of cases against its splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.cards.dataset import DatasetCard
from harness.data.archives import against_archives
from harness.data.case import Case
from harness.data.checked import Checked, Found, case_key
from harness.data.finding import Finding
from harness.data.fingerprint import fingerprint
from harness.data.inspection import CaseFacts, Look, inspect_case
from harness.errors import UserError
from harness.progress import track

__all__ = ["CaseFacts", "CheckReport", "Finding", "check"]

_SHOWN = 8


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes
    ----------
    dataset : str
        Id of the data set.
    findings : tuple of Finding
        Everything wrong, errors first.
    facts : dict of str to CaseFacts
        Per case that could be read.
    """

    dataset: str
    findings: tuple[Finding, ...]
    facts: dict[str, CaseFacts]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that forbid using the data."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    def refuse(self) -> None:
        """Raise UserError with the first errors if there is any; warnings pass."""
        errors = self.errors
        if not errors:
            return
        listing = " ".join(f"[{number}] {finding}" for number, finding in enumerate(errors[:_SHOWN], start=1))
        more = f" And {len(errors) - _SHOWN} more." if len(errors) > _SHOWN else ""
        plural = "" if len(errors) == 1 else "s"
        raise UserError(f"The data set {self.dataset!r} cannot be used; {len(errors)} error{plural}: {listing}{more}")

    def fingerprint(self, ids: Iterable[str] | None = None) -> str:
        """Return the fingerprint of these cases, or of all."""
        return fingerprint(self.facts, ids)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "dataset": self.dataset,
            "findings": [asdict(finding) for finding in self.findings],
            "cases": {case: facts.to_json() for case, facts in self.facts.items()},
            "fingerprint": self.fingerprint() if self.facts else None,
        }


def check(
    card: DatasetCard,
    cases: Mapping[str, Case],
    *,
    needed: Iterable[str] = (),
    workers: int = 1,
    cache: Path | None = None,
    look: Look | None = None,
    root: Path | None = None,
) -> CheckReport:
    """Open every file of every case once and compare what is there with the card and its splits.

    Parameters
    ----------
    card : DatasetCard
        What should be there.
    cases : mapping of str to Case
        From `harness.data.layouts.find_cases`.
    needed : iterable of str
        Ids that must be there, such as those of the split of a run; a missing one is an error. Ids of the card's
        splits that are not needed now are only warned of.
    workers : int
        Threads; decompression and hashing run beside each other.
    cache : Path, optional
        Folder that remembers what was found in files by their size and time; unchanged files are not read again.
    look : callable, optional
        Is shown the first image and the labels of each case that is opened, in the thread that opened it, so that a
        picture costs no second reading. Cases that are remembered are not opened for it.
    root : Path, optional
        The folder of the set; archives in it or beside it that the card names are hashed.

    Returns
    -------
    CheckReport
        It never raises for bad data; `CheckReport.refuse` does.
    """
    facts: dict[str, CaseFacts] = {}
    memory = Checked(card, cache)
    findings = list(_against_splits(card, cases, frozenset(needed)))
    findings += against_archives(card, root) if root is not None else ()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = pool.map(lambda case: _inspect(card, case, memory, look), cases.values())
        for case, (key, found) in zip(cases, track(results, f"check {card.id}", len(cases)), strict=True):
            memory.put(key, found)
            findings += found[1]
            if found[0] is not None:
                facts[case] = found[0]
    memory.save()
    findings += _doubles(facts)
    findings += _presence(card, facts)
    findings.sort(key=lambda finding: finding.level != "error")  # stable: the order of cases stays
    return CheckReport(dataset=card.id, findings=tuple(findings), facts=facts)


def _inspect(card: DatasetCard, case: Case, memory: Checked, look: Look | None) -> tuple[str | None, Found]:
    """Return what is known of a case, from memory or by opening its files."""
    key = case_key(card, case)
    return key, memory.get(key) or inspect_case(card, case, look)


def _against_splits(card: DatasetCard, cases: Mapping[str, Case], needed: frozenset[str]) -> Iterator[Finding]:
    for case in sorted(needed - set(cases)):
        mend = "Complete the data set, or choose a split without this case."
        yield Finding(case, "error", "case", "it in the data set, as the split names it", "no file of it", mend)
    for split in card.splits:
        if split.follows_disk:
            continue  # its parts follow from what is on disk
        named = {case for ids in split.parts.values() for case in ids}
        for what, ids, mend in (
            ("not on disk", named - set(cases) - needed, "The data set is incomplete, or the ids have another form."),
            ("in no part of the split", set(cases) - named, "They are not used with this split."),
        ):
            if ids:
                listing = ", ".join(sorted(ids)[:_SHOWN]) + (", …" if len(ids) > _SHOWN else "")
                found = f"{len(ids)} {what}: {listing}"
                yield Finding(None, "warning", f"cases of the split {split.id}", f"{len(named)} cases", found, mend)
    if card.num_cases is not None and len(cases) != card.num_cases:
        mend = "Compare with the official release."
        yield Finding(None, "warning", "number of cases", str(card.num_cases), str(len(cases)), mend)


def _doubles(facts: Mapping[str, CaseFacts]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for case, known in facts.items():
        twin = first.setdefault(known.image_sha256, case)
        if twin != case:
            mend = "One patient under two ids can be in training and test at once; remove one."
            yield Finding(case, "error", "image", "one that no other case has", f"that of {twin}, voxel by voxel", mend)


def _presence(card: DatasetCard, facts: Mapping[str, CaseFacts]) -> Iterator[Finding]:
    """Yield labels that occur in another number of cases than the card says, where the set is complete."""
    if len(facts) != card.num_cases:
        return
    for value, name in card.labels.items():
        wanted = card.present_in.get(name)
        found = sum(1 for known in facts.values() if known.label_histogram.get(value))
        if wanted is not None and wanted != found:
            mend = "Some labels were changed or renumbered; compare with the official release."
            yield Finding(None, "warning", f"cases with {name}", str(wanted), str(found), mend)
