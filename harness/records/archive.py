"""A results repository: records by content address, added by any number of processes at once, never edited.

::

    <root>/index.txt                                                        every record ever added, one a line
    <root>/<dataset>/<split>/<model>/<variant>/<init>/<run_id>/record.json  and the files beside it
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import HarnessError, UserError
from harness.files import canonical_json, write_text
from harness.records.identity import record_path
from harness.records.index import append, entries, hold
from harness.records.opened import LARGEST
from harness.records.schema import Attestation, Record
from harness.records.store import RECORD, load
from harness.records.verification import Finding, Verification
from harness.records.verify import record_folder, verify

__all__ = ["Archive", "attest", "regressions"]


class Archive:
    """The repository below one folder.

    Parameters
    ----------
    root : Path
        Made where it does not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, source: Path, *, pictures: bool = True, cards: Iterable[Path] = ()) -> Path:
        """Add a record; adding it again changes nothing.

        Parameters
        ----------
        source : Path
            The record's folder, or the run's.
        pictures : bool
            Whether its pictures may be published too; the terms of some data forbid it.
        cards : iterable of Path
            Folders of the user's own cards.

        Returns
        -------
        Path
            The record's folder in the repository.

        Raises
        ------
        UserError
            The record is not valid, or another one has its place.
        HarnessError
            The repository cannot be written to.
        """
        verify(source, cards=cards).refuse()
        folder = record_folder(source)
        place = record_path(load(folder))
        target = self.root / place
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                self._put(folder, target, pictures)
            self._refuse_other(folder, target)
            with hold(self.root):
                append(self.root, place)
        except OSError as error:
            raise HarnessError(
                f"Could not add to {self.root}: {error.strerror or error}. The record is not in it."
            ) from error
        return target

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Yield folder and record of everything that was added and is still there."""
        for place in entries(self.root):
            if (self.root / place / RECORD).is_file():
                yield self.root / place, load(self.root / place)

    def _put(self, folder: Path, target: Path, pictures: bool) -> None:
        """Copy to a hidden folder first; one rename makes the whole record appear at once, or not at all."""
        aside = Path(tempfile.mkdtemp(prefix=".adding-", dir=self.root))
        try:
            for name in [*(name for name in LARGEST if name != RECORD), RECORD]:
                if (folder / name).is_file():
                    _copy(folder / name, aside / name)
            if pictures and (folder / "slices").is_dir():
                (aside / "slices").mkdir()
                for path in sorted((folder / "slices").iterdir()):
                    _copy(path, aside / "slices" / path.name)
            aside.chmod(0o755)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                aside.rename(target)
            except OSError:
                # Somebody else was quicker with this very record; anything else is an error.
                if not target.is_dir():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _refuse_other(self, folder: Path, target: Path) -> None:
        if load(folder).to_json() | {"attestations": []} != load(target).to_json() | {"attestations": []}:
            raise UserError(
                f"{target} holds another record under the same id. Records are never edited: one of the two was "
                "changed after it was made."
            )


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())


def attest(verification: Verification, by: str, method: str, tool_commit: str, signature: str | None = None) -> Record:
    """Note in a record that it was just checked. The level is what the checks support; nobody can type another one.

    Raises
    ------
    UserError
        The record is not valid, or the checks support no level above self-run.
    """
    verification.refuse()
    if verification.trust < 2:
        raise UserError(f"The checks support the level {verification.trust_name!r}, and that needs no attestation.")
    record = load(verification.path)
    note = {
        "level": verification.trust,
        "by": by,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "method": method,
        "tool_commit": tool_commit,
        "signature": signature,
    }
    made = record.model_copy(update={"attestations": (*record.attestations, Attestation.model_validate(note))})
    write_text(verification.path / RECORD, canonical_json(made.to_json()))
    return made


def regressions(base: Path, head: Path) -> list[Finding]:
    """Check 10 between two states of a repository, such as a pull request and what it is asked to change.

    Returns
    -------
    list of Finding
        An error for each record of ``base`` that ``head`` deletes or edits, and for an index that lost lines.
    """
    findings = []
    before, after = entries(base), entries(head)
    lost = sorted(set(before) - set(after))
    if lost:
        findings.append(Finding(10, "error", "index.txt", f"{len(lost)} lines were removed, such as {lost[0]}"))
    for place in before:
        old, new = base / place, head / place
        if not (new / RECORD).is_file():
            findings.append(Finding(10, "error", place, "the record was deleted; withdraw it instead"))
        elif _content(old) != _content(new):
            findings.append(Finding(10, "error", place, "the record was edited; a correction is a new record"))
        elif _lost_attestations(old, new):
            findings.append(Finding(10, "error", place, "attestations were removed; history stays"))
    return findings


def _content(folder: Path) -> dict[str, object]:
    files: dict[str, object] = {name: (folder / name).read_bytes() for name in LARGEST if (folder / name).is_file()}
    return files | {RECORD: load(folder).to_json() | {"attestations": []}}


def _lost_attestations(old: Path, new: Path) -> bool:
    before, after = load(old).attestations, load(new).attestations
    return after[: len(before)] != before
