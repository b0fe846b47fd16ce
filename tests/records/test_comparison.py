from __future__ import annotations

import pytest

from harness.cards.claim import Claim
from harness.cards.library import claims
from harness.records.comparison import Run, baseline_of, compare, gain, twins
from harness.records.protocol import claim_protocol, find_metric, not_public, record_protocol, rounding
from harness.records.schema import Experiment
from harness.scoring.verdict import PROTOCOL_FIELDS


def claim(**over):
    base = {
        "id": "r900", "model": "Models Genesis", "variant": "v", "init": "pretrained", "dataset": "synthetic_boxes",
        "task": None, "split": "boxes-24-6 (validation, n=6)", "metric": "dice", "unit": "percent", "value": 82.7,
        "source": "a paper", "confidence": "paper",
    }  # fmt: skip
    return Claim(**{**base, **over})


@pytest.fixture
def written(tools, tmp_path):
    """Make runs of both twins for some seeds, without marks unless asked for."""

    def make(seeds, inits=("pretrained", "scratch"), **over):
        runs = []
        for init in inits:
            for seed in seeds:
                name = f"{init}{seed}-{len(list(tmp_path.iterdir()))}"
                split = tools.parts()["split"].model_copy(update={"id": "boxes-24-6"})
                made = tools.make(tmp_path / name, init, seed=seed, **{"evidence": (), "split": split, **over})
                made.write(tmp_path / name / "record")
                runs.append(Run(made.record, tmp_path / name / "record"))
        return runs

    return make


def mean(runs):
    values = [run.record.metrics[0].value for run in runs if run.record.model.init == "pretrained"]
    return sum(values) / len(values)


def test_the_same_cases_and_three_seeds_can_settle_a_claim(written):
    runs = written(range(3))
    value = round(100 * mean(runs), 2)
    found = compare(claim(value=value), runs, margin=0.2)
    assert found.value.state == "reproduced"
    assert found.value.interval_kind == "seeds"
    assert found.protocol.fields["cases_scored"] == "same"
    assert len(found.run_ids) == 3
    assert compare(claim(value=value - 50), runs, margin=0.2).value.state == "higher"
    assert compare(claim(value=99.99), runs, margin=0.001).value.state == "lower"


def test_one_seed_is_never_enough(written):
    runs = written([0])
    assert compare(claim(value=100 * mean(runs)), runs, margin=0.5).value.state == "inconclusive"


def test_the_margin_of_the_experiment_counts(written):
    runs = written(range(3), experiment=Experiment(id="e", sha256="0" * 64, margin=0.3))
    found = compare(claim(value=100 * mean(runs)), runs)
    assert (found.value.margin, found.margin_fixed) == (0.3, True)
    bare = compare(claim(value=100 * mean(runs)), written(range(3, 6)))
    assert (bare.value.margin, bare.margin_fixed) == (0.01, False)
    assert "not fixed before" in bare.explanation


def test_other_cases_take_the_two_level_interval(written):
    runs = written(range(2))
    found = compare(claim(split="not stated", value=100 * mean(runs)), runs, margin=0.5)
    assert found.protocol.fields["cases_scored"] == "unknown"
    assert found.value.interval_kind == "seeds_then_cases"


@pytest.mark.parametrize(
    ("over", "stated", "field"),
    [
        ({"split": "boxes-18-12 (test, n=12)"}, None, "cases_scored"),
        ({"split": "boxes-24-6 fold3"}, None, "cases_scored"),
        ({"metric": "soft_dice_mean_regions"}, None, "threshold"),
        ({"per_class": {"liver": 90.0}}, None, "label_set"),
        ({}, {"grid": "resampled"}, "grid"),
        ({}, {"weights": "0" * 64}, "weights"),
    ],
)
def test_a_difference_that_matters_makes_it_not_comparable(written, over, stated, field):
    found = compare(claim(**over), written(range(3)), stated=stated)
    assert found.protocol.blocking == (field,)
    assert found.value.state == "not_comparable"
    assert found.value.difference is None


def test_other_weights_matter_to_a_pretrained_row_alone(written):
    found = compare(claim(init="scratch"), written(range(3)), stated={"weights": "0" * 64})
    assert found.protocol.comparable


def test_a_schedule_may_differ_and_is_said(written):
    found = compare(claim(), written(range(3)), stated={"schedule": ("sgd", 0.1, "poly", 1000)})
    assert found.value.state != "not_comparable"
    assert "The protocols differ in schedule." in found.explanation
    assert f"{found.protocol.n_unknown} of 14 protocol fields are unknown." in found.explanation


def test_marked_runs_never_speak_to_a_claim(written):
    found = compare(claim(), written(range(3), evidence=("bundled_sample",)))
    assert found.value.state == "not_attempted"
    assert "samples" in found.explanation
    assert found.run_ids == ()


