"""One record as the board needs it: read once, verified, with its curve, load report and pictures."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.errors import UserError
from harness.records.opened import Opened, open_record
from harness.records.schema import Metric, Record
from harness.records.verification import Verification
from harness.records.verify import verify_opened
from harness.records.volumes import find_volumes

__all__ = ["FILES", "RunData", "is_number", "log_lines", "read_curves", "read_run", "said"]

# What a visitor may download, in the order of the page. Predictions and weights are never part of a board.
FILES: Final = (
    "record.json", "cases.csv", "config.yaml", "loading.json", "log.jsonl", "predictions.txt", "sums.json",
    "packages.txt"
)  # fmt: skip
_SHOWN_ERRORS: Final = 3
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class RunData:
    """Everything a run page shows: the opened record and what its checks found."""

    opened: Opened
    verification: Verification

    @property
    def record(self) -> Record:
        """The record."""
        return self.opened.record

    @property
    def primary(self) -> Metric | None:
        """The metric that headlines: the first of the record."""
        return self.record.metrics[0] if self.record.metrics else None

    @functools.cached_property
    def classes(self) -> list[str]:
        """Class names in the order of their labels; canonical JSON sorts names, and anatomy is not alphabetical."""
        return [name for _, name in self._labels]

    @functools.cached_property
    def _labels(self) -> list[tuple[int, str]]:
        columns = self.opened.columns
        if columns is not None:
            return sorted((label, name) for name, label in columns.layout.classes)
        return sorted({row[1:3] for row in self.opened.rows})

    @functools.cached_property
    def tables(self) -> dict[str, dict[str, Sequence[float | None]]]:
        """Metric to case to one value per class in the order of `classes`, cases in the order of the case file."""
        columns = self.opened.columns
        if columns is not None and columns.layout.complete:
            layout, many = columns.layout, len(self.classes)
            cases = layout.case_ids[:: many * layout.n_metrics]
            found: dict[str, dict[str, Sequence[float | None]]] = {}
            for metric in layout.metrics:
                values = columns.values[layout.of_metric(metric)]
                parts = [values[start : start + many] for start in range(0, len(values), many)]
                found[metric] = dict(zip(cases, parts, strict=True))
            return found
        places = {label: place for place, label in enumerate(self._labels)}
        rows: dict[str, dict[str, list[float | None]]] = {}
        for row in self.opened.rows:
            by_case = rows.setdefault(row.metric_id, {})
            by_case.setdefault(row.case_id, [None] * len(places))[places[row[1:3]]] = row.value
        return {metric: dict(by_case) for metric, by_case in rows.items()}

    @functools.cached_property
    def means(self) -> dict[str, dict[str, float | None]]:
        """Metric to case to the mean over its classes with a value; None where it has none."""
        return {metric: _case_means(table) for metric, table in self.tables.items()}

    @functools.cached_property
    def reasons(self) -> dict[tuple[str, str, str], str]:
        """Case, class and metric to the reason why there is no value, for each row without one."""
        return {
            (row.case_id, row.class_name, row.metric_id): row.reason or "no value"
            for row in self.opened.rows
            if row.value is None
        }

    @functools.cached_property
    def curves(self) -> tuple[Points, Points]:
        """Loss and validation metric against step; what is not finite stays in as NaN, a diverged run must be seen."""
        return read_curves(self.opened.files.get("log.jsonl", b""))

    @property
    def loading(self) -> dict[str, Any]:
        """``loading.json``; empty where the run loaded nothing or the file cannot be read."""
        try:
            content = json.loads(self.opened.files.get("loading.json", b"{}"))
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    @functools.cached_property
    def pictures(self) -> tuple[str, ...]:
        """File names in ``slices/`` that the record names and that are real PNG files; `verify` checks their hashes."""
        folder = self.opened.folder / "slices"
        return tuple(name for name in sorted(self.record.pictures) if _is_picture(folder / name))

    @functools.cached_property
    def volumes(self) -> dict[str, tuple[str, str, str]]:
        """Case name to the files of its volumes in ``slices/``, where the record names all three and they are there."""
        folder = self.opened.folder / "slices"
        there = [name for name in self.record.pictures if name.endswith(".nii.gz") and _is_file(folder / name)]
        return find_volumes(there)


def read_run(folder: Path, cards: Iterable[Path] = ()) -> RunData:
    """Read and verify one record folder, by the shipped cards and those in the folders ``cards``.

    Raises
    ------
    UserError
        The record is not valid; nothing of it may be shown.
    """
    opened = open_record(folder)
    verification = verify_opened(opened, cards=cards)
    if not verification.ok:
        raise UserError(said(verification))
    return RunData(opened, verification)


def said(verification: Verification) -> str:
    """Return the first errors of a verification in one line."""
    found = [f"{finding.field}: {finding.message}" for finding in verification.errors]
    more = f"; and {len(found) - _SHOWN_ERRORS} more" if len(found) > _SHOWN_ERRORS else ""
    return "; ".join(found[:_SHOWN_ERRORS]) + more


def _case_means(table: dict[str, Sequence[float | None]]) -> dict[str, float | None]:
    if all(map((1).__eq__, map(len, table.values()))):
        return {case: values[0] for case, values in table.items()}
    means: dict[str, float | None] = {}
    for case, values in table.items():
        known = [value for value in values if value is not None]
        means[case] = math.fsum(known) / len(known) if known else None
    return means


def _is_file(path: Path) -> bool:
    """Whether a file is there; it may be withheld, and a link could point at anything on this machine."""
    return path.is_file() and not path.is_symlink() and not path.parent.is_symlink()


def _is_picture(path: Path) -> bool:
    if path.suffix != ".png" or not _is_file(path):
        return False
    with path.open("rb") as stream:
        return stream.read(8) == b"\x89PNG\r\n\x1a\n"


def read_curves(log: bytes) -> tuple[Points, Points]:
    """Read the loss and the validation curve of a log; a line that cannot be read ends neither."""
    loss: Points = []
    validation: Points = []
    for line in log_lines(log):
        if not isinstance(line, dict) or not is_number(line.get("step")):
            continue
        for key, points in (("loss", loss), ("metric", validation)):
            if key in line:
                points.append((float(line["step"]), float(line[key]) if is_number(line[key]) else math.nan))
    return loss, validation


@functools.lru_cache(maxsize=4)  # the curves and the validations of both twins are read from the same lines
def log_lines(log: bytes) -> list[object]:
    """Parse each line of a log as JSON, all at once where all are whole; what cannot be read is left out."""
    texts = log.splitlines()
    try:
        together: list[object] = json.loads(b"[%s]" % b",".join(texts))
    except ValueError:
        together = []
    if len(together) == len(texts):
        return together
    found = []
    for text in texts:
        with contextlib.suppress(ValueError):
            found.append(json.loads(text))
    return found


def is_number(value: object) -> bool:
    """Whether a value from a log is a number."""
    return type(value) in (int, float)  # a boolean is an int to isinstance, and JSON makes no subclasses
