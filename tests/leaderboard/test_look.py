"""What a reader sees: the story of the front page, axes that show a difference, names and ticks that can be read."""

from __future__ import annotations

import html
import itertools
import random
import re
import statistics
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from harness.cards.library import dataset_card
from harness.files import sha256_hex
from harness.leaderboard.catalogue import write_catalogue
from harness.leaderboard.cellpage import case_plot, cell_view
from harness.leaderboard.cells import Cell, gain, group
from harness.leaderboard.frontpage import stories
from harness.leaderboard.metricpage import examples, families
from harness.leaderboard.overview import gain_forests
from harness.leaderboard.pages import Board, _write_method
from harness.leaderboard.plots import Curve, Estimate, Pair, curves, dumbbells, forest
from harness.leaderboard.summary import Headline, RunSummary
from harness.leaderboard.text import MINUS, signed
from harness.leaderboard.words import GAINS, VERDICTS, protocol_field
from harness.scoring.intervals import t_interval
from harness.scoring.verdict import PROTOCOL_FIELDS, suggested_margin

SVG = "{http://www.w3.org/2000/svg}"
NUMBER = re.compile(rf"[+{MINUS}]0\.\d{{4}}")


def run(model="family.good", init="pretrained", lift=0.0, seed=0, dataset="data", unit="fraction"):
    rng = random.Random(f"{model}{init}{seed}")
    scores = {f"case{i:02d}": 0.88 + lift + 0.02 * (i % 5) / 5 + rng.gauss(0, 0.001) for i in range(40)}
    family, variant = model.split(".")
    metric = Headline("dice.hard.native.v1", unit, True, sum(scores.values()) / 40, None, 40)
    return RunSummary(
        run_id=sha256_hex(f"{model} {init} {seed} {dataset}")[:16], place="x", family=family, variant=variant,
        init=init, dataset=dataset, split="fixed", fold=None, label_fraction=1.0, protocol="p", seed=seed,
        kind="fine_tune",
        status="complete", status_reason="", evidence=("self_pretrained",) if init == "pretrained" else (),
        created="2026-08-22T00:00:00Z", cell=f"{model} {dataset}", metric=metric, scores=scores,
        classes={"a_long_name_of_a_class": 0.9}, seconds=60.0 + seed, gpu_hours=None, steps=10, trust=2,
    )  # fmt: skip


def cells(*runs):
    return [Cell(key, sides, gain(sides)) for key, sides in group(runs)]


def twins(seeds=3, **changes):
    return [
        run(init=init, lift=lift, seed=seed, **changes)
        for init, lift in (("pretrained", 0.0), ("scratch", 0.0067))
        for seed in range(seeds)
    ]


def texts(picture):
    return list(ET.fromstring(str(picture)).iter(SVG + "text"))


def test_the_front_tells_twins_as_a_card_and_every_start_in_one_table():
    held = cells(*twins(), run("other.net", "scratch", -0.01), run("third.net", "scratch", -0.02, dataset="elsewhere"))
    first, second = stories(held, 12)
    assert [card["model"] for card in first.cards] == ["family.good"]
    assert [(start.model, start.name, start.seeds) for start in first.starts] == [
        ("family.good", "From scratch", 3), ("family.good", "Pretrained", 3), ("other.net", "From scratch", 1),
    ]  # fmt: skip
    assert [start.evidence for start in first.starts] == [[], ["self_pretrained"], []]
    assert first.starts[0].spread != first.starts[2].spread == "\N{EM DASH}"
    assert "40 test cases" in first.where
    assert second.cards == []
    assert [start.model for start in second.starts] == ["third.net"]
    assert stories(cells(*twins()), 12)[0].starts == []  # the card says it all


def test_the_front_page_has_an_end():
    many = [run(f"family.net{i}", "scratch", i / 1000) for i in range(30)]
    (story,) = stories(cells(*many), 12)
    assert (len(story.starts), story.left_out) == (20, 10)
    assert len(stories(cells(*(run(dataset=f"d{i}") for i in range(5))), 3)) == 3


