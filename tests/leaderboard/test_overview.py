"""The plots over many cells: what is drawn, from which numbers, and that nothing is drawn from nothing."""

from __future__ import annotations

import itertools
import random
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.files import sha256_hex
from harness.leaderboard.cells import Cell, gain, group
from harness.leaderboard.check import check
from harness.leaderboard.overview import cost_plots, fraction_plots, ledger_forest, rank_plots, write_overview
from harness.leaderboard.standings import Standing
from harness.leaderboard.summary import Headline, RunSummary
from harness.leaderboard.text import signed

SVG = "{http://www.w3.org/2000/svg}"


def run(model="family.good", init="pretrained", quality=0.8, cases=30, seed=0, cell="", **changes):
    rng = random.Random(f"{model}{init}{seed}")
    scores = {f"case{i:02d}": quality + 0.05 * (i % 5) / 5 + rng.gauss(0, 0.004) for i in range(cases)}
    family, variant = model.split(".")
    metric = Headline("dice.hard.native.v1", "fraction", True, sum(scores.values()) / cases, None, cases)
    base = RunSummary(
        run_id=sha256_hex(f"{model} {init} {seed} {cell}")[:16], place="x", family=family, variant=variant, init=init,
        dataset="data", split="fixed", fold=None, label_fraction=1.0, protocol="p", seed=seed, kind="fine_tune",
        status="complete", status_reason="", evidence=(), created="2026-08-22T00:00:00Z", cell=cell or model,
        metric=metric, scores=scores, classes={}, seconds=1.0, gpu_hours=None, steps=10, trust=2,
    )  # fmt: skip
    return replace(base, **changes)


def cells(*runs):
    return [Cell(key, sides, gain(sides)) for key, sides in group(runs)]


def shapes(picture, name, kind):
    return [e for e in ET.fromstring(str(picture)).iter(SVG + name) if kind in e.get("class", "").split()]


def test_nothing_is_drawn_from_nothing(tmp_path):
    one = cells(run(), run(init="scratch", quality=0.7))
    assert fraction_plots(one) == []  # one share of labels is no curve
    assert cost_plots([run()]) == []  # no GPU time was measured
    assert cost_plots([run(gpu_hours=0.0), run(gpu_hours=0.0, seed=1)]) == []
    assert ledger_forest([]) == []
    write_overview([], [], [], tmp_path, {"records": "0 records", "claims": "0 claims"})
    assert (tmp_path / "plots.html").read_text(encoding="utf-8").count("Nothing to draw yet") == 5


def test_gain_against_label_fraction_has_a_point_and_an_interval_per_share():
    runs = [
        run(init=init, quality=quality, cell=f"cell{share}", label_fraction=share)
        for share, lift in ((0.1, 0.15), (0.5, 0.05), (1.0, 0.01))
        for init, quality in (("pretrained", 0.6 + lift), ("scratch", 0.6))
    ]
    (panel,) = fraction_plots(cells(*runs))
    dots = shapes(panel.plot.svg, "circle", "dot")
    assert [row[0] for row in panel.plot.rows] == ["10%", "50%", "100%"]
    assert [float(d.get("cx")) for d in dots] == sorted(float(d.get("cx")) for d in dots)
    heights = [float(d.get("cy")) for d in dots]
    assert heights == sorted(heights)  # the gain shrinks, and less stands lower
    gaps = [float(b.get("cx")) - float(a.get("cx")) for a, b in itertools.pairwise(dots)]
    assert gaps[0] > 2 * gaps[1]  # logarithmic: 0.1 to 0.5 is more than 0.5 to 1
    assert len(shapes(panel.plot.svg, "path", "zero")) == 1


def test_score_against_cost_tells_starts_apart_by_form_and_carries_marks():
    held = [run(gpu_hours=0.5), run(init="scratch", gpu_hours=2.0, evidence=("synthetic_data",))]
    (panel,) = cost_plots(held)
    (dot,) = shapes(panel.plot.svg, "circle", "dot")
    (ring,) = shapes(panel.plot.svg, "circle", "ring")
    assert float(dot.get("cx")) < float(ring.get("cx"))
    assert panel.evidence == ["synthetic_data"]
    assert {row[1] for row in panel.plot.rows} == {"0.50", "2.00"}


def test_ranks_tie_what_cannot_be_told_apart():
    runs = [run("family.good", quality=0.8), run("family.same", quality=0.8, seed=3), run("family.worse", quality=0.6)]
    (panel,), small = rank_plots(cells(*runs))
    assert small == []
    tiers = {row[0].split(",")[0]: row[1] for row in panel.plot.rows}
    assert tiers == {"family.good": "1", "family.same": "1", "family.worse": "2"}
    assert len(shapes(panel.plot.svg, "rect", "estimate")) == 3


def test_few_cases_are_not_ranked_and_the_page_says_so():
    panels, small = rank_plots(cells(run("family.good", cases=6), run("family.same", cases=6)))
    assert panels == []
    assert small == ["data, split fixed: 6 common cases, so the starts are not ranked"]


def test_the_forest_shows_only_what_may_be_compared():
    def line(name, **standing):
        claim = SimpleNamespace(id=name, model="m <b>", dataset="d")
        return SimpleNamespace(
            claim=claim, standing=Standing("lower", "", **standing), verdict=SimpleNamespace(label="x")
        )

    rows = [line("r001", difference=-0.05, low=-0.07, high=-0.03), line("r002"), line("r003", reproduced=0.5)]
    (panel,) = ledger_forest(rows)
    (square,) = shapes(panel.plot.svg, "rect", "estimate")
    (zero,) = shapes(panel.plot.svg, "path", "zero")
    assert float(square.get("x")) + 5 < float(zero.get("d").split()[0].removeprefix("M"))
    assert panel.plot.rows == [("r001 m <b> on d", *(signed(v, 4) for v in (-0.05, -0.07, -0.03)), "x")]


def test_the_page_of_a_full_board_is_sound(board):
    assert [fault for fault in check(board) if fault.page == "plots.html"] == []


def test_names_that_clash_are_told_apart():
    two = [run(protocol="one", cell="a"), run(protocol="two", cell="b", seed=1)]
    (panel,), _ = rank_plots(cells(*two))
    assert len({row[0] for row in panel.plot.rows}) == 2


def test_lower_is_better_turns_the_order_round():
    def distance(model, value):
        base = run(model, quality=value)
        return replace(base, metric=replace(base.metric, id="hd95.native.v1", unit="mm", higher_is_better=False))

    (panel,), _ = rank_plots(cells(distance("family.near", 2.0), distance("family.far", 9.0)))
    assert [row[0] for row in panel.plot.rows] == ["family.near, pretrained", "family.far, pretrained"]
    with pytest.raises(StopIteration):
        next(iter(cost_plots([distance("family.near", 2.0)])))
