"""Rules of a card against volumes written by hand, each with a fault and without."""

from __future__ import annotations

import numpy as np
import pytest

from harness.cards.base import parse
from harness.cards.dataset import DatasetCard, Relation, Tissue
from harness.data.check import check
from harness.data.layouts import find_cases
from harness.data.nifti_writing import write_volume
from harness.data.rules import against_anatomy, against_known_faults, against_tissues
from harness.errors import UserError
from harness.grid import Grid

LABELS = {0: "background", 1: "heart", 2: "aorta", 3: "right_kidney", 4: "left_kidney"}
LPS = Grid((20, 20, 20), np.array([[-1, 0, 0, 10], [0, -1, 0, 10], [0, 0, 2, -20], [0, 0, 0, 1]]))


def card(**more):
    content = {
        "id": "tiny",
        "title": "tiny",
        "version": "1",
        "task": "segmentation",
        "modality": ("CT",),
        "body": "none",
        "channels": ("CT",),
        "labels": LABELS,
        "layout": {"kind": "pairs"},
        "terms": {"licence": "none", "attribution": "none", "how_to_get": "none", "redistribution": True},
        "citation": "none",
    }
    return parse(DatasetCard, {**content, **more}, "a test")


def drawn(**boxes):
    """Label boxes given in array indices of the LPS grid: small a is right, small b is front, small c is foot."""
    value_of = {name: value for value, name in LABELS.items()}
    labels = np.zeros(LPS.shape, np.uint8)
    for name, box in boxes.items():
        labels[box] = value_of[name]
    return labels


def broken(labels, *relations):
    histogram = dict(zip(*[part.tolist() for part in np.unique(labels, return_counts=True)], strict=True))
    rules = tuple(Relation(label=a, lies=lies, other=b) for a, lies, b in relations)
    return [str(one) for one in against_anatomy(card(relations=rules), "x", labels, LPS, histogram)]


FRONT, BACK = np.s_[8:12, 2:6, 8:12], np.s_[8:12, 14:18, 8:12]
RIGHT, LEFT = np.s_[2:5, 8:12, 8:12], np.s_[15:18, 8:12, 8:12]
LOW, HIGH = np.s_[8:12, 8:12, 1:4], np.s_[8:12, 8:12, 15:19]


@pytest.mark.parametrize(
    ("lies", "first", "second"),
    [
        ("anterior_to", FRONT, BACK),
        ("posterior_to", BACK, FRONT),
        ("right_of", RIGHT, LEFT),
        ("left_of", LEFT, RIGHT),
        ("superior_to", HIGH, LOW),
        ("inferior_to", LOW, HIGH),
        ("level_with", FRONT, BACK),
    ],
)
def test_each_relation_holds_and_breaks(lies, first, second):
    assert broken(drawn(heart=first, aorta=second), ("heart", lies, "aorta")) == []
    wrong = drawn(heart=second, aorta=first) if lies != "level_with" else drawn(heart=LOW, aorta=HIGH)
    (finding,) = broken(wrong, ("heart", lies, "aorta"))
    assert finding.startswith("case x: place of heart; expected it")


def test_sides_need_no_rule():
    assert broken(drawn(right_kidney=RIGHT, left_kidney=LEFT)) == []
    assert len(broken(drawn(right_kidney=LEFT, left_kidney=RIGHT))) == 1


def test_what_is_absent_breaks_nothing():
    assert broken(drawn(heart=BACK), ("heart", "anterior_to", "aorta")) == []


def test_tissues():
    labels = drawn(heart=FRONT)
    image = np.full(LPS.shape, -900, np.int16)
    image[FRONT] = 100
    rule = (Tissue(label="heart", mean=(0, 250), below=-200, at_most=0.02), Tissue(label="aorta", mean=(0, 1)))
    assert list(against_tissues(rule, card(), "x", image, labels)) == []
    image[8:9, 2:3, 8:10] = -900  # 2 of 64 voxels: more than 2 %
    (finding,) = against_tissues(rule, card(), "x", image, labels)
    assert (finding.level, finding.expected, finding.found) == ("error", "at most 2 % below -200", "3.1 %")
    image[FRONT] = 300
    (finding,) = against_tissues(rule, card(), "x", image, labels)
    assert (finding.expected, finding.found) == ("a mean of 0 to 250", "300")


def test_known_faults():
    marked = card(suspects={"x": "its heart was moved"}, slices={"x": 21, "y": 20})
    assert [one.found for one in against_known_faults(marked, "x", LPS)] == ["its heart was moved", "20"]
    assert list(against_known_faults(marked, "y", LPS)) == []
    identity = Grid((3, 3, 3), np.diag([-1, -1, 1, 1]))
    assert [one.what for one in against_known_faults(marked, "z", identity)] == ["affine"]


@pytest.mark.parametrize("flipped", [False, True])
def test_the_rules_are_part_of_the_check(tmp_path, flipped):
    rules = card(
        relations=({"label": "heart", "lies": "anterior_to", "other": "aorta"},),
        tissues=({"label": "heart", "mean": (0, 250)},),
        suspects={"a": "known to be odd"},
        label_hints={9: "Nine is a known mistake."},
        present_in={"heart": 1, "aorta": 2},
        num_cases=1,
    )
    labels = drawn(heart=FRONT, aorta=BACK)
    image = np.where(labels == 1, 50, -500).astype(np.int16)
    if flipped:
        labels = labels[:, ::-1].copy()
        labels[0, 0, 0] = 9
    write_volume(tmp_path / "images/a.nii.gz", image, LPS)
    write_volume(tmp_path / "labels/a.nii.gz", labels, LPS)
    found = check(rules, find_cases(rules, tmp_path))
    errors = {finding.what: finding for finding in found.errors}
    assert set(errors) == ({"place of heart", "values inside heart", "label values"} if flipped else set())
    if flipped:
        assert errors["label values"].mend == "Nine is a known mistake."
    assert {finding.what for finding in found.findings} - set(errors) == {"case", "cases with aorta"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"relations": ({"label": "hart", "lies": "anterior_to", "other": "aorta"},)},
        {"tissues": ({"label": "lung", "mean": (0, 1)},)},
        {"present_in": {"lung": 3}},
        {"remap": {0: 0, 1: 7}},
        {"regions": {"all": (1, 8)}},
    ],
)
def test_a_card_that_speaks_of_labels_it_has_not_is_refused(wrong):
    with pytest.raises(UserError, match="labels that the card has not"):
        card(**wrong)
