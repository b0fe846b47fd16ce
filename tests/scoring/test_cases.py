"""Many cases: matched, scored side by side, reported in order."""

import threading
import time

import numpy as np
import pytest

from harness.errors import UserError
from harness.scoring import score
from harness.scoring.cases import Case, labels_outside, match_cases, score_cases

CLASSES = {"a": [1], "b": [2]}


def load(case_id):
    rng = np.random.default_rng(int(case_id))
    prediction, reference = rng.integers(0, 3, (2, 9, 8, 7)).astype(np.uint8)
    return Case(prediction, reference, (1.0, 2.0, 3.0))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_many_cases_equal_one_by_one(workers):
    ids = [str(number) for number in range(12)]
    found = list(score_cases(ids, load, CLASSES, ["dice", "hd95"], workers=workers))
    assert [rows[0]["case_id"] for rows in found] == ids
    for case_id, rows in zip(ids, found, strict=True):
        alone = score(*load(case_id)[:3], CLASSES, ["dice", "hd95"])
        assert [{"case_id": case_id, **row} for row in alone] == rows


def test_cases_run_side_by_side():
    meet = threading.Barrier(3, timeout=20)

    def wait(case_id):
        meet.wait()  # passes only if three cases are in work at once
        return load(case_id)

    assert len(list(score_cases(["1", "2", "3"], wait, CLASSES, ["dice"], workers=3))) == 3


def test_only_a_few_cases_are_held_at_once():
    begun = []

    def note(case_id):
        begun.append(case_id)
        return load(case_id)

    scored = score_cases([str(n) for n in range(50)], note, CLASSES, ["dice"], workers=2)
    next(scored)
    time.sleep(0.5)  # long enough for dozens of such cases, if they were allowed to begin
    assert len(begun) <= 4
    scored.close()
    assert len(begun) <= 4


def test_an_error_names_its_case_and_what_came_before_is_kept():
    def spoilt(case_id):
        case = load(case_id)
        return case._replace(reference=case.reference[:3]) if case_id == "2" else case

    scored = score_cases(["0", "1", "2", "3"], spoilt, CLASSES, ["dice"], workers=2)
    assert next(scored)[0]["case_id"] == "0"
    assert next(scored)[0]["case_id"] == "1"
    with pytest.raises(UserError, match=r"^Case 2: The prediction has shape"):
        next(scored)


def test_a_misspelt_metric_is_reported_before_anything_is_read():
    def never(case_id):
        raise AssertionError(case_id)

    with pytest.raises(UserError, match="Did you mean 'dice'"):
        score_cases(["0"], never, CLASSES, ["dise"])


def test_not_annotated_travels_with_the_case():
    rows = next(score_cases(["0"], lambda c: load(c)._replace(not_annotated=["b"]), CLASSES, ["dice"]))
    assert [row["state"] for row in rows] == ["both", "not_annotated"]


def test_matching_ids():
    assert match_cases(["b", "a"], ["a", "b"]) == ["a", "b"]
    with pytest.raises(UserError, match="1 of 3 cases have no prediction: c"):
        match_cases(["a", "b"], ["a", "b", "c"])
    with pytest.raises(UserError, match="1 predictions belong to no expected case: x"):
        match_cases(["a", "b", "x"], ["a", "b"])
    assert match_cases(["a", "x"], ["a", "b"], allow_missing=True, allow_extra=True) == ["a"]
    with pytest.raises(UserError, match="None of the 1 predictions"):
        match_cases(["x"], ["a"], allow_missing=True, allow_extra=True)
    with pytest.raises(UserError, match="c0, c1, c2, c3, c4 and 3 more"):
        match_cases([], [f"c{n}" for n in range(8)])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, bool])
@pytest.mark.parametrize("order", ["C", "F"])
def test_labels_outside(dtype, order):
    array = np.zeros((3, 4, 5), dtype, order=order)
    array[1, 2, 3] = 1
    assert labels_outside(array, [0, 1]) == []
    assert labels_outside(array, [0]) == [1]
    if dtype is not bool:
        array[0, 0, 0] = 4
        assert labels_outside(array, [0, 1, 2]) == [4]
