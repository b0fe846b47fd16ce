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


FOLDS = {"count": 3, "combined": "mean_of_folds"}


@pytest.fixture
def folds(tools, tmp_path):
    """Make runs of some folds for some seeds; every fold scores cases of its own, with weights of its own."""

    def make(plan, init="pretrained", **over):
        runs = []
        for seed, found in plan.items():
            for fold in found:
                parts, name = tools.parts(init, seed), f"{init}-{seed}-{fold}-{len(list(tmp_path.iterdir()))}"
                print_of = parts["dataset"].fingerprint.model_copy(update={"scored": f"{fold}" * 64})
                given = {
                    "evidence": (),
                    "split": parts["split"].model_copy(update={"id": "boxes-3fold", "fold": fold, "n_folds": 3}),
                    "model": parts["model"].model_copy(update={"variant": f"boxes_fold{fold}"}),
                    "dataset": parts["dataset"].model_copy(update={"fingerprint": print_of}),
                    **over,
                }
                made = tools.make(tmp_path / name, init, seed=seed, predict_seed=10 * seed + fold, **given)
                rows = [row._replace(case_id=f"fold{fold}_{row.case_id}") for row in made.rows]
                predictions = {f"fold{fold}_{case}": value for case, value in made.predictions.items()}
                made = tools.make(
                    tmp_path / name, init, seed=seed, **{**given, "cases": rows, "predictions": predictions}
                )
                made.write(tmp_path / name / "record")
                runs.append(Run(made.record, tmp_path / name / "record"))
        return runs

    return make


def over_folds(value, **over):
    about = {"folds": FOLDS, "models": ["models_genesis.boxes_fold0"], **over.pop("about", {})}
    about["models"] = [f"models_genesis.boxes_fold{fold}" for fold in range(3)]
    split = "boxes-3fold (validation folds)"
    return claim(value=value, unit="fraction", split=split, about=about, **over)


def test_a_mean_of_folds_is_compared_with_the_mean_of_all_folds(folds):
    runs = folds(dict.fromkeys(range(3), range(3)))
    values = [run.record.metrics[0].value for run in runs]
    printed = round(sum(values) / 9, 4)
    found = compare(over_folds(printed, per_fold={"fold1": 0.5}), runs, margin=0.3)
    assert found.value.state == "reproduced"
    assert (found.value.interval_kind, found.n_seeds, len(found.run_ids)) == ("seeds", 3, 9)
    assert found.protocol.fields["cases_scored"] == "same"
    assert found.protocol.fields["weights"] == found.protocol.fields["data_version"] == "unknown"
    assert found.value.difference == pytest.approx(sum(values) / 9 - printed)
    first = [values[3 * seed] for seed in range(3)]
    assert f"Fold by fold: {sum(first) / 3:.4f}, " in found.explanation
    assert "(printed 0.5000)" in found.explanation
    # t interval over the three seeds, whose values are means over folds: folds are no repeats
    means = [sum(values[3 * seed : 3 * seed + 3]) / 3 for seed in range(3)]
    half = 4.302652729911275 * (sum((m - sum(means) / 3) ** 2 for m in means) / 2) ** 0.5 / 3**0.5
    assert (found.value.high - found.value.low) / 2 == pytest.approx(half + 0.5 * 10 ** -len(str(printed)[2:]))
    # a claim about one fold alone is none about all of them
    one = compare(claim(split="boxes-3fold fold1", about={"models": ["models_genesis.boxes_fold1"]}), runs)
    assert (len(one.run_ids), one.protocol.fields["cases_scored"]) == (3, "same")


def test_cases_of_all_folds_may_be_pooled_instead(folds):
    runs = folds({0: range(3)})
    pooled = {"folds": {"count": 3, "combined": "pooled_cases"}}
    scores = [score for run in runs for score in run.case_scores("dice.hard.native.v1").values()]
    found = compare(over_folds(0.5, about=pooled), runs, margin=0.2)
    assert len(scores) == 15
    assert found.value.difference == pytest.approx(sum(scores) / 15 - 0.5)
    assert found.value.state == "inconclusive"  # one seed


def test_incomplete_folds_are_no_verdict(folds):
    found = compare(over_folds(0.5), folds({0: [0, 2], 1: [1]}))
    assert (found.value.state, found.run_ids) == ("not_attempted", ())
    assert "seed 0 lacks fold 1; seed 1 lacks folds 0, 2, and the printed number is over all 3" in found.explanation
    some = compare(over_folds(0.5), folds({0: range(3), 1: range(2)}), margin=0.2)
    assert (some.n_seeds, len(some.run_ids)) == (1, 3)
    assert "Left out, since the printed number is over all folds: seed 1 lacks fold 2." in some.explanation


def test_the_gain_over_folds_needs_every_twin(folds):
    runs = folds({0: range(3)})
    twins_of_all = folds({0: range(3)}, init="scratch")
    full = compare(over_folds(0.5), [*runs, *twins_of_all]).gain
    assert full.state != "not_attempted"
    names = "dice.hard.native.v1"
    ours = [s for run in runs for s in run.case_scores(names).values()]
    theirs = [s for run in twins_of_all for s in run.case_scores(names).values()]
    assert full.gain == pytest.approx((sum(ours) - sum(theirs)) / 15)
    assert compare(over_folds(0.5), [*runs, *twins_of_all[:2]]).gain.state == "not_attempted"
    gone = [twins_of_all[0].record.run_id]
    assert compare(over_folds(0.5), [*runs, *twins_of_all], withdrawn=gone).gain.state == "not_attempted"


def test_the_four_means_of_five_folds_are_in_the_ledger():
    rows = {row.id: row for row in claims().results}
    for name in ("r010", "r011", "r102", "r104"):
        assert rows[name].about.folds.model_dump() == {"count": 5, "combined": "mean_of_folds"}
        assert len(rows[name].about.models) == len(rows[name].about.experiments) == 5
        if rows[name].per_fold:
            assert sum(rows[name].per_fold.values()) / 5 == pytest.approx(rows[name].value, abs=1e-4)
    assert rows["r135"].about.folds is None
