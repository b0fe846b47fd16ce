"""What a comparison says in words."""

from __future__ import annotations

import dataclasses

import pytest

from harness.cards.claim import About, Claim
from harness.records.comparison import Run, compare
from harness.records.explanation import explain, one_more_seed
from harness.scoring.verdict import PROTOCOL_FIELDS, value_verdict


def claim(**over):
    base = {
        "id": "r900", "model": "Models Genesis", "variant": "v", "init": "pretrained", "dataset": "boxes_alias",
        "task": None, "split": "boxes-24-6 (validation, n=6)", "metric": "dice", "unit": "percent", "value": 82.7,
        "source": "a paper", "confidence": "paper", "about": About(card="synthetic_boxes"),
    }  # fmt: skip
    return Claim(**{**base, **over})


@pytest.fixture
def runs(tools, tmp_path):
    made = []
    for seed in range(3):
        split = tools.parts()["split"].model_copy(update={"id": "boxes-24-6"})
        one = tools.make(tmp_path / f"{seed}", "pretrained", seed=seed, evidence=(), split=split)
        one.write(tmp_path / f"{seed}" / "record")
        made.append(Run(one.record, tmp_path / f"{seed}" / "record"))
    return made


def test_every_field_is_shown_with_both_sides(runs):
    printed = claim(about=About(card="synthetic_boxes", stated={"grid": "resampled", "averaging": "class_then_case"}))
    found = explain(printed, compare(printed, runs), runs)
    lines = {line.name: line for line in found.fields}
    assert tuple(lines) == PROTOCOL_FIELDS
    grid = lines["grid"]
    assert (grid.state, grid.claimed, grid.ours, grid.forbids) == ("different", "resampled", "native", True)
    assert lines["averaging"].state == "same"
    assert (lines["schedule"].state, lines["schedule"].claimed) == ("unknown", "not stated")
    assert found.comparison.value.state == "not_comparable"
    assert "however often" in found.next_seed
    assert found.to_json()["fields"][0]["name"] == "cases_scored"


def test_a_run_speaks_to_the_claim_of_its_own_weights_alone(runs):
    name = f"{runs[0].record.model.id}.{runs[0].record.model.variant}"
    for models, ids in (((), 3), ((name,), 3), (("models_genesis.other",), 0), (("none",), 0)):
        printed = claim(about=About(card="synthetic_boxes", models=models))
        assert len(compare(printed, runs).run_ids) == ids, models


def test_a_released_file_is_the_claim_where_the_ledger_says_so(runs):
    name = f"{runs[0].record.model.id}.{runs[0].record.model.variant}"
    record = runs[0].record.model_copy(
        update={"model": runs[0].record.model.model_copy(update={"init": "released"}), "kind": "eval_only"}
    )
    released = [Run(record, runs[0].folder)]
    scratch = claim(init="scratch", about=About(card="synthetic_boxes"))
    assert compare(scratch, released).run_ids == ()
    about = About(card="synthetic_boxes", released=(name,))
    found = compare(claim(init="scratch", about=about), released)
    assert len(found.run_ids) == 1
    assert found.value.interval_kind in ("versions", "cases")
    assert found.value.margin == 0.001


def test_a_recipe_followed_to_the_letter_is_the_same_schedule(runs):
    stated = {"schedule": "recipe", "preprocessing": "recipe"}
    followed = [Run(run.record.model_copy(update={"division": "closed"}), run.folder) for run in runs]
    recipe = runs[0].record.protocol.id
    for held, protocol, state in (
        (followed, recipe, "same"),
        (followed, "another", "different"),
        ([Run(run.record.model_copy(update={"division": "open"}), run.folder) for run in runs], recipe, "different"),
    ):
        printed = claim(about=About(card="synthetic_boxes", protocol=protocol, stated=stated))
        fields = compare(printed, held).protocol.fields
        assert fields["schedule"] == fields["preprocessing"] == state


def test_an_empty_rule_is_stated_by_its_policy(runs):
    for policy, state in (("adopted", "same"), ("pymic", "different")):
        printed = claim(about=About(card="synthetic_boxes", stated={"empty_rule": {"policy": policy}}))
        assert compare(printed, runs).protocol.fields["empty_rule"] == state


def test_why_nobody_has_run_it_is_said():
    printed = claim(about=About(not_attempted="the data need a form"))
    assert compare(printed, []).value.explanation == "Not attempted: the data need a form."
    kept = claim(about=About(not_public="the weights"))
    assert compare(kept, []).value.state == "not_reproducible_as_published"
    assert "not public: the weights" in compare(kept, []).value.explanation


def verdict(**over):
    return value_verdict(**{"reported": 0.8, "margin": 0.01, **over})


def test_one_more_seed():
    assert "three seeds are the least" in one_more_seed(verdict(), 0)
    assert "One more seed gives a first idea" in one_more_seed(verdict(runs=[0.8]), 1)
    assert "that would settle it" in one_more_seed(verdict(runs=[0.80, 0.801]), 2)
    near = verdict(runs=[0.795, 0.8, 0.805])
    assert near.state == "inconclusive"
    assert "that would settle it" in one_more_seed(near, 3)
    half = (near.high - near.low) / 2
    assert f"from ±{half:.4f} to about ±{half * (3.182446 / 2) / (4.302653 / 3**0.5):.4f}" in one_more_seed(near, 3)
    wide = verdict(runs=[0.75, 0.8, 0.85])
    assert "more would settle it" in one_more_seed(wide, 3)
    clear = verdict(runs=[0.8, 0.8001, 0.8002])
    assert clear.state == "reproduced"
    assert "can only narrow" in one_more_seed(clear, 3)
    assert "no training noise" in one_more_seed(verdict(runs=[0.8], eval_only=True), 1)
    hopeless = dataclasses.replace(wide, seeds_needed=None)
    assert "no number of seeds" in one_more_seed(hopeless, 3)
