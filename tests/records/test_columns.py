"""What is read and passed by columns is what would be read and passed row by row; nothing gets by that way."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.files import canonical_json
from harness.records import opened as opening
from harness.records.aggregate import aggregate
from harness.records.cases import CaseRow, parse_cases, to_csv
from harness.records.check_values import _clearly_right, _Values
from harness.records.columns import _numbers, read_columns
from harness.records.crosscheck import summarise
from harness.records.identity import run_id, run_id_of_text
from harness.records.opened import open_record
from harness.records.predictions import lists, parse_predictions, predictions_text
from harness.records.verify import verify, verify_opened

DICE, HD95 = "dice.hard.native.v1", "hd95.native.v1"


def rows_of(change=None):
    """Three cases of two classes, all consistent; the second class of the last case is in neither mask."""
    made = []
    for case in range(3):
        for label in (1, 2):
            tp, fp, fn = 10 + case, label, 3
            counts = (tp, fp, fn, tp + fn, tp + fp)
            masks = (*counts, 1.0, 1.0, 2.5, 0.25 + case, f"{case}" * 64)
            own = {DICE: (2 * tp / (2 * tp + fp + fn), None), HD95: (1.5, None)}
            if (case, label) == (2, 2):
                masks, own = (*[0] * 5, *masks[5:]), dict.fromkeys(own, (None, "absent_in_both"))
            made += [
                CaseRow(f"case_{case:02d}", label, f"part {label}", metric, *own[metric], *masks) for metric in own
            ]
    return made if change is None else [change(row) for row in made]


def test_columns_hold_the_rows():
    written = to_csv(rows_of())
    columns = read_columns(written)
    assert columns.rows() == sorted(rows_of())
    assert columns.layout.complete
    assert columns.of_row is None
    assert columns.of_cases() == (("case_00", "case_01", "case_02"), [f"{case}" * 64 for case in range(3)])
    assert columns.layout.of_masks[1] == "case_00\t2\t"
    hausdorff = columns.layout.of_metric(HD95)
    assert columns.values[hausdorff] == [row.value for row in rows_of() if row.metric_id == HD95]


def test_metrics_that_disagree_about_the_masks_are_kept_apart():
    odd = rows_of(lambda row: row._replace(tp=1) if row[:4] == ("case_01", 2, "part 2", HD95) else row)
    columns = read_columns(to_csv(odd))
    assert columns.of_row is not None
    assert columns.of_cases() is None
    assert columns.rows() == sorted(odd)


def test_classes_of_a_case_with_other_predictions_have_no_one_prediction():
    odd = rows_of(lambda row: row._replace(prediction_sha256="f" * 64) if row.class_id == 2 else row)
    assert read_columns(to_csv(odd)).of_cases() is None


@pytest.mark.parametrize(
    "drop",
    [lambda row: row.case_id == "case_01" and row.class_id == 2, lambda row: row[:4] == ("case_01", 2, "part 2", DICE)],
)
def test_a_layout_with_a_gap_is_not_complete(drop):
    columns = read_columns(to_csv([row for row in rows_of() if not drop(row)]))
    assert not columns.layout.complete
    assert columns.of_row is not None


def test_the_same_cases_are_looked_at_once():
    first = read_columns(to_csv(rows_of()))
    second = read_columns(to_csv(rows_of(lambda row: row._replace(seconds=9.0))))
    other = read_columns(to_csv(rows_of(lambda row: row._replace(class_id=row.class_id + 1))))
    assert second.layout is first.layout
    assert other.layout is not first.layout


plain = st.floats(min_value=1e-5, max_value=1e17) | st.integers(1, 2**40).map(lambda n: n / 2**17)


@given(st.lists(plain | st.just(0.0) | st.just(-0.0) | st.floats(), max_size=4), st.integers(-(10**20), 10**20))
@settings(max_examples=300, deadline=None)
def test_numbers_read_quickly_are_those_python_reads(floats, whole):
    texts = list(map(repr, floats))
    found = _numbers(texts, float)
    assert found is None or list(map(repr, found)) == texts
    if floats and all(1e-4 <= value < 1e16 for value in floats):
        assert found == floats
    assert _numbers([str(whole)], int) == [whole]
    assert _numbers([str(whole)], float) is None
    assert _numbers(texts, int) in (None, [])


def test_shortest_spellings_agree_between_python_and_pydantic():
    rng = random.Random(0)
    near = [math.nextafter(2.0**power, side) for power in range(-13, 53) for side in (0.0, math.inf)]
    ties = [number / 2**17 for number in range(15, 2**17, 2)]  # many lie half-way between two shortest spellings
    values = [*near, *ties, *[10 ** rng.uniform(-4, 15.9) for _ in range(20_000)]]
    assert _numbers(list(map(repr, values)), float) == values


@pytest.mark.parametrize("text", ["0.50", "5e-1", "+0.5", " 0.5", "0.5 ", ".5", "5", "1_0.0", "NaN", "Infinity", "inf",
                                  "0.00001", "1e-05", "10000000000000000.0", "null", "[0.5", "0.5]", "true", '"0.5"',
                                  "0.1000000000000000055", ""])  # fmt: skip
def test_no_other_spelling_of_a_number_is_read_quickly(text):
    assert _numbers([text], float) is None
    assert _numbers([text, "0.25"], float) is None
    assert _numbers(["[0.25", "0.5]"], float) is None


@pytest.mark.parametrize("text", ["01", "-0", "+1", " 1", "1.0", "1e2", "1_0", "0x1", "true", "null", "", "\u0661"])
def test_no_other_spelling_of_a_count_is_read_quickly(text):
    assert _numbers([text], int) is None


def test_predictions_are_listed_or_read_with_care():
    listed = {"a": "0" * 64, "b": "f" * 64}
    text = predictions_text(listed)
    assert lists(text, list(listed), list(listed.values()))
    assert parse_predictions(text) == listed
    assert not lists(text, ["a", "c"], list(listed.values()))
    assert not lists(text, ["a", "b"], ["0" * 64, "e" * 64])
    for odd in ("F" * 64, "0" * 63, "g" * 64, "0" * 65):
        assert not lists(f"a\t{odd}\n", ["a"], [odd])
    assert not lists("\t" + "0" * 64 + "\n", [""], ["0" * 64])


def test_the_run_id_from_canonical_bytes_is_the_run_id(run):
    data = json.loads((run / "record" / "record.json").read_text(encoding="utf-8"))
    note = {"run_id": "not this one", "attestations": []}
    for change in ({}, {"attestations": [note]}, {"reasons": {"run_id": data["run_id"]}}, {"zzz": 1}, {"aaa": 1}):
        changed = data | change
        assert run_id_of_text(changed, canonical_json(changed)) == run_id(changed)
    assert run_id_of_text(data, canonical_json(data)) == data["run_id"]
    # Bytes that are not those of the data are not believed.
    assert run_id_of_text(data, canonical_json(data | {"attestations": [note]})) == data["run_id"]


def by_rows(folder, monkeypatch):
    """Open a record the slow way: every text parsed, every row judged."""
    with monkeypatch.context() as patch:
        patch.setattr(opening, "read_columns", lambda text: None)
        patch.setattr("harness.records.cases.read_columns", lambda text: None)
        patch.setattr("harness.records.configuration._by_sections", lambda text: None)
        found = open_record(folder)
    assert found.columns is None
    return found


CHANGES = {
    "nothing": lambda row: row,
    "a value": lambda row: row._replace(value=0.999) if row[0] == "case_01" and row[3] == DICE else row,
    "a value within rounding": lambda row: row._replace(value=row.value + 8e-7) if row.value and row.value < 1 else row,
    "a value beyond rounding": lambda row: row._replace(value=row.value - 2e-6) if row.value else row,
    "above one": lambda row: row._replace(value=1.5) if row[3] == DICE and row[0] == "case_02" else row,
    "below zero": lambda row: row._replace(value=-0.5) if row[3] == HD95 and row[0] == "case_02" else row,
    "counts": lambda row: row._replace(tp=row.tp + 1) if row[0] == "case_02" else row,
    "negative counts": lambda row: row._replace(tp=-1, fn=row.n_ref + 1, fp=row.n_pred + 1),
    "huge counts": lambda row: row._replace(n_ref=10**400) if row[0] == "case_00" else row,
    "counts of one metric": lambda row: row._replace(n_pred=1) if row[3] == HD95 and row[0] == "case_04" else row,
    "no counts": lambda row: row._replace(tp=None, fp=None, fn=None, n_ref=None, n_pred=None),
    "spacing": lambda row: row._replace(spacing_y=-1.0),
    "spacing of a class": lambda row: row._replace(spacing_x=2.0) if row[1] == 2 and row[0] == "case_02" else row,
    "no spacing": lambda row: row._replace(spacing_x=None, spacing_y=None, spacing_z=None),
    "prediction": lambda row: row._replace(prediction_sha256="0" * 64) if row[0] == "case_02" else row,
    "prediction of a class": lambda row: row._replace(prediction_sha256="0" * 64) if row[1] == 1 else row,
    "no hash": lambda row: row._replace(prediction_sha256="Z" * 64),
    "a reason": lambda row: row._replace(value=None, reason="undefined") if row[0] == "case_01" else row,
    "a failure": lambda row: row._replace(value=None, reason="failed") if row[0] == "case_01" else row,
    "an unseen structure": lambda row: row._replace(value=0.5) if row.reason else row,
    "a missing row": lambda row: None if row[:2] == ("case_01", 2) and row[3] == DICE else row,
    "a missing case": lambda row: None if row[0] == "case_01" else row,
    "another case": lambda row: row._replace(case_id="case_0x") if row[0] == "case_04" else row,
    "a private case": lambda row: row._replace(case_id="case/home/ada/x") if row[0] == "case_04" else row,
    "another class": lambda row: row._replace(class_name="upper") if row[1] == 2 else row,
    "two names": lambda row: row._replace(class_name="upper") if row[1] == 2 and row[0] == "case_00" else row,
    "another number": lambda row: row._replace(class_id=7) if row[1] == 2 else row,
    "another metric": lambda row: row._replace(metric_id="iou.native.v1") if row[3] == HD95 else row,
    "a quoted name": lambda row: row._replace(class_name='left, "so"') if row[1] == 1 else row,
}  # fmt: skip


_MAY_BE_RIGHT = ("a value within rounding", "no spacing")  # once the hashes are made to fit


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("sealed", [False, True])
def test_both_ways_find_the_same(run, tools, cards, monkeypatch, name, sealed):
    folder = run / "record"
    tools.rewrite(folder, CHANGES[name])
    if sealed:
        tools.reseal(folder)
    quick, careful = open_record(folder), by_rows(folder, monkeypatch)
    assert quick.rows == careful.rows == parse_cases((folder / "cases.csv").read_text(encoding="utf-8"))[0]
    assert (quick.config, quick.config_sha256) == (careful.config, careful.config_sha256)
    assert quick.canonical
    assert quick.raw == json.loads(quick.text)
    found, expected = (verify_opened(one, cards=[cards], full=name == "nothing") for one in (quick, careful))
    assert list(map(str, found.findings)) == list(map(str, expected.findings))
    assert found == expected
    assert summarise(quick) == summarise(careful)
    if name not in _MAY_BE_RIGHT:
        assert found.ok == (name == "nothing")


def test_a_valid_record_is_never_looked_at_row_by_row(run, tools, monkeypatch):
    folder = run / "record"
    # The pattern has a structure that is in neither mask of a case; without it everything is clear at once.
    tools.rewrite(folder, lambda row: row if row.case_id != "case_03" else row._replace(
        value=1.0, reason=None, tp=5, fp=0, fn=0, n_ref=5, n_pred=5))  # fmt: skip
    tools.reseal(folder, aggregates=True)
    monkeypatch.setattr("harness.records.columns.Columns.rows", lambda self: pytest.fail("rows were made"))
    assert verify(folder).ok


@pytest.mark.parametrize(("metric", "value", "right"), [
    ("nsd@2.native.v1", 1.0, True), ("nsd@2.native.v1", 1.01, False), ("nsd@2.native.v1", -0.01, False),
    (HD95, 1.01, True), (HD95, -0.01, False),
])  # fmt: skip
def test_what_no_count_gives_is_right_within_its_range(metric, value, right):
    rows = [row._replace(metric_id=metric, value=0.5) for row in rows_of() if row.metric_id == HD95][:4]
    (stated,) = aggregate(rows, policy="adopted", intervals=False)
    found = _clearly_right(
        read_columns(to_csv([rows[0]._replace(value=value), *rows[1:]])), {stated.id: _Values(stated)}
    )
    assert found.tolist() == [right, True, True, True]
