"""Score many cases side by side. Reading files is the caller's: cases come through a function that returns arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError, UserError
from harness.scoring.case import score
from harness.scoring.inputs import check_classes, check_metrics
from harness.scoring.measure import available_threads

__all__ = ["Case", "labels_outside", "match_cases", "score_cases"]

_PIECE = 1 << 22  # voxels looked at together


class Case(NamedTuple):
    """What scoring needs of one case.

    Attributes
    ----------
    prediction, reference : integer arrays of shape (S, R, C)
        Label maps on one grid.
    spacing : sequence of 3 floats
        mm per array axis.
    not_annotated : collection of str
        Classes that nobody drew in this case.
    """

    prediction: npt.NDArray[Any]
    reference: npt.NDArray[Any]
    spacing: Sequence[float]
    not_annotated: Collection[str] = ()


def match_cases(
    predicted: Iterable[str], expected: Iterable[str], *, allow_missing: bool = False, allow_extra: bool = False
) -> list[str]:
    """Return the ids to score, sorted, refusing missing and extra predictions unless told.

    Parameters
    ----------
    predicted, expected : iterable of str
        Case ids that have a prediction, and those that should have one.
    allow_missing : bool
        Score only the cases that have a prediction. The means are then over fewer cases than the split has.
    allow_extra : bool
        Leave out predictions that nobody expects.

    Raises
    ------
    UserError
        Ids do not match, or nothing is left to score.
    """
    have, want = set(predicted), set(expected)
    missing, extra = sorted(want - have), sorted(have - want)
    if missing and not allow_missing:
        raise UserError(
            f"{len(missing)} of {len(want)} cases have no prediction: {_some(missing)}. A mean over the rest would "
            "flatter the model; predict them, or allow missing cases explicitly."
        )
    if extra and not allow_extra:
        raise UserError(
            f"{len(extra)} predictions belong to no expected case: {_some(extra)}. Check the split and the file "
            "names, or allow extra predictions explicitly."
        )
    if not have & want:
        raise UserError(f"None of the {len(have)} predictions belongs to any of the {len(want)} expected cases.")
    return sorted(have & want)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def labels_outside(array: npt.NDArray[Any], allowed: Iterable[int]) -> list[int]:
    """Return the label values of an integer array that are not allowed, sorted.

    Labels outside the map of a data set are the usual sign of a wrong remap (BraTS 4 for 3), and scoring would take
    them for background.
    """
    known = set(allowed)
    flat = array.ravel(order="K")
    found: set[int] = set()
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        values = np.flatnonzero(np.bincount(piece)) if piece.dtype == np.uint8 else np.unique(piece)
        found.update(int(value) for value in values)
    return sorted(found - known)


def score_cases(
    case_ids: Sequence[str],
    load: Callable[[str], Case],
    classes: Mapping[str, Iterable[int]],
    metrics: Iterable[str],
    *,
    workers: int | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of one case after the other, in the given order, while other cases are being worked on.

    Parameters
    ----------
    case_ids : sequence of str
        What to score, for example from `match_cases`.
    load : callable
        Case id -> `Case`. Called in worker threads: reading and unpacking run side by side.
    classes, metrics
        As for `harness.scoring.score`.
    workers : int, optional
        Cases at a time; the CPUs of this process by default. At most two more than this are held in memory.

    Yields
    ------
    list of dict
        The rows of `harness.scoring.score`, each with ``case_id`` first.

    Raises
    ------
    UserError
        A case cannot be scored; the message begins with its id. Cases before it have been yielded.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.ones((2, 2, 2), np.uint8)
    >>> scored = score_cases(["a", "b"], lambda case_id: Case(mask, mask, (1, 1, 1)), {"organ": [1]}, ["dice"])
    >>> [(row["case_id"], row["value"]) for rows in scored for row in rows]
    [('a', 1.0), ('b', 1.0)]
    """
    members = check_classes(classes)
    asked = list(check_metrics(metrics))  # a misspelt id is reported before any file is read
    workers = workers or available_threads()
    # One case at a time may use all CPUs; several share them, one each.
    threads = None if workers == 1 or len(case_ids) == 1 else 1

    def work(case_id: str) -> list[dict[str, Any]]:
        try:
            case = load(case_id)
            rows = score(
                case.prediction,
                case.reference,
                case.spacing,
                members,
                asked,
                not_annotated=case.not_annotated,
                threads=threads,
            )
        except HarnessError as error:
            raise type(error)(f"Case {case_id}: {error}") from error
        return [{"case_id": case_id, **row} for row in rows]

    return _in_order(case_ids, work, workers)


def _in_order(
    case_ids: Sequence[str], work: Callable[[str], list[dict[str, Any]]], workers: int
) -> Iterator[list[dict[str, Any]]]:
    waiting: deque[Future[list[dict[str, Any]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for case_id in case_ids:
                waiting.append(pool.submit(work, case_id))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
