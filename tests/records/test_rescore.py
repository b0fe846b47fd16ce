from __future__ import annotations

import shutil

import numpy as np

from harness.records.verify import verify


def again(run, cards):
    return verify(run, rescore=True, full=True, cards=[cards])


def test_the_same_masks_give_the_same_scores(run, cards):
    verdict = again(run, cards)
    assert verdict.findings == ()
    assert verdict.trust_name == "re-scored"


def test_a_made_up_distance_is_caught_though_everything_else_agrees(run, tools, cards):
    def closer(row):
        return row._replace(value=row.value / 2) if row.metric_id == "hd95.native.v1" and row.value else row

    tools.rewrite(run / "record", closer)
    tools.reseal(run / "record", aggregates=True)
    assert verify(run, full=True, cards=[cards]).ok
    verdict = again(run, cards)
    assert {finding.check for finding in verdict.errors} == {6}


def test_made_up_counts_are_caught(run, tools, cards):
    def better(row):
        if row.case_id != "case_00" or row.class_id != 1:
            return row
        tp, fp, fn = row.n_ref, 0, 0
        value = 1.0 if row.metric_id.startswith("dice") else 0.0
        return row._replace(tp=tp, fp=fp, fn=fn, n_pred=tp, value=value)

    tools.rewrite(run / "record", better)
    tools.reseal(run / "record", aggregates=True)
    assert verify(run, full=True, cards=[cards]).ok
    assert {finding.check for finding in again(run, cards).errors} == {6}


def test_swapped_prediction_files_are_caught(run, cards):
    first, second = (run / "predictions" / f"case_0{n}.nii.gz" for n in (0, 1))
    aside = run / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    messages = [str(finding) for finding in again(run, cards).errors]
    assert any("hash differs" in message for message in messages)


def test_a_missing_prediction_and_one_too_many(run, cards):
    (run / "predictions" / "case_00.nii.gz").rename(run / "predictions" / "case_99.nii.gz")
    verdict = again(run, cards)
    assert any(finding.field == "case_00" for finding in verdict.errors)
    assert any("no scored case" in finding.message for finding in verdict.findings)


def test_a_prediction_moved_in_space_is_caught(run, tools, cards):
    path = run / "predictions" / "case_00.nii.gz"
    tools.save(path, tools.prediction_of(0, 0), shift=1.5)
    assert any("corners are 1.5 mm apart" in finding.message for finding in again(run, cards).errors)


def test_a_prediction_in_another_integer_type_is_the_same(run, tools, cards):
    tools.save(run / "predictions" / "case_00.nii.gz", tools.prediction_of(0, 0).astype(np.int16))
    assert again(run, cards).trust == 3


def test_without_predictions_or_card_a_note_says_so(run, cards):
    assert "no card" in str(verify(run, rescore=True).findings)
    shutil.rmtree(run / "predictions")
    verdict = again(run, cards)
    assert verdict.ok
    assert verdict.trust_name == "re-aggregated"
    assert "no predictions" in verdict.findings[0].message


def test_changed_references_are_caught(run, tools, cards, tmp_path):
    copied = tmp_path / "cards"
    shutil.copytree(cards, copied)
    other = tools.reference_of(1)
    other[other == 1] = 2
    tools.save(copied / "synthetic_boxes" / "labels" / "case_01.nii.gz", other)
    assert {finding.check for finding in again(run, copied).errors} == {6}