def test_a_gain_below_a_hundredth_is_written_out_with_what_its_interval_is():
    (cell,) = cells(*twins())
    view = cell_view(cell)
    assert re.fullmatch(MINUS + r"0\.00\d\d", view["gain_value"])
    assert "bootstrap over seeds, then cases" in view["gain_detail"]
    assert "sd over seeds" in view["sides"][0]["detail"]
    assert signed(cell.gain.value, 4) in cell.sentence
    (alone,) = cells(*twins(seeds=1))
    assert "(bootstrap over cases)" in cell_view(alone)["gain_detail"]
    shown = [float(side["value"]) for side in view["sides"]]
    assert shown[0] - shown[1] == pytest.approx(cell.gain.value, abs=1.1e-4)  # the three numbers agree as printed


def test_twins_that_differ_little_stand_apart_and_names_are_whole():
    picture = dumbbells([Pair("posterior_hippocampus", 0.8825, 0.8758)], "Dice", "x", share=True)
    ring, dot = (float(e.get("cx")) for e in ET.fromstring(str(picture)).iter(SVG + "circle"))
    assert ring - dot > 12  # more than their own width
    assert texts(picture)[0].text == "posterior_hippocampus"


def test_forty_cases_are_all_drawn_in_the_order_of_their_difference():
    (cell,) = cells(*twins())
    plot = case_plot(cell, "x")
    found = [float(e.text.replace(MINUS, "-")) for e in texts(plot.svg) if NUMBER.fullmatch(e.text or "")]
    assert len(found) == 40
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("reach", [0.01, 0.5, 30.0])
def test_tick_labels_do_not_touch(reach):
    names = ["models_genesis.hippocampus_self, msd_task04_hippocampus"]
    pictures = [
        forest([Estimate(names[0], -reach / 2, -reach, reach / 9)], "difference", "x"),
        curves([Curve("loss", [(i, reach * i) for i in range(1, 1001)])], "Training loss", "y"),
    ]
    for picture in pictures:
        said = texts(picture)
        middle = [e for e in said if e.get("class") == "tick middle"]
        spans = [(float(e.get("x")), 6.8 * len(e.text)) for e in middle]
        assert all(b - a > (wa + wb) / 2 for (a, wa), (b, wb) in itertools.pairwise(spans))
        rows = {e.get("y") for e in middle}
        # The name of the axis has a line of its own.
        assert not [e for e in said if e.get("y") in rows and e not in middle]


def test_the_gains_of_all_twins_stand_in_one_forest_with_their_marks():
    (panel,) = gain_forests(cells(*twins(), *twins(model="family.two"), run("lonely.net", "scratch")))
    assert [row[0].split(",")[0] for row in panel.plot.rows] == ["family.good", "family.two"]
    assert all(row[4:] == ("40", "3", "worse than scratch", "self-pretrained weights") for row in panel.plot.rows)
    assert panel.evidence == ["self_pretrained"]
    assert [e.text for e in texts(panel.plot.svg)][:2] == ["family.good", "family.two"]
    assert gain_forests(cells(*twins(unit="mm"))) == []  # millimetres have no place on an axis of shares


def test_the_worked_examples_tell_definitions_apart():
    tables = {table.key: table for table in examples()}
    found = {key: {row.title: row.values for row in table.rows} for key, table in tables.items()}
    assert all(len(row.values) == len(table.heads) for table in tables.values() for row in table.rows)
    spike = dict(zip(tables["surfaces"].heads, found["surfaces"]["A spike of 6 mm on a cube"], strict=True))
    assert len({spike["hd95"], spike["hd95_pooled"], spike["hd95_floor"]}) == 3
    assert spike["assd"] != spike["masd"]
    hesitant = found["probabilities"]["Hesitant: 0.6 inside, 0.2 around"]
    assert hesitant[0] == "1.000"  # the mask is perfect, and every other definition sees the doubt or another threshold
    assert len(set(hesitant[1:4])) == 3
    assert len({values[0] for values in found["empty"].values()}) >= 3
    assert len({values[2] for values in found["empty"].values()}) >= 5
    assert len({values[0] for values in found["averages"].values()}) == 3


