"""What earlier checks found, kept per case by the size and time of its files, so that unchanged files are read once.

One JSON file per data set. A case is looked up by its files (path, bytes, time of change in nanoseconds), by everything
the card says but its splits, and by `VERSION`; where any of them changed, the case is opened again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.cards.dataset import DatasetCard
from harness.data.case import Case
from harness.data.finding import Finding
from harness.data.inspection import CaseFacts
from harness.errors import HarnessError
from harness.files import canonical_json, sha256_hex, write_json
from harness.progress import say

__all__ = ["VERSION", "Checked", "case_key"]

VERSION = 1  # of what `harness.data.inspection` finds; a new number makes every case be opened again
Found = tuple[CaseFacts | None, tuple[Finding, ...]]


class Checked:
    """The memory of checks of one data set in a folder; None as folder remembers nothing."""

    def __init__(self, card: DatasetCard, folder: Path | None) -> None:
        self._path = None if folder is None else folder / "checks" / f"{card.id}.json"
        self._entries = {} if self._path is None else _load(self._path)
        self._changed = False

    def get(self, key: str | None) -> Found | None:
        """Return what was found under a key, or None."""
        entry = None if key is None else self._entries.get(key)
        if entry is None:
            return None
        try:
            facts = None if entry["facts"] is None else CaseFacts.from_json(entry["facts"])
            return facts, tuple(Finding(**finding) for finding in entry["findings"])
        except (KeyError, TypeError, ValueError):
            return None  # somebody edited the file: the case is opened again

    def put(self, key: str | None, found: Found) -> None:
        """Remember what was found."""
        if key is None or self._path is None:
            return
        facts, findings = found
        self._changed = True
        self._entries[key] = {
            "facts": None if facts is None else facts.to_json(),
            "findings": [asdict(finding) for finding in findings],
        }

    def save(self) -> None:
        """Write the memory if it changed; a folder that cannot be written to costs time, not the check."""
        if self._path is None or not self._changed:
            return
        try:
            write_json(self._path, self._entries)
        except HarnessError as error:
            say(f"The results of the check are not kept: {error}")


def case_key(card: DatasetCard, case: Case) -> str | None:
    """Return the key of a case: of its card and files; None where a file is missing or a folder (a DICOM series)."""
    files = [*case.images, *(path for _, path in case.structures if path.exists())]
    if case.label is not None and not case.structures:
        files.append(case.label)
    signatures = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            return None
        if not path.is_file():
            return None
        signatures.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    rules = card.model_dump(mode="json", exclude={"splits"})
    return sha256_hex(canonical_json({"case": case.id, "card": rules, "files": signatures, "version": VERSION}))


def _load(path: Path) -> dict[str, Any]:
    """Read the memory; a damaged one is no memory."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
