from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.records import cases
from harness.records.cases import (
    COLUMNS,
    CaseRow,
    case_rows,
    parse_cases,
    read_cases,
    row_order,
    scores_sha256,
    to_csv,
)
from harness.records.columns import read_columns

ROW = CaseRow("a", 1, "liver", "dice.hard.native.v1", 0.5, None, 2, 2, 2, 4, 4, 1.0, 1.0, 3.0, 0.25, "f" * 64)

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=0)
text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12)
counts, measures = [st.none() | st.integers(0, 10**12)] * 5, [st.none() | finite] * 4
reasons, hashes = st.sampled_from([None, "absent_in_both", "failed"]), st.none() | st.just("0" * 64)
row = st.tuples(text, st.integers(0, 300), text, text, finite, reasons, *counts, *measures, hashes).map(CaseRow._make)


@given(st.lists(row, max_size=4))
@settings(max_examples=80, deadline=None)
def test_any_rows_survive_the_round_trip(rows):
    written = to_csv(rows)
    read, digest = parse_cases(written)
    assert to_csv(read) == written
    assert digest == scores_sha256(rows)
    assert sorted(map(repr, read)) == sorted(map(repr, rows))


def test_the_columns_are_the_published_ones():
    assert to_csv([]) == (
        "case_id,class_id,class_name,metric_id,value,reason,tp,fp,fn,n_ref,n_pred,"
        "spacing_x,spacing_y,spacing_z,seconds,prediction_sha256\n"
    )
    assert to_csv([ROW]).splitlines()[1] == (
        "a,1,liver,dice.hard.native.v1,0.5,,2,2,2,4,4,1.0,1.0,3.0,0.25," + "f" * 64
    )
    assert len(COLUMNS) == 16


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_nan_or_infinity_is_written(value):
    with pytest.raises(ValueError, match="leave the value out"):
        to_csv([ROW._replace(value=value)])


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (",0.5,", ",0.50,", "shortest"),
        (",0.5,", ",5e-1,", "shortest"),
        (",0.5,", ",inf,", "finite"),
        (",0.5,", ",NaN,", "finite"),
        (",0.5,,", ",,,", "neither a value nor a reason"),
        (",0.5,,", ",0.5,because,", "not known"),
        (",2,2,2,", ",02,2,2,", "plain"),
        (",2,2,2,", ",2.0,2,2,", "invalid literal"),
        ("liver", '"liver"', "quotes"),
        ("\n", "\r\n", "line ends"),
        ("liver", "li\x7fver", "line ends"),
        ("liver", "li\u2028ver", "line ends"),
        (",1.0,1.0,", ",1.0,", "15 fields"),
        ("case_id", "case", "name the columns"),
        ('liver', '"liver', "unexpected end"),
    ],
)  # fmt: skip
def test_another_spelling_is_refused(old, new, complaint):
    written = to_csv([ROW])
    assert old in written
    with pytest.raises(UserError, match=complaint):
        parse_cases(written.replace(old, new) if old == "\n" else written.replace(old, new, 1))


signs = st.sampled_from(["0", "9", ".", "-", ",", "e", '"', "\n", " ", "\x1f", "\x7f", "\u2028", "\u00e9", "inf", ""])


@given(place=st.integers(0, 500), sign=signs, width=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_the_quick_way_reads_what_the_careful_way_reads_and_nothing_else(place, sign, width):
    names = [("a", 1, "dice.hard.native.v1"), ("a", 1, "hd95.native.v1"), ("b", 1, "dice.hard.native.v1")]
    written = to_csv([ROW._replace(case_id=c, class_id=n, metric_id=m) for c, n, m in names])
    place %= len(written)
    changed = written[:place] + sign + written[place + width :]
    try:
        fields = cases._fields(changed, "cases.csv")
        careful = (cases._parsed(fields[1:], "cases.csv"), cases._scores_sha256(fields[1:]))
        sound = ",".join(fields[0]) == written.partition("\n")[0] and sorted(careful[0], key=row_order) == careful[0]
    except (UserError, IndexError):
        sound = False
    read = read_columns(changed)
    quick = None if read is None else (read.rows(), read.scores_sha256)
    assert quick is None or (sound and quick == careful)
    if changed == written:
        assert quick is not None


def test_rows_out_of_order_are_refused():
    lines = to_csv([ROW, ROW._replace(case_id="b")]).splitlines(keepends=True)
    with pytest.raises(UserError, match="sorted"):
        parse_cases(lines[0] + lines[2] + lines[1])


def test_a_missing_or_binary_file_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="no case file"):
        read_cases(tmp_path / "cases.csv")
    (tmp_path / "cases.csv").write_bytes(b"\xff")
    with pytest.raises(UserError, match="UTF-8"):
        read_cases(tmp_path / "cases.csv")


def test_commas_and_quotes_in_names_are_quoted():
    odd = ROW._replace(case_id='a,"b"', class_name="left, right")
    assert parse_cases(to_csv([odd]))[0] == [odd]


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\tb", "a\x00", "a\u2028b"])
def test_control_characters_in_names_are_refused(name):
    with pytest.raises(UserError, match="control character"):
        to_csv([ROW._replace(case_id=name)])
    with pytest.raises(UserError, match=r"quotes or line ends|fields instead"):
        parse_cases(to_csv([ROW]).replace("\na,", f"\n{name},"))


def test_seconds_do_not_count_as_science():
    assert scores_sha256([ROW]) == scores_sha256([ROW._replace(seconds=99.0)])
    assert scores_sha256([ROW]) != scores_sha256([ROW._replace(value=0.25)])


def scored(**changes):
    row = {"case_id": "a", "class": "liver", "metric": "hd95", "state": "pred_empty", "value": math.inf}
    counts = {"tp": 0, "fp": 0, "fn": 9, "n_ref": 9, "n_pred": 0, "spacing": (1.0, 1.0, 2.0), "diagonal_mm": 42.0}
    return {**row, **counts, **changes}


def test_the_policy_is_applied_and_its_reason_kept():
    (filled,) = case_rows([scored()], {"liver": 6}, seconds={"a": 1.5}, predictions={"a": "0" * 64})
    assert (filled.value, filled.reason, filled.state) == (42.0, "absent_in_prediction", "pred_empty")
    assert (filled.class_id, filled.metric_id, filled.spacing_z) == (6, "hd95.native.v1", 2.0)
    (left_out,) = case_rows([scored()], {"liver": 6}, policy="monai_ignore_empty", grid="resampled")
    assert (left_out.value, left_out.reason) == (None, "absent_in_prediction")
    assert left_out.metric_id == "hd95.resampled.v1"


def test_a_value_undefined_by_its_formula_says_so():
    undefined = scored(metric="specificity", state="both", value=math.nan, tp=9, fn=0, n_pred=9)
    (row,) = case_rows([undefined], {"liver": 6})
    assert (row.value, row.reason) == (None, "undefined")