def test_the_means_under_the_rules_of_empty_masks_are_those_of_paper_and_pencil():
    (table,) = [table for table in examples() if table.key == "empty"]
    values = {row.title: row.values for row in table.rows}
    assert values["adopted"][:2] == [f"{0.875 / 3:.3f}", "3"]
    assert values["brats2021"][:2] == [f"{1.875 / 4:.3f}", "4"]
    assert values["monai_ignore_empty"] == [f"{0.875 / 2:.3f}", "2", "1.000", "1"]
    assert values["adopted"][2] == f"{(1 + 2 * 20 * 3**0.5) / 3:.3f}"


def test_the_method_page_says_the_rule_that_is_computed(tmp_path):
    _write_method(Board((), (), (), frozenset()), tmp_path)
    page = " ".join(re.sub(r"<[^>]+>", " ", (tmp_path / "method.html").read_text(encoding="utf-8")).split())
    for seeds in (3, 5):
        values = [0.8 + 0.01 * i for i in range(seeds)]
        half = (t_interval(values).high - t_interval(values).low) / 2 / statistics.stdev(values)
        assert f"{half:.2f}" in page
    assert f"{suggested_margin(29):g} for training on fewer than 30 test cases" in page
    assert suggested_margin(29) > suggested_margin(30)
    assert all(protocol_field(name) in page for name in PROTOCOL_FIELDS)
    assert "_" not in page.split("Fourteen fields", 1)[1].split("Do they agree", 1)[0]
    assert all(word.meaning in html.unescape(page) for word in (*VERDICTS.values(), *GAINS.values()))


def test_a_data_set_page_names_what_the_runs_read_and_every_id_of_its_splits(tmp_path):
    card, _ = dataset_card("msd_task04_hippocampus")
    read = replace(run(dataset=card.id), fingerprints=("a" * 64, "b" * 64))
    write_catalogue([], [read, replace(read, run_id="c" * 16)], [], tmp_path, {"records": "", "claims": ""})
    page = (tmp_path / "datasets" / "msd_task04_hippocampus.html").read_text(encoding="utf-8")
    row = page.split("fixed</bdi>", 1)[1].split("</tr>", 1)[0]
    assert 'title="' + "a" * 64 in row
    assert 'title="' + "b" * 64 in row
    assert row.endswith('<td class="num">2</td>')
    shown = page.split("The ids of hippocampus-208-roles", 1)[1].split("</details>", 1)[0]
    (split,) = [split for split in card.splits if split.id == "hippocampus-208-roles"]
    assert all(", ".join(ids) in shown for ids in split.parts.values())
    assert "more characters" not in shown
    other = (tmp_path / "datasets" / "msd_task09_spleen.html").read_text(encoding="utf-8")
    assert "nothing has read its files" in other
    assert page.count("<h4>") == 0
    metrics = (tmp_path / "metrics.html").read_text(encoding="utf-8")
    assert metrics.count("<h4>") == sum(len(cards) for *_, cards in families())
    assert "<dd>none</dd>" not in metrics.split("Definitions", 1)[1].split("Scores of pretraining", 1)[0]


def test_the_name_that_a_paper_uses_leads_to_the_card_of_the_same_images(tmp_path):
    write_catalogue([], [run(dataset="atlas2")], [], tmp_path, {"records": "", "claims": ""})
    paper, card = ((tmp_path / "datasets" / f"{name}.html").read_text("utf-8") for name in ("atlas2", "atlas_v2"))
    assert '<a href="atlas_v2.html">' in paper
    assert '<a href="atlas2.html">' in card
    assert "the same images as" in (tmp_path / "datasets" / "index.html").read_text("utf-8")
