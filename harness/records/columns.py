"""The case file column by column: many times quicker to read and to check than row by row.

What the rows are about (case, class, metric) is the same in all records of the same cases, so it is looked at once and
remembered. A file with quotes or any fault is not read here: `harness.records.cases` reads or explains it.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeVar

from pydantic_core import from_json, to_json

from harness.files import sha256_hex

__all__ = [
    "COLUMNS",
    "CONTROL",
    "CONVERTERS",
    "HEADER",
    "REASONS",
    "CaseRow",
    "Columns",
    "Layout",
    "controlled",
    "converted",
    "read_columns",
    "state_of",
]

State = Literal["both", "pred_empty", "ref_empty", "both_empty", "not_annotated", "failed"]
REASONS: Final = frozenset(
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
        return "both" if self.reason is None else state_of(self.reason)


def state_of(reason: str) -> State:
    """Return which mask had voxels, by the reason that stands beside a value."""
    return _STATE_OF.get(reason, "both")


COLUMNS: Final = CaseRow._fields
HEADER: Final = ",".join(COLUMNS)
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_PRINTED: Final = b"\n" + bytes(range(0x20, 0x7F))
_OF_ROW: Final = COLUMNS.index("tp")  # columns before this one differ from metric to metric
_REMEMBERED: Final = 5000  # rows of a layout that is remembered
_PLAIN: Final = (1e-4, 1e16)  # within, Python spells floats without an exponent
T = TypeVar("T")
N = TypeVar("N", int, float)


@dataclass(frozen=True, eq=False)
class Layout:
    """What each row is about: the columns of the case file that say no score.

    Where it is complete, the rows of a metric stand ``n_metrics`` apart, and those of a case
    ``n_classes * n_metrics``.
    """

    case_ids: tuple[str, ...]
    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    metric_ids: tuple[str, ...]

    @functools.cached_property
    def cases(self) -> frozenset[str]:
        """Ids of all cases."""
        return frozenset(self.case_ids)

    @functools.cached_property
    def classes(self) -> frozenset[tuple[str, int]]:
        """Names and numbers of all classes."""
        return frozenset(zip(self.class_names, self.class_ids, strict=True))

    @functools.cached_property
    def metrics(self) -> tuple[str, ...]:
        """Ids of all metrics, sorted."""
        return tuple(sorted(set(self.metric_ids)))

    @functools.cached_property
    def texts(self) -> tuple[str, ...]:
        """Every name that stands in the rows, once."""
        return tuple(sorted({*self.case_ids, *self.class_names, *self.metric_ids}))

    @functools.cached_property
    def complete(self) -> bool:
        """Whether every case has every class and metric exactly once, and each class one name."""
        numbers = {number for _, number in self.classes}
        expected = len(self.cases) * len(numbers) * len(self.metrics)
        return len(self.keys) == len(self) == expected and len(numbers) == len(self.classes)

    @property
    def keys(self) -> set[tuple[str, int, str]]:
        """Case, class number and metric of all rows."""
        return set(zip(self.case_ids, self.class_ids, self.metric_ids, strict=True))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.case_ids)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def n_metrics(self) -> int:
        """Number of metrics."""
        return len(self.metrics)

    def of_metric(self, metric_id: str) -> slice:
        """Return the rows of a metric; only where the layout is complete."""
        return slice(self.metrics.index(metric_id), None, self.n_metrics)

    @functools.cached_property
    def of_masks(self) -> tuple[str, ...]:
        """Case and class number of each pair of masks, as text with tabs; only where the layout is complete."""
        every = slice(None, None, self.n_metrics)
        pairs = zip(self.case_ids[every], self.class_ids[every], strict=True)
        return tuple(f"{case}\t{number}\t" for case, number in pairs)


@dataclass(frozen=True, eq=False)
class Columns:
    """A case file, by columns.

    Attributes
    ----------
    layout : Layout
        What each row is about.
    values, reasons : list
        As in `CaseRow`.
    masks : tuple of list
        The ten last columns, of each pair of masks in ``of_row``.
    of_row : list of int or None
        For each row its place in ``masks``. None where the layout is complete and all metrics of a case and class
        say the same of the masks: then ``masks`` has one entry per case and class, in the order of the rows.
    scores_sha256 : str
        The same as `harness.records.cases.scores_sha256` of the rows.
    """

    layout: Layout
    values: list[float | None]
    reasons: list[str | None]
    masks: tuple[list[Any], ...]
    of_row: list[int] | None
    scores_sha256: str

    def of_cases(self) -> tuple[Sequence[str], list[str]] | None:
        """Return every case and the hash of its prediction; None where a row has none or rows of a case disagree."""
        if self.of_row is not None:
            return None
        per_case, hashes = self.layout.n_classes, self.masks[-1]
        first = hashes[::per_case]
        if None in first or any(hashes[place::per_case] != first for place in range(1, per_case)):
            return None
        return self.layout.case_ids[:: per_case * self.layout.n_metrics], first

    def rows(self) -> list[CaseRow]:
        """Return the rows, in the order of the file."""
        own = self.layout
        masks = list(zip(*self.masks, strict=True))
        ends = [masks[place] for place in self.of_row] if self.of_row is not None else _spread(masks, own.n_metrics)
        heads = zip(
            own.case_ids, own.class_ids, own.class_names, own.metric_ids, self.values, self.reasons, strict=True
        )
        make = CaseRow._make
        return [make(head + end) for head, end in zip(heads, ends, strict=True)]


def read_columns(text: str) -> Columns | None:
    """Read a case file without quotes and without faults; None for any other.

    What follows the reason on a line belongs to the masks, not to the metric, and stands there once per metric: it is
    looked at once.
    """
    if not text.startswith(HEADER + "\n") or '"' in text or not text.endswith("\n") or controlled(text):
        return None
    lines = text[len(HEADER) + 1 : -1].split("\n")
    try:
        *heads, ends = zip(*[line.split(",", _OF_ROW) for line in lines], strict=True)
        if len(heads) != _OF_ROW:
            return None
        layout = (_remembered if len(lines) <= _REMEMBERED else _layout)(*heads[:4])
        values, reasons = converted(heads[4], CONVERTERS[4]), converted(heads[5], CONVERTERS[5])
        if None in values and (None, None) in zip(values, reasons, strict=True):
            return None
        step = layout.n_metrics
        different: Sequence[str] = ends[::step]
        of_row = None
        if not layout.complete or any(ends[place::step] != different for place in range(1, step)):
            different = list(dict.fromkeys(ends))
            places = {end: place for place, end in enumerate(different)}
            of_row = [places[end] for end in ends]
        columns = list(zip(*[end.split(",") for end in different], strict=True))
        if len(columns) != len(COLUMNS) - _OF_ROW:
            return None
        masks = tuple(converted(*pair) for pair in zip(columns, CONVERTERS[_OF_ROW:], strict=True))
    except ValueError:
        return None
    # The hash of the scores leaves out the seconds, which stand before the last comma.
    timeless = []
    for end in different:
        first, _, prediction = end.rsplit(",", 2)
        timeless.append(f"{first},{prediction}\n")
    spread = [timeless[place] for place in of_row] if of_row is not None else _spread(timeless, step)
    hashed = [line[: -len(end)] + without for line, end, without in zip(lines, ends, spread, strict=True)]
    return Columns(layout, values, reasons, masks, of_row, sha256_hex("".join(hashed)))


def _layout(
    cases: tuple[str, ...], labels: tuple[str, ...], names: tuple[str, ...], metrics: tuple[str, ...]
) -> Layout:
    """Return what the rows are about; ValueError where a number is misspelt or the rows are not sorted."""
    numbers = tuple(converted(labels, CONVERTERS[1]))
    order = list(zip(cases, numbers, names, metrics, strict=True))
    if not all(map(operator.le, order, order[1:])):
        raise ValueError("the rows are not sorted")
    return Layout(cases, numbers, names, metrics)


_remembered = functools.lru_cache(maxsize=16)(_layout)


def _spread(items: Iterable[T], times: int) -> Iterable[T]:
    """Repeat each item."""
    return itertools.chain.from_iterable(zip(*[items] * times, strict=True)) if times > 1 else items


def controlled(text: str) -> bool:
    """Whether a control character other than a line end stands in a text."""
    # Deleting what is harmless is many times faster than a search, and nearly every file is ASCII. What `isprintable`
    # refuses beyond control characters is rare.
    if text.isascii():
        return bool(text.encode("ascii").translate(None, _PRINTED))
    inside = text.replace("\n", "")
    return not inside.isprintable() and CONTROL.search(inside) is not None


def converted(column: Sequence[str], convert: Callable[[list[str]], list[Any]]) -> list[Any]:
    """Convert the texts of a column; many columns hold few different ones, and each is converted once.

    Raises
    ------
    ValueError
        One is not spelled as `harness.records.cases.to_csv` spells it.
    """
    if convert not in _REPEATED:
        return convert(list(column))
    texts = list(set(column))
    if len(texts) * 2 > len(column):
        return convert(list(column))
    known = dict(zip(texts, convert(texts), strict=True))
    return [known[text] for text in column]


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
    quick = _numbers(texts, int)
    if quick is not None:
        return quick
    values = list(map(int, texts))
    again = list(map(str, values))
    if again != texts:
        odd = next(text for text, plain in zip(texts, again, strict=True) if text != plain)
        raise ValueError(f"{odd!r} is not a whole number in its plain spelling")
    return values


def _floats(texts: list[str]) -> list[float]:
    quick = _numbers(texts, float)
    if quick is not None:
        return quick
    values = list(map(float, texts))
    if not all(map(math.isfinite, values)) or list(map(repr, values)) != texts:
        odd = next(t for t, v in zip(texts, values, strict=True) if not math.isfinite(v) or repr(v) != t)
        raise ValueError(f"{odd!r} is not a finite number in its shortest spelling")
    return values


def _numbers(texts: list[str], kind: type[N]) -> list[N] | None:
    """Convert numbers that are spelled as Python spells them; None also where that has to be asked.

    Where no exponent is written, the shortest spelling of a number is one and the same for everybody, and pydantic
    reads and spells numbers ten times faster than `float` and `repr`. Equal spellings prove that it read them right.
    """
    text = f"[{','.join(texts)}]".encode()
    try:
        values: list[N] = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    if len(values) != len(texts) or set(map(type, values)) != {kind} or to_json(values) != text:
        return None
    if kind is float and not (min(filter(None, values), default=_PLAIN[0]) >= _PLAIN[0] and max(values) < _PLAIN[1]):
        return None
    return values


def _or_none(convert: Callable[[list[str]], list[Any]]) -> Callable[[list[str]], list[Any]]:
    def or_none(texts: list[str]) -> list[Any]:
        if "" not in texts:
            return convert(texts)
        found = dict(zip(stated := [text for text in texts if text], convert(stated), strict=True))
        return [found.get(text) for text in texts]

    return or_none


_float, _count = _or_none(_floats), _or_none(_ints)
CONVERTERS: Final[tuple[Callable[[list[str]], list[Any]], ...]] = (
    *(_texts, _ints, _texts, _texts, _float, _reasons),
    *[_count] * 5,
    *[_float] * 4,
    _texts_or_none,
)
_REPEATED: Final = (_float, _reasons, _ints)
