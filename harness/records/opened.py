"""A record's folder, opened for checking: everything read once, nothing believed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import canonical_json, sha256_hex
from harness.records.cases import CaseRow, parse_cases
from harness.records.columns import Columns, Layout, read_columns
from harness.records.configuration import read_config
from harness.records.identity import record_path, result_id, run_id, run_id_of_text
from harness.records.migrations import migrate
from harness.records.predictions import lists
from harness.records.schema import Record, parse_record
from harness.records.store import RECORD, read_json
from harness.records.sums import FILE as SUMS
from harness.records.sums import parse_sums
from harness.records.verification import Finding
from harness.scoring.soft import SoftStatistics

__all__ = ["LARGEST", "Opened", "check_bytes", "open_record"]

# File caps in bytes: a record is text that people review. The case file is the largest: 1,251 cases x 26 classes x 3.
LARGEST = {
    RECORD: 1 << 20,
    "cases.csv": 64 << 20,
    "config.yaml": 1 << 20,
    "loading.json": 16 << 20,
    "log.jsonl": 64 << 20,
    "predictions.txt": 4 << 20,
    SUMS: 64 << 20,
    "packages.txt": 1 << 20,
}
LARGEST_PICTURE = 4 << 20


@dataclass(frozen=True)
class Opened:
    """One record and the files beside it.

    Attributes
    ----------
    raw : dict
        The stored JSON, before any migration.
    text : str
        The stored bytes of ``record.json``.
    files : dict of str to bytes
        The other files, by name.
    canonical : bool
        Whether the stored bytes are the one spelling of the record in the current schema.
    columns : Columns or None
        The case file by columns; None where it cannot be read, or not quickly.
    listed : list of CaseRow
        The case file where it could not be read quickly.
    sums : dict of str to dict
        The sums over probabilities by case and class; empty where none were kept or they cannot be read.
    """

    folder: Path
    raw: dict[str, Any]
    text: str
    record: Record
    canonical: bool
    files: dict[str, bytes]
    columns: Columns | None
    listed: list[CaseRow]
    scores_sha256: str | None
    config: Any
    config_sha256: str | None
    faults: tuple[Finding, ...]
    sums: dict[str, dict[str, SoftStatistics]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def rows(self) -> list[CaseRow]:
        """The case file row by row; empty where it cannot be read, which is a finding."""
        return self.listed if self.columns is None else self.columns.rows()

    @functools.cached_property
    def layout(self) -> Layout:
        """What the rows of the case file are about."""
        if self.columns is not None:
            return self.columns.layout
        cases, labels, names, metrics = zip(*[row[:4] for row in self.listed], strict=True) if self.listed else [()] * 4
        return Layout(cases, labels, names, metrics)

    @functools.cached_property
    def predictions(self) -> dict[str, str] | None:
        """Case to hash of its predicted label map, where ``predictions.txt`` lists just those of the case file."""
        of_cases = self.columns.of_cases() if self.columns is not None else None
        text = self.files.get("predictions.txt", b"").decode("utf-8", errors="replace")
        return dict(zip(*of_cases, strict=True)) if of_cases is not None and lists(text, *of_cases) else None


def open_record(folder: Path) -> Opened:
    """Read a record's folder.

    Raises
    ------
    UserError
        There is no record, its version is unknown, or it breaks the schema: then nothing else can be checked.
    """
    raw, text, record, canonical = _read_record(folder / RECORD)
    files, faults = _files(folder)
    listed: list[CaseRow] = []
    columns, scores, config, config_hash = None, None, None, None
    try:
        cases = files.get("cases.csv", b"").decode("utf-8")
        columns = read_columns(cases)
        listed, scores = ([], columns.scores_sha256) if columns is not None else parse_cases(cases)
    except (UserError, UnicodeDecodeError) as error:
        faults.append(Finding(2, "error", "cases.csv", str(error)))
    try:
        config, config_hash = read_config(files.get("config.yaml", b"").decode("utf-8"))
    except (UserError, UnicodeDecodeError) as error:
        faults.append(Finding(1, "error", "config.yaml", str(error)))
    sums: dict[str, dict[str, SoftStatistics]] = {}
    try:
        sums = parse_sums(files[SUMS].decode("utf-8")) if SUMS in files else {}
    except (UserError, UnicodeDecodeError) as error:
        faults.append(Finding(2, "error", SUMS, str(error)))
    beside = (files, columns, listed, scores, config, config_hash, tuple(faults), sums)
    return Opened(folder, raw, text, record, canonical, *beside)


def _read_record(path: Path) -> tuple[dict[str, Any], str, Record, bool]:
    """Return stored JSON, its text, the record, and whether the text is the record's one spelling.

    Where it is, the JSON cannot hold a key twice or a number that is none, and needs no parsing of its own.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError, UserError, ValueError):
        text = path.read_bytes().decode("utf-8")
        record = parse_record(text, RECORD)
        data = record.to_json()
        if canonical_json(data) == text:
            return migrate(data), text, record, True
    raw, text = read_json(path)
    lifted = migrate(raw)
    return raw, text, parse_record(text if lifted is raw else canonical_json(lifted), RECORD), False


