"""The case file: one row per case, class and metric, in one fixed spelling, so that equal scores are equal bytes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import sha256_hex
from harness.records.columns import (
    COLUMNS,
    CONTROL,
    CONVERTERS,
    HEADER,
    REASONS,
    CaseRow,
    controlled,
    converted,
    read_columns,
)
from harness.scoring.definitions import Grid, definition
from harness.scoring.policies import apply_policy

__all__ = [
    "COLUMNS",
    "REASONS",
    "CaseRow",
    "case_rows",
    "parse_cases",
    "read_cases",
    "row_order",
    "scores_sha256",
    "to_csv",
]

_SECONDS = COLUMNS.index("seconds")


def case_rows(
    scored: Iterable[Mapping[str, Any]],
    class_ids: Mapping[str, int],
    *,
    policy: str = "adopted",
    grid: Grid = "native",
    seconds: Mapping[str, float] | None = None,
    predictions: Mapping[str, str] | None = None,
) -> list[CaseRow]:
    """Turn rows of `harness.scoring.score` into rows of the case file.

    Parameters
    ----------
    scored : iterable of mapping
        Raw rows of any number of cases, each with ``case_id`` and ``spacing`` added; rows that went through
        ``policy`` already are taken as they are.
    class_ids : mapping of str to int
        Class name to label value (of a region: its number, from 1).
    policy : str
        The empty-mask policy.
    grid : {"native", "resampled", "patch"}
        On which grid the masks were compared; part of the metric's id.
    seconds, predictions : mapping of str, optional
        By case id: seconds of inference, and hash of the predicted label map.
    """
    rows: Sequence[Mapping[str, Any]] = list(scored)
    if any(row.get("policy") != policy for row in rows):
        rows = apply_policy(rows, policy)
    ids = {metric: definition(metric, grid).record_id for metric in {row["metric"] for row in rows}}
    made = []
    for row in rows:
        value = float(row["value"])
        reason = row["reason"] or (None if math.isfinite(value) else "undefined")
        case = row["case_id"]
        x, y, z = map(float, row["spacing"])
        made.append(
            CaseRow(
                case_id=case,
                class_id=class_ids[row["class"]],
                class_name=row["class"],
                metric_id=ids[row["metric"]],
                value=value if math.isfinite(value) else None,
                reason=reason,
                tp=_count(row, "tp"),
                fp=_count(row, "fp"),
                fn=_count(row, "fn"),
                n_ref=_count(row, "n_ref"),
                n_pred=_count(row, "n_pred"),
                spacing_x=x,
                spacing_y=y,
                spacing_z=z,
                seconds=None if seconds is None else float(seconds[case]),
                prediction_sha256=None if predictions is None else predictions[case],
            )
        )
    return made


def _count(row: Mapping[str, Any], name: str) -> int | None:
    return None if row.get(name) is None else int(row[name])


def to_csv(rows: Iterable[CaseRow]) -> str:
    """Spell rows as CSV: sorted by case, class and metric, shortest floats, LF.

    Raises
    ------
    ValueError
        A value is NaN or infinite; leave it out with a reason instead.
    UserError
        A name holds a line end or another control character.
    """
    return HEADER + "\n" + _lines([_spelled(row) for row in sorted(rows, key=row_order)])


def scores_sha256(rows: Iterable[CaseRow]) -> str:
    """Hash what was scored, without the seconds that differ from run to run."""
    return _scores_sha256([_spelled(row) for row in sorted(rows, key=row_order)])


def _scores_sha256(spelled: list[list[str]]) -> str:
    return sha256_hex(_lines([[*fields[:_SECONDS], *fields[_SECONDS + 1 :]] for fields in spelled]))


def row_order(row: CaseRow) -> tuple[str, int, str, str]:
    """Return the key by which rows are sorted in the file."""
    return row.case_id, row.class_id, row.class_name, row.metric_id


def _spelled(row: CaseRow) -> list[str]:
    return ["" if item is None else _spell(item) for item in row]


def _spell(item: str | int | float) -> str:
    if isinstance(item, str) and CONTROL.search(item):
        raise UserError(
            f"The name {item!r} holds a control character. Rename the case or class; tables cannot hold it."
        )
    if isinstance(item, float) and not math.isfinite(item):
        raise ValueError(f"a case file cannot hold {item}; leave the value out and give the reason")
    return item if isinstance(item, str) else repr(item)


def _lines(fields: list[list[str]]) -> str:
    plain = "".join([",".join(line) + "\n" for line in fields])
    if '"' not in plain and plain.count(",") == sum(map(len, fields)) - len(fields):
        return plain  # no field needs quotes, and joining is several times faster than the csv module
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(fields)
    return stream.getvalue()


def read_cases(path: Path) -> list[CaseRow]:
    """Read a case file strictly; see `parse_cases`."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise UserError(
            f"There is no case file {path.name} beside the record, so nothing can be recomputed."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    return parse_cases(text, path.name)[0]


def parse_cases(text: str, where: str = "cases.csv") -> tuple[list[CaseRow], str]:
    """Parse a case file and hash its scores.

    Returns
    -------
    list of CaseRow
        In the order of the file.
    str
        The same as `scores_sha256` of them.

    Raises
    ------
    UserError
        Columns, order or the spelling of a number differ from what `to_csv` writes, a number is NaN or infinite, or a
        value is missing without a reason.
    """
    quick = read_columns(text)
    if quick is not None:
        return quick.rows(), quick.scores_sha256
    spelled = _fields(text, where)
    if not spelled or ",".join(spelled[0]) != HEADER:
        raise UserError(f"{where}: the first line must name the columns {HEADER}.")
    del spelled[0]
    rows = _parsed(spelled, where)
    order = [row_order(row) for row in rows]
    if order != sorted(order):
        raise UserError(
            f"{where}: rows must be sorted by case, class and metric, so that equal scores are equal bytes."
        )
    return rows, _scores_sha256(spelled)


def _fields(text: str, where: str) -> list[list[str]]:
    """Split into lines of fields; UserError where the text is not spelled as `to_csv` spells it."""
    odd = controlled(text)
    if '"' not in text and text.endswith("\n") and not odd:
        return [line.split(",") for line in text[:-1].split("\n")]  # nothing is quoted, and that is the one spelling
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        fields = list(reader)
    except csv.Error as error:
        raise UserError(f"{where}, line {reader.line_num}: {error}. Write case files with to_csv.") from error
    if odd or _lines(fields) != text:
        raise UserError(f"{where}: quotes or line ends differ from the one spelling that to_csv writes.")
    return fields


def _parsed(spelled: list[list[str]], where: str) -> list[CaseRow]:
    """Parse column by column: most columns hold few different texts, and each is converted once."""
    try:
        if any(len(fields) != len(COLUMNS) for fields in spelled):
            raise ValueError(f"{len(spelled[0])} fields instead of {len(COLUMNS)}")
        columns = zip(zip(*spelled, strict=True), CONVERTERS, strict=False)
        parsed = [converted(column, convert) for column, convert in columns]
        rows = [CaseRow._make(values) for values in zip(*parsed, strict=True)]
        if any(row.value is None and row.reason is None for row in rows):
            raise ValueError("there is neither a value nor a reason")
    except ValueError as error:
        if len(spelled) > 1:  # once more, line by line, to name the line
            for number, fields in enumerate(spelled, start=2):
                _parsed([fields], f"{where}, line {number}")
        raise UserError(f"{where}: {error}.") from error
    return rows
