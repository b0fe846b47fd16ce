"""The case file: one row per case, class and metric, in one fixed spelling, so that equal scores are equal bytes."""

from __future__ import annotations

import csv
import io
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.errors import UserError
from harness.files import sha256_hex
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

State = Literal["both", "pred_empty", "ref_empty", "both_empty", "not_annotated", "failed"]
REASONS = frozenset(
    {"absent_in_both", "absent_in_reference", "absent_in_prediction", "not_annotated", "failed", "undefined"}
)
_STATE_OF: dict[str, State] = {
    "absent_in_both": "both_empty",
    "absent_in_reference": "ref_empty",
    "absent_in_prediction": "pred_empty",
    "not_annotated": "not_annotated",
    "failed": "failed",
}


class CaseRow(NamedTuple):
    """One score.

    ``value`` is what the record's empty-mask policy says, in the unit of the metric; None only with a ``reason``. A
    reason beside a value says that a mask was empty and the policy put the number there. Counts are voxels; None
    where no label maps were compared. ``spacing`` is in mm per array axis of the scan, ``seconds`` what inference of
    the case took, ``prediction_sha256`` the hash of the decoded label map (`harness.records.predictions`).
    """

    case_id: str
    class_id: int
    class_name: str
    metric_id: str
    value: float | None
    reason: str | None = None
    tp: int | None = None
    fp: int | None = None
    fn: int | None = None
    n_ref: int | None = None
    n_pred: int | None = None
    spacing_x: float | None = None
    spacing_y: float | None = None
    spacing_z: float | None = None
    seconds: float | None = None
    prediction_sha256: str | None = None

    @property
    def state(self) -> State:
        """Which mask had voxels, or why there is no comparison."""
        return "both" if self.reason is None else _STATE_OF.get(self.reason, "both")


COLUMNS = CaseRow._fields
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_PRINTED = b"\n" + bytes(range(0x20, 0x7F))
_SECONDS = COLUMNS.index("seconds")
_HEADER = ",".join(COLUMNS)
_OF_ROW = COLUMNS.index("tp")  # columns before this one differ from metric to metric


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
    return _HEADER + "\n" + _lines([_spelled(row) for row in sorted(rows, key=row_order)])


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
    if isinstance(item, str) and _CONTROL.search(item):
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
    quick = _quick(text)
    if quick is not None:
        return quick
    spelled = _fields(text, where)
    if not spelled or ",".join(spelled[0]) != _HEADER:
        raise UserError(f"{where}: the first line must name the columns {_HEADER}.")
    del spelled[0]
    rows = _parsed(spelled, where)
    order = [row_order(row) for row in rows]
    if order != sorted(order):
        raise UserError(
            f"{where}: rows must be sorted by case, class and metric, so that equal scores are equal bytes."
        )
    return rows, _scores_sha256(spelled)


def _quick(text: str) -> tuple[list[CaseRow], str] | None:
    """Parse a file without quotes and without faults; None for any other, which the careful way reads or explains.

    What follows the reason on a line belongs to the masks, not to the metric, and stands there once per metric: it is
    looked at once.
    """
    if not text.startswith(_HEADER + "\n") or '"' in text or not text.endswith("\n") or _controlled(text):
        return None
    lines = text[len(_HEADER) + 1 : -1].split("\n")
    try:
        *heads, ends = zip(*[line.split(",", _OF_ROW) for line in lines], strict=True)
        if len(heads) != _OF_ROW:
            return None
        own = [_converted(column, convert) for column, convert in zip(heads, _CONVERTERS[:_OF_ROW], strict=True)]
        cases, labels, names, metrics, values, reasons = own
        different = list(dict.fromkeys(ends))
        columns = list(zip(*[end.split(",") for end in different], strict=True))
        if len(columns) != len(COLUMNS) - _OF_ROW:
            return None
        masks = zip(
            *[_converted(column, convert) for column, convert in zip(columns, _CONVERTERS[_OF_ROW:], strict=True)],
            strict=True,
        )
        of_masks = dict(zip(different, masks, strict=True))
    except ValueError:
        return None
    order = list(zip(cases, labels, names, metrics, strict=True))
    if not all(map(operator.le, order, order[1:])):
        return None
    if None in values and (None, None) in zip(values, reasons, strict=True):
        return None
    make = CaseRow._make
    rows = [make(row + of_masks[end]) for row, end in zip(zip(*own, strict=True), ends, strict=True)]
    timeless = {}
    for end in different:
        first, _, prediction = end.rsplit(",", 2)
        timeless[end] = f"{first},{prediction}\n"
    hashed = [line[: -len(end)] + timeless[end] for line, end in zip(lines, ends, strict=True)]
    return rows, sha256_hex("".join(hashed))