def _files(folder: Path) -> tuple[dict[str, bytes], list[Finding]]:
    """Read every file that belongs to a record; whatever else lies there is a finding."""
    files: dict[str, bytes] = {}
    faults: list[Finding] = []
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name == "slices" and entry.is_dir(follow_symlinks=False):
            continue
        if entry.name not in LARGEST or not entry.is_file(follow_symlinks=False):
            faults.append(Finding(1, "error", entry.name, "this is no part of a record; a record has no other files"))
        elif entry.stat().st_size > LARGEST[entry.name]:
            size = f"{entry.stat().st_size:,} bytes, more than the {LARGEST[entry.name]:,} allowed"
            faults.append(Finding(11, "error", entry.name, f"the file has {size}"))
        elif entry.name != RECORD:
            files[entry.name] = Path(entry.path).read_bytes()
    return files, faults


def check_bytes(opened: Opened) -> Iterator[Finding]:
    """Check 1: canonical bytes, content addresses, place, and the hash of every file."""
    record, raw = opened.record, opened.raw
    current = raw.get("schema_version") == record.schema_version
    if not opened.canonical:
        if opened.text != canonical_json(raw):
            yield Finding(1, "error", RECORD, "the bytes are not the canonical spelling of what they say")
        elif current:
            message = (
                "a field is left out or spelled otherwise; every field is written, null with its reason if need be"
            )
            yield Finding(1, "error", RECORD, message)
    for field, stated, computed in (
        ("run_id", raw.get("run_id"), run_id_of_text(raw, opened.text) if opened.canonical else run_id(raw)),
        ("result_id", raw.get("result_id"), result_id(raw) if current else raw.get("result_id")),
    ):
        if stated != computed:
            yield Finding(1, "error", field, f"says {stated}, but the content hashes to {computed}; it was changed")
    yield from _check_place(opened)
    yield from _check_hashes(opened)


def _check_place(opened: Opened) -> Iterator[Finding]:
    """Compare content and path where the folder is named like a run id: it lies in a results repository then."""
    place = Path(os.path.realpath(opened.folder))
    looks_like_id = len(place.name) == 16 and not set(place.name) - set("0123456789abcdef")
    expected = record_path(opened.record)
    if looks_like_id and not place.as_posix().endswith("/" + expected):
        found = "/".join(place.parts[-6:])
        yield Finding(1, "error", RECORD, f"lies in {found}, but its content belongs in {expected}")


def _check_hashes(opened: Opened) -> Iterator[Finding]:
    record = opened.record
    stated = {
        "cases_file.sha256": ("cases.csv", record.cases_file.sha256),
        "weights.loading_file_sha256": ("loading.json", record.weights.loading_file_sha256),
        "predictions_sha256": ("predictions.txt", record.predictions_sha256),
        "sums_sha256": (SUMS, record.sums_sha256),
        "log_sha256": ("log.jsonl", record.log_sha256),
    }
    if "packages.txt" in opened.files:
        stated["env.lock_sha256"] = ("packages.txt", record.env.lock_sha256)
    for field, (name, expected) in stated.items():
        content = opened.files.get(name)
        found = None if content is None else sha256_hex(content)
        if found != expected:
            yield Finding(1, "error", field, f"says {_short(expected)}, but {name} is {_short(found)}")
    if opened.scores_sha256 is not None and opened.scores_sha256 != record.cases_file.scores_sha256:
        yield Finding(1, "error", "cases_file.scores_sha256", "differs from the hash of the scores in cases.csv")
    if "config.yaml" not in opened.files:
        yield Finding(1, "error", "config.yaml", "the resolved configuration is missing")
    elif opened.config_sha256 not in (None, record.config_sha256):
        yield Finding(1, "error", "config_sha256", "differs from the hash of what config.yaml says")
    yield from _check_pictures(opened)


def _check_pictures(opened: Opened) -> Iterator[Finding]:
    folder = opened.folder / "slices"
    present = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    for name, path in sorted(present.items()):
        if name not in opened.record.pictures or path.is_symlink() or not path.is_file():
            yield Finding(1, "error", f"slices/{name}", "the record does not name this file")
        elif path.stat().st_size > LARGEST_PICTURE:
            yield Finding(11, "error", f"slices/{name}", f"the picture is larger than {LARGEST_PICTURE:,} bytes")
        elif sha256_hex(path.read_bytes()) != opened.record.pictures[name]:
            yield Finding(1, "error", f"slices/{name}", "the picture differs from the hash in the record")


def _short(digest: str | None) -> str:
    return "absent" if digest is None else f"{digest[:12]}…"
