"""One record as the board needs it: verified, with its case rows, curve, load report and pictures."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.errors import UserError
from harness.records.cases import CaseRow, read_cases
from harness.records.schema import Metric, Record
from harness.records.store import load
from harness.records.verify import Verification, verify

__all__ = ["FILES", "RunData", "read_run"]

# What a visitor may download, in the order of the page. Predictions and weights are never part of a board.
FILES: Final = (
    "record.json",
    "cases.csv",
    "config.yaml",
    "loading.json",
    "log.jsonl",
    "predictions.txt",
    "packages.txt",
)
_LARGEST_TEXT: Final = 64 << 20
_LARGEST_PICTURE: Final = 8 << 20
_SHOWN_ERRORS: Final = 3


@dataclass(frozen=True)
class RunData:
    """Everything a run page shows.

    Attributes
    ----------
    loss, validation : list of (step, value)
        The curve; values that are not finite stay in as NaN, because a diverged run must be seen.
    loading : dict or None
        ``loading.json``; None where the run loaded nothing or the file is unreadable.
    pictures : tuple of str
        File names in ``slices/`` that the record names and that are real PNG files.
    """

    folder: Path
    record: Record
    verification: Verification
    rows: tuple[CaseRow, ...] = ()
    loss: list[tuple[float, float]] = field(default_factory=list)
    validation: list[tuple[float, float]] = field(default_factory=list)
    loading: dict[str, Any] | None = None
    pictures: tuple[str, ...] = ()

    @property
    def primary(self) -> Metric | None:
        """The metric that headlines: the first of the record."""
        return self.record.metrics[0] if self.record.metrics else None

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their labels; canonical JSON sorts names, and anatomy is not alphabetical."""
        return [name for _, name in sorted({(row.class_id, row.class_name) for row in self.rows})]

    def table(self, metric: str) -> dict[str, dict[str, CaseRow]]:
        """Return case to class to row of one metric, in the order of the case file."""
        cases: dict[str, dict[str, CaseRow]] = {}
        for row in self.rows:
            if row.metric_id == metric:
                cases.setdefault(row.case_id, {})[row.class_name] = row
        return cases


def read_run(folder: Path) -> RunData:
    """Read and verify one record folder.

    Raises
    ------
    UserError
        The record is not valid; nothing of it may be shown.
    """
    verification = verify(folder)
    if not verification.ok:
        found = [f"{finding.field}: {finding.message}" for finding in verification.errors]
        more = f"; and {len(found) - _SHOWN_ERRORS} more" if len(found) > _SHOWN_ERRORS else ""
        raise UserError("; ".join(found[:_SHOWN_ERRORS]) + more)
    record = load(folder)
    loss, validation = _curve(folder / "log.jsonl")
    return RunData(
        folder=folder,
        record=record,
        verification=verification,
        rows=tuple(read_cases(folder / "cases.csv")) if is_plain_file(folder / "cases.csv") else (),
        loss=loss,
        validation=validation,
        loading=_json_object(folder / "loading.json"),
        pictures=tuple(name for name in sorted(record.pictures) if _is_picture(folder / "slices" / name)),
    )


def is_plain_file(path: Path, largest: int = _LARGEST_TEXT) -> bool:
    """Whether a path is a file of its own and of sane size; a link could point at anything on this machine."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size <= largest


def _is_picture(path: Path) -> bool:
    plain = path.name.isascii() and path.suffix == ".png" and not path.parent.is_symlink()
    if not plain or not is_plain_file(path, _LARGEST_PICTURE):
        return False
    with path.open("rb") as stream:
        return stream.read(8) == b"\x89PNG\r\n\x1a\n"


def _json_object(path: Path) -> dict[str, Any] | None:
    if not is_plain_file(path):
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _curve(path: Path) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Read the loss and the validation curve; a line that cannot be read ends neither."""
    loss: list[tuple[float, float]] = []
    validation: list[tuple[float, float]] = []
    if not is_plain_file(path):
        return loss, validation
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if not isinstance(line, dict) or not _is_number(line.get("step")):
            continue
        for key, points in (("loss", loss), ("metric", validation)):
            if key in line:
                points.append((float(line["step"]), float(line[key]) if _is_number(line[key]) else math.nan))
    return loss, validation


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