@pytest.mark.parametrize("over", [{"dataset": "btcv"}, {"model": "Med3D"}, {"metric": "auc"}, {"init": "other"}])
def test_runs_of_something_else_do_not_count(written, over):
    found = compare(claim(**over), written([0]))
    assert found.value.state == "not_attempted"
    assert found.to_json()["run_ids"] == ()


def test_what_nobody_can_reproduce_says_why(written):
    found = compare(claim(split="not published in repository"), written(range(3)))
    assert found.value.state == "not_reproducible_as_published"
    assert compare(claim(split="private"), []).value.state == "not_reproducible_as_published"


def test_withdrawn_superseded_and_repeated_runs_count_once_or_not(written):
    from datetime import UTC, datetime

    runs = written(range(3), inits=("pretrained",))
    gone = compare(claim(), runs, withdrawn=[runs[0].record.run_id])
    assert len(gone.run_ids) == 2
    again = written([0], inits=("pretrained",), created=datetime(2026, 9, 1, tzinfo=UTC))
    repeated = compare(claim(), [*runs, *again])
    assert len(repeated.run_ids) == 3
    assert again[0].record.run_id in repeated.run_ids
    mended = {"supersedes": runs[1].record.run_id, "superseded_by_reason": "a wrong window"}
    better = written([7], inits=("pretrained",), **mended)
    found = compare(claim(), [*runs, *better]).run_ids
    assert set(found) == {run.record.run_id for run in (runs[0], runs[2], *better)}


def test_the_gain_is_over_twins_case_by_case(written):
    runs = written(range(3))
    tuned = [run for run in runs if run.record.model.init == "pretrained"]
    pairs = twins(tuned, runs)
    assert [(a.record.seeds.torch, b.record.seeds.torch) for a, b in pairs] == [(0, 0), (1, 1), (2, 2)]
    found = gain(pairs, tuned[0].record.metrics[0], claimed=0.02)
    scratch = [b for _, b in pairs]
    by_hand = sum(
        a.case_scores("dice.hard.native.v1")[case] - score
        for a, b in pairs
        for case, score in b.case_scores("dice.hard.native.v1").items()
    ) / (5 * len(scratch))
    assert found.gain == pytest.approx(by_hand)
    assert found.claimed == 0.02
    assert gain([], tuned[0].record.metrics[0]).state == "not_attempted"
    assert compare(claim(), runs, claimed_gain=0.02).gain == found


def test_twins_need_the_same_seed(written):
    tuned = written([0], inits=("pretrained",))
    assert twins(tuned, written([1], inits=("scratch",))) == []


def test_rounding_is_that_of_the_print():
    assert rounding(claim(value=82.74)) == pytest.approx(1e-4)
    assert rounding(claim(value=82.7)) == pytest.approx(1e-3)
    assert rounding(claim(value=83.0)) == pytest.approx(1e-2)
    assert rounding(claim(value=0.9110, unit="fraction")) == pytest.approx(1e-3)


def test_the_record_knows_all_fourteen_fields_but_what_a_run_from_scratch_lacks(tools, tmp_path):
    record = tools.make(tmp_path).record
    known = record_protocol(record, record.metrics[0])
    assert set(known) == set(PROTOCOL_FIELDS)
    assert None not in known.values()
    scratch = tools.make(tmp_path, "scratch").record
    assert [k for k, v in record_protocol(scratch, scratch.metrics[0]).items() if v is None] == ["weights"]


def test_every_claim_of_the_ledger_gets_a_verdict_and_none_is_invented():
    rows = claims().results
    found = [compare(row, []) for row in rows]
    assert len(found) == len(rows) > 150
    assert {one.value.state for one in found} == {"not_attempted", "not_reproducible_as_published"}
    for row in rows:
        assert set(claim_protocol(row)) <= set(PROTOCOL_FIELDS)
        assert (compare(row, []).value.state == "not_reproducible_as_published") == (not_public(row) is not None)


def test_splits_of_the_ledger_are_recognised():
    by_split = {row.split: claim_protocol(row).get("cases_scored") for row in claims().results}
    assert by_split["btcv-24-6 (validation, n=6)"] == ("btcv-24-6", None)
    assert by_split["brats21-5fold fold1"] == ("brats21-5fold", 1)
    assert by_split["not stated"] is None


def test_the_baseline_is_the_one_scratch_row_beside_it():
    rows = {row.id: row for row in claims().results}
    assert baseline_of(rows["r001"], rows.values()).id == "r002"
    assert baseline_of(rows["r002"], rows.values()) is None


def test_a_claim_finds_the_nearest_metric(tools, tmp_path):
    record = tools.make(tmp_path).record
    assert find_metric(claim(), record).id == "dice.hard.native.v1"
    assert find_metric(claim(metric="soft_dice_mean_regions"), record).id == "dice.hard.native.v1"
    assert find_metric(claim(metric="lesionwise_f1"), record) is None
