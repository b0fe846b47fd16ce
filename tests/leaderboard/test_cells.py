"""Cells and gains: who is paired with whom, and what may be said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.leaderboard.cells import Cell, figures, gain, group
from harness.leaderboard.pages import Board, _newest, study
from harness.leaderboard.reading import read_run
from harness.leaderboard.summary import summarise


@pytest.fixture(scope="module")
def summary(demo_runs):
    return summarise(read_run(demo_runs / "pretrained" / "record"), "pretrained")


def run(summary, init, seed, scores, **changes):
    value = sum(scores.values()) / len(scores) if scores else None
    metric = replace(summary.metric, value=value, **changes.pop("metric", {}))
    return replace(
        summary,
        init=init,
        seed=seed,
        scores=scores,
        metric=metric,
        run_id=f"{init}{seed}",
        status="complete",
        **changes,
    )


def scores(*values):
    return {f"case{i}": value for i, value in enumerate(values)}


def only(runs):
    ((key, sides),) = group(runs)
    return Cell(key, sides, gain(sides))


def test_gain_is_the_mean_paired_difference(summary):
    cell = only(
        [run(summary, "pretrained", 0, scores(0.8, 0.9, 0.7)), run(summary, "scratch", 0, scores(0.7, 0.7, 0.6))]
    )
    assert cell.gain.value == pytest.approx((0.1 + 0.2 + 0.1) / 3)
    assert cell.gain.low > 0
    assert cell.gain.state == "gain_confirmed"
    assert (cell.gain.better, cell.gain.worse, cell.gain.cases, cell.gain.seeds) == (3, 0, 3, 1)
    assert "helped" in cell.sentence
    assert "One seed" in cell.sentence


def test_no_gain_is_said_in_words(summary):
    cell = only([run(summary, "pretrained", 0, scores(0.8, 0.6)), run(summary, "scratch", 0, scores(0.7, 0.8))])
    assert cell.gain.state == "no_gain_seen"
    assert "Pretraining showed no gain here" in cell.sentence


def test_a_loss_is_a_loss(summary):
    cell = only(
        [run(summary, "pretrained", 0, scores(0.6, 0.7, 0.65)), run(summary, "scratch", 0, scores(0.8, 0.8, 0.8))]
    )
    assert cell.gain.state == "loss"
    assert cell.gain.value < 0


def test_lower_is_better_is_turned_round(summary):
    mm = {"metric": {"unit": "mm", "higher_is_better": False}}
    cell = only([
        run(summary, "pretrained", 0, scores(2.0, 3.0, 4.0), **mm),
        run(summary, "scratch", 0, scores(4.0, 5.5, 6.0), **mm),
    ])  # fmt: skip
    assert cell.gain.state == "gain_confirmed"
    assert cell.gain.value == pytest.approx(6.5 / 3)
    assert (cell.gain.better, cell.gain.worse) == (3, 0)


def test_only_common_cases_and_common_seeds_are_paired(summary):
    cell = only([
        run(summary, "pretrained", 0, scores(0.8, 0.9, 0.7)),
        run(summary, "pretrained", 1, scores(0.1, 0.1, 0.1)),
        run(summary, "scratch", 0, scores(0.7, 0.7)),
        run(summary, "scratch", 2, scores(0.99, 0.99, 0.99)),
    ])  # fmt: skip
    assert (cell.gain.cases, cell.gain.seeds) == (2, 1)
    assert cell.gain.value == pytest.approx(0.15)


def test_several_seeds_use_both_levels(summary):
    runs = []
    for seed, more in enumerate((0.1, -0.1, 0.05)):
        runs.append(run(summary, "pretrained", seed, scores(0.7 + more, 0.8 + more)))
        runs.append(run(summary, "scratch", seed, scores(0.7, 0.8)))
    cell = only(runs)
    assert cell.gain.seeds == 3
    assert cell.gain.state == "no_gain_seen"  # every case moves alike, so only the seeds can say so
    assert "One seed" not in cell.sentence


def test_without_a_twin_nothing_is_said(summary):
    cell = only([run(summary, "pretrained", 0, scores(0.8, 0.9))])
    assert cell.gain.state == "no_twin"
    assert "twin (from scratch) is missing" in cell.sentence
    apart = only([run(summary, "pretrained", 0, scores(0.8, 0.9)), run(summary, "scratch", 1, scores(0.8, 0.9))])
    assert "no seed in common" in apart.sentence


def test_one_case_is_too_few(summary):
    cell = only([run(summary, "pretrained", 0, scores(0.8)), run(summary, "scratch", 0, scores(0.7))])
    assert cell.gain.state == "undecided"
    assert "1 case has a value" in cell.sentence


def test_failed_superseded_withdrawn_and_pretraining_runs_make_no_cell(summary):
    kept = run(summary, "scratch", 0, scores(0.8, 0.9))
    assert (
        group(
            [
                replace(kept, status="diverged"),
                replace(kept, superseded=True),
                replace(kept, kind="pretrain"),
                replace(kept, standing="withdrawn"),
            ]
        )
        == []
    )


def test_a_cell_carries_the_marks_of_every_run(summary):
    cell = only([
        run(summary, "pretrained", 0, scores(0.8, 0.9), evidence=("self_pretrained",)),
        run(summary, "scratch", 0, scores(0.8, 0.9), evidence=("bundled_sample",)),
    ])  # fmt: skip
    assert cell.evidence == ["bundled_sample", "self_pretrained"]


def test_another_protocol_is_another_cell(forge, tmp_path):
    forge.forge(tmp_path / "a", init="pretrained", draw=False)
    forge.forge(tmp_path / "b", init="scratch", protocol="other", draw=False)
    forge.forge(tmp_path / "c", init="scratch", seed=3, draw=False)
    keys = [summarise(read_run(tmp_path / name / "record"), name).cell for name in "abc"]
    assert keys[0] != keys[1]
    assert keys[0] == keys[2]


def test_a_rule_that_trains_nothing_is_a_floor_beside_the_networks(forge, tmp_path):
    for init in ("pretrained", "scratch"):
        forge.forge(tmp_path / "runs" / init, init=init, draw=False)
    forge.floor_run(tmp_path / "runs" / "floor")
    forge.floor_run(tmp_path / "runs" / "elsewhere", dataset="other_data", quality=0.2)
    held = study(Board.gather([tmp_path / "runs"]), tmp_path / "board", workers=1)
    floors = [cell for cell in held.cells if cell.is_floor]
    (twins,) = [cell for cell in held.cells if not cell.is_floor]
    assert len(floors) == 2
    assert {cell.word.label for cell in floors} == {"floor"}
    assert [cell.is_floor for cell in _newest(held.cells)] == [False, True, True]
    (own,) = [cell for cell in floors if cell.first.dataset == "head_and_neck"]
    page = (tmp_path / "board" / twins.href).read_text(encoding="utf-8")
    assert "The floor" in page
    score = figures(own.sides[0])[0]
    assert f'<a href="../{own.href}"><bdi>baseline.prior</bdi></a></th><td class="num">{score}</td>' in page
    assert page.count("baseline.prior") == 1
    assert "The floor" not in (tmp_path / "board" / own.href).read_text(encoding="utf-8")
