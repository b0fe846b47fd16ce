"""Plots: well-formed, bounded, named, and honest about what is not finite."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

from harness.leaderboard.plots import Curve, Estimate, Pair, Strip, curves, dumbbells, fitting, forest, strips
from harness.leaderboard.svg import ticks

SVG = "{http://www.w3.org/2000/svg}"


def shapes(picture, name, kind=None):
    root = ET.fromstring(str(picture))  # fails where the text is not well-formed
    return [e for e in root.iter(SVG + name) if kind is None or kind in e.get("class", "").split()]


def test_dumbbells_place_values_and_escape_names():
    picture = dumbbells([Pair("<script>&", 0.5, 0.75), Pair("b", 0.6, 0.6)], "Dice", "x", share=True)
    rings, dots = shapes(picture, "circle", "ring"), shapes(picture, "circle", "dot")
    assert [float(r.get("cx")) < float(d.get("cx")) for r, d in zip(rings, dots, strict=True)] == [True, False]
    texts = [e.text for e in shapes(picture, "text")]
    assert "<script>&" in texts
    assert "+0.2500" in texts


def test_long_names_keep_both_ends_and_fit():
    for room in range(5, 40):
        short = fitting("mis_fm.pctnet_ct10k, scratch", room)
        assert len(short) <= room
        assert short[0] == "m"
        assert short[-1] == "h"
    assert fitting("liver", 18) == "liver"


def test_every_plot_has_a_name():
    for picture in (
        dumbbells([Pair("a", 0.1, 0.2)], "Dice", "x", share=True),
        strips([Strip("a", [0.1], 0.1)], "Dice", "x", share=True),
        forest([Estimate("a", 0.1, -0.1, 0.3)], "difference", "x"),
        curves([Curve("loss", [(0, 1.0), (1, 0.5)])], "Loss", "x"),
    ):
        root = ET.fromstring(str(picture))
        title = root.find(SVG + "title")
        assert root.get("role") == "img"
        assert title.text
        assert root.get("aria-labelledby") == title.get("id")


def test_a_long_curve_is_drawn_with_few_points():
    picture = curves([Curve("loss", [(i, math.sin(i)) for i in range(100_000)])], "Loss", "x")
    (line,) = shapes(picture, "path", "line")
    assert 100 < line.get("d").count("L") < 250
    assert len(picture) < 20_000


def test_values_that_are_not_finite_are_left_out():
    picture = curves([Curve("loss", [(0, 1.0), (1, math.nan), (2, math.inf), (3, 0.5)])], "Loss", "x")
    assert "nan" not in picture.lower()
    assert "inf" not in picture.lower()
    (line,) = shapes(picture, "path", "line")
    assert line.get("d").count("L") == 1


def test_nothing_to_draw_is_no_plot():
    assert curves([Curve("loss", [(0, math.nan)])], "Loss", "x") is None
    assert dumbbells([], "Dice", "x", share=True) is None
    assert strips([Strip("a", [], None)], "Dice", "x", share=True) is None
    assert forest([], "d", "x") is None


def test_forest_crosses_zero_where_the_interval_does():
    picture = forest([Estimate("a", 0.1, -0.1, 0.3), Estimate("b", 0.2, 0.1, 0.3)], "d", "x")
    (zero,) = shapes(picture, "path", "zero")
    at = float(zero.get("d").split()[0][1:])
    spans = [e.get("d") for e in shapes(picture, "path", "interval")][::3]
    first, second = ([float(p.lstrip("ML")) for p in d.split()[::2]] for d in spans)
    assert first[0] < at < first[1]
    assert at < second[0]


def test_equal_values_do_not_divide_by_zero():
    assert curves([Curve("loss", [(0, 1.0), (1, 1.0)])], "Loss", "x") is not None
    assert strips([Strip("a", [0.0, 0.0], 0.0)], "HD95", "x", share=False) is not None
    assert ticks(1.0, 1.0) == [1.0]
