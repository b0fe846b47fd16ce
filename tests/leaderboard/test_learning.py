"""How fast runs learnt, and what they cost beside what was planned."""

from __future__ import annotations

import json

import pytest

from harness.leaderboard.cells import Cell, gain, group
from harness.leaderboard.learning import learning_facts, race, read_points
from harness.leaderboard.reading import read_run
from harness.leaderboard.recordfacts import cost_facts, planned_rows
from harness.leaderboard.runpage import write_run_page
from harness.leaderboard.summary import summarise
from harness.records import fields


def log(scores, *, every=100, rate=0.5):
    lines = [
        {"step": every * i, "metric": score, "seconds": every * i * rate, "samples": 2 * every * i}
        for i, score in enumerate(scores, start=1)
    ]
    return "".join(json.dumps(line) + "\n" for line in [{"step": 0, "loss": 1.0}, *lines]).encode()


def test_the_best_validation_is_told_with_what_it_took():
    assert learning_facts(read_points(log([0.2, 0.6, 0.5]))) == [
        ("Best validation", "0.600 at step 200 (1 min 40 s of training, 400 samples)")
    ]
    assert learning_facts(read_points(b'{"step": 1, "loss": 2.0}\n')) == []


def test_what_a_stranger_wrote_into_a_log_is_left_out():
    wild = b'{"step": "x", "metric": 1}\n[1]\nnot json\n{"step": 5, "metric": "high"}\n{"step": 7, "metric": 0.5}\n'
    (one,) = read_points(wild)
    assert (one.step, one.seconds, one.samples, one.score) == (7, None, None, 0.5)


@pytest.fixture(scope="module")
def twins(forge, tmp_path_factory):
    top = tmp_path_factory.mktemp("twins")
    runs = []
    for init in ("pretrained", "scratch"):
        forge.forge(top / init, init=init, draw=False)
        runs.append(summarise(read_run(top / init / "record"), init))
    ((key, sides),) = group(runs)
    return Cell(key, sides, gain(sides)), {run.init: run.run_id for run in runs}


def test_twins_run_to_the_best_score_that_both_reached(twins):
    cell, runs = twins
    points = {
        runs["pretrained"]: read_points(log([0.5, 0.7, 0.8])),
        runs["scratch"]: read_points(log([0.1, 0.2, 0.3, 0.4, 0.5, 0.7])),
    }
    ran = race(cell, points)
    assert ran.target == "0.700"
    assert ran.rows == [("Pretrained", "200", "1 min 40 s", "400"), ("From scratch", "600", "5 min 0 s", "1,200")]
    assert "The pretrained twin took 3.0 times fewer steps" in ran.said
    swapped = race(cell, {runs["pretrained"]: points[runs["scratch"]], runs["scratch"]: points[runs["pretrained"]]})
    assert "The scratch twin took 3.0 times fewer steps" in swapped.said
    assert race(cell, {runs["pretrained"]: points[runs["pretrained"]]}) is None
    same = race(cell, dict.fromkeys(runs.values(), read_points(log([0.3]))))
    assert "same number of steps" in same.said


def test_cost_is_shown_as_measured_and_beside_the_plan(forge, tmp_path):
    def measured(arguments):
        arguments["cost"] = arguments["cost"].model_copy(
            update={
                "samples_per_second": 12.5, "wait_fraction": 0.034, "ranks": 2, "gpu_hours": 1.25,
                "peak_gpu_memory": 10.5, "allocator": "allocated", "peak_gpu_reserved": 11.25, "peak_resident": 3.5,
                "energy": fields.Energy(kwh=0.42, measured=True),
                "planned": fields.Planned(
                    parameters=1193761, steps=600, samples=1200, flops_per_step=2_500_000_000, train_memory=9.75,
                    predict_memory=1.5,
                ),
            }
        )  # fmt: skip

    forge.forge(tmp_path / "a", draw=False, change=measured)
    data = read_run(tmp_path / "a" / "record")
    told = dict(cost_facts(data.record))
    assert told["Training samples per second"] == "12.50"
    assert told["Time spent waiting for data"] == "3.4%"
    assert told["Energy"] == "0.42 kWh, measured"
    assert told["GPU memory reserved"] == "11.25 GiB"
    assert (told["Peak main memory"], told["Processes that trained"]) == ("3.50 GiB", 2)
    rows = {name: (plan, took) for name, plan, took in planned_rows(data.record)}
    assert rows["Memory of a training step"] == ("9.75 GiB", "10.50 GiB")
    assert rows["Steps"] == ("600", "600")
    assert rows["Operations per step"] == ("2.5e+09 FLOP", "not measured")
    write_run_page(data, summarise(data, "a"), tmp_path / "board", {"records": "1 record", "claims": "0 claims"})
    (page,) = tmp_path.glob("board/runs/*/index.html")
    assert "Planned beside measured" in page.read_text(encoding="utf-8")


def test_what_nobody_measured_is_called_that(forge, tmp_path):
    forge.forge(tmp_path / "a", draw=False)
    record = read_run(tmp_path / "a" / "record").record
    told = dict(cost_facts(record))
    for name in ("GPU hours", "Energy", "Time spent waiting for data", "Peak GPU memory", "Peak main memory"):
        assert told[name] == "not measured"
    assert planned_rows(record) == []