def _converted(column: Sequence[str], convert: Callable[[list[str]], list[Any]]) -> list[Any]:
    """Convert the texts of a column; most columns hold few different ones, and each is converted once."""
    if convert is _texts:
        return list(column)
    texts = list(set(column))
    if len(texts) == len(column):
        return convert(list(column))
    known = dict(zip(texts, convert(texts), strict=True))
    return [known[text] for text in column]


def _controlled(text: str) -> bool:
    # Deleting what is harmless is many times faster than a search, and nearly every file is ASCII. What `isprintable`
    # refuses beyond control characters is rare.
    if text.isascii():
        return bool(text.encode("ascii").translate(None, _PRINTED))
    inside = text.replace("\n", "")
    return not inside.isprintable() and _CONTROL.search(inside) is not None


def _fields(text: str, where: str) -> list[list[str]]:
    """Split into lines of fields; UserError where the text is not spelled as `to_csv` spells it."""
    controlled = _controlled(text)
    if '"' not in text and text.endswith("\n") and not controlled:
        return [line.split(",") for line in text[:-1].split("\n")]  # nothing is quoted, and that is the one spelling
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        fields = list(reader)
    except csv.Error as error:
        raise UserError(f"{where}, line {reader.line_num}: {error}. Write case files with to_csv.") from error
    if controlled or _lines(fields) != text:
        raise UserError(f"{where}: quotes or line ends differ from the one spelling that to_csv writes.")
    return fields


def _parsed(spelled: list[list[str]], where: str) -> list[CaseRow]:
    """Parse column by column: most columns hold few different texts, and each is converted once."""
    try:
        if any(len(fields) != len(COLUMNS) for fields in spelled):
            raise ValueError(f"{len(spelled[0])} fields instead of {len(COLUMNS)}")
        columns = zip(zip(*spelled, strict=True), _CONVERTERS, strict=False)
        converted = [_converted(column, convert) for column, convert in columns]
        rows = [CaseRow._make(values) for values in zip(*converted, strict=True)]
        if any(row.value is None and row.reason is None for row in rows):
            raise ValueError("there is neither a value nor a reason")
    except ValueError as error:
        if len(spelled) > 1:  # once more, line by line, to name the line
            for number, fields in enumerate(spelled, start=2):
                _parsed([fields], f"{where}, line {number}")
        raise UserError(f"{where}: {error}.") from error
    return rows


def _texts(texts: list[str]) -> list[str]:
    return texts


def _texts_or_none(texts: list[str]) -> list[str | None]:
    return [text or None for text in texts]


def _reasons(texts: list[str]) -> list[str | None]:
    unknown = set(texts) - REASONS - {""}
    if unknown:
        raise ValueError(f"the reason {min(unknown)!r} is not known ({', '.join(sorted(REASONS))})")
    return _texts_or_none(texts)


def _ints(texts: list[str]) -> list[int]:
    values = list(map(int, texts))
    for text, again in zip(texts, map(str, values), strict=True):
        if text != again:
            raise ValueError(f"{text!r} is not a whole number in its plain spelling")
    return values


def _floats(texts: list[str]) -> list[float]:
    values = list(map(float, texts))
    if not all(map(math.isfinite, values)) or list(map(repr, values)) != texts:
        odd = next(t for t, v in zip(texts, values, strict=True) if not math.isfinite(v) or repr(v) != t)
        raise ValueError(f"{odd!r} is not a finite number in its shortest spelling")
    return values


def _or_none(convert: Callable[[list[str]], list[Any]]) -> Callable[[list[str]], list[Any]]:
    def converted(texts: list[str]) -> list[Any]:
        if "" not in texts:
            return convert(texts)
        found = dict(zip(stated := [text for text in texts if text], convert(stated), strict=True))
        return [found.get(text) for text in texts]

    return converted


_CONVERTERS: tuple[Callable[[list[str]], list[Any]], ...] = (
    *(_texts, _ints, _texts, _texts, _or_none(_floats), _reasons),
    *[_or_none(_ints)] * 5,
    *[_or_none(_floats)] * 4,
    _texts_or_none,
)
