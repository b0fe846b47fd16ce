"""Tier 1 without its data: written in the official layout, added, checked, prepared, cut into a batch; faults found.

The traps are also written by hand, from the facts, in test_official_layouts.py: a generator proves little by itself.
"""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from harness.cards.library import dataset_card
from harness.cli import main
from harness.data.check import check
from harness.data.layouts import find_cases
from harness.data.patches import PatchSource
from harness.data.preprocessing import prepare
from harness.data.reading import read
from harness.data.reference import read_reference
from harness.data.roots import data_root, marked
from harness.data.settings import Augmentation, IntensityRule, Patches, Preprocessing
from harness.data.synthesis.faults import EVERYWHERE
from harness.data.synthesis.writing import faults_of, synthesize
from harness.errors import UserError

TIER_1 = (
    *("btcv", "synapse8", "segthor", "pddca", "brats2021", "atlas_v2", "lits", "atriaseg2018"),
    *("msd_task01_brain", "msd_task03_liver", "msd_task04_hippocampus", "msd_task06_lung", "msd_task09_spleen"),
)


SAME_LAYOUT = ("synapse8", "msd_task03_liver", "msd_task06_lung", "msd_task09_spleen")  # as btcv, and as other tasks


def slow_where(names, slow):
    """Mark what repeats another set's layout as slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


def written(name, folder, **arguments):
    """Write a set and return its card and the report of a check."""
    card, _ = dataset_card(name)
    ids = {case for split in card.splits for part in split.parts.values() for case in part}
    synthesize(name, folder, ids=sorted(ids), **{"cases": 3, **arguments})
    return card, check(card, find_cases(card, folder))


def batch_of(card, folder, cache):
    cases = find_cases(card, folder)
    report = check(card, cases)
    settings = Preprocessing(axcodes="RAS", intensity=IntensityRule(rule="zscore"))
    prepared = prepare(card, cases, report.facts, settings, cache)
    return PatchSource(prepared, list(cases), Patches(size=(16, 16, 16), batch=2), Augmentation(), seed=0).batch(0)


@pytest.mark.parametrize("name", slow_where(TIER_1, SAME_LAYOUT))
def test_from_nothing_to_a_batch(tmp_path, name, capsys):
    out = tmp_path / name
    assert main(["data", "synthesize", name, "--cases", "6", "--out", str(out)]) == 0
    assert main(["data", "add", name, str(out)]) == 0
    capsys.readouterr()
    assert main(["data", "check", name, "--json", "--workers", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    card, folder = dataset_card(name)
    assert len(report["cases"]) == 6
    for case in report["cases"].values():
        assert set(case["label_histogram"]) == set(map(str, card.labels))
    odd = {finding["what"] for finding in report["findings"] if finding["case"]}
    assert odd <= {"shape", "number of slices", "case"}  # tiny, so of other sizes; LiTS has cases known to be suspect

    root = data_root(card, folder)
    assert marked(card, root).evidence == ("synthetic_data",)
    batch = batch_of(card, root, tmp_path / "cache")
    assert batch["image"].shape == (2, len(card.channels), 16, 16, 16)
    assert batch["image"].isfinite().all()
    assert batch["label"].max() < len(card.labels)
    assert batch["label"].any()


def test_a_generic_nnunet_folder(tmp_path, capsys):
    out = tmp_path / "mine"
    assert main(["data", "synthesize", "nnunet", "--cases", "5", "--out", str(out)]) == 0
    assert main(["data", "check", "synthetic_nnunet", "--cards", str(out), "--json", "--workers", "1"]) == 0
    assert len(json.loads(capsys.readouterr().out.partition("\n\n")[2].partition("\n")[2])["cases"]) == 5
    card, folder = dataset_card("synthetic_nnunet", [out])
    assert batch_of(card, data_root(card, folder), tmp_path / "cache")["label"].any()


# ---------------------------------------------------------------- faults

ALL = "every case"
SPECIAL = [
    ("btcv", "flipped-label", {"place of right_kidney", "place of liver"}),
    ("btcv", "swapped-sides", {"place of right_kidney"}),
    ("synapse8", "swapped-sides", {"place of right_kidney"}),
    ("synapse8", "flipped-label", {"place of right_kidney", "place of liver"}),
    ("segthor", "moved-heart", {"values inside heart"}),
    ("segthor", "flipped-label", {"values inside heart"}),
    ("pddca", "swapped-sides", {"place of right_parotid"}),
    ("pddca", "flipped-label", {"place of right_parotid", "place of right_submandibular"}),
    ("brats2021", "brats-2023-labels", {"label values"}),
    ("brats2021", "missing-channel", {"image"}),
    ("msd_task01_brain", "brats-labels", {"label values"}),
    ("msd_task04_hippocampus", "swapped-ends", {"place of anterior_hippocampus"}),
    ("atriaseg2018", "raw-label-value", {"label values"}),
]
WHOLE_SET = {"moved-heart", "brats-2023-labels", "brats-labels", "raw-label-value"}


@pytest.mark.parametrize(("name", "fault", "what"), SPECIAL)
def test_a_fault_of_this_set_is_found(tmp_path, name, fault, what):
    card, report = written(name, tmp_path / "x", fault=fault)
    cases = sorted(find_cases(card, tmp_path / "x"))
    found = {(error.case, error.what) for error in report.errors}
    assert {case for case, _ in found} == set(cases if fault in WHOLE_SET else cases[1:2])
    assert what <= {found_what for _, found_what in found}


GENERAL = {
    "missing-label": "label",
    "missing-image": "image",
    "cut-file": "image",
    "doubled-case": "image",
    "label-of-other-shape": "shape of",
    "label-of-other-place": "affine of",
    "constant-image": "values of",
    "not-a-number": "voxels of",
    "unknown-label": "label values",
}


@pytest.mark.parametrize("name", slow_where(TIER_1, set(TIER_1) - {"pddca", "msd_task01_brain"}))
@pytest.mark.parametrize("fault", EVERYWHERE)
def test_a_fault_of_any_set_is_found(tmp_path, name, fault):
    if fault not in faults_of(name):
        pytest.skip("one mask a structure has no values that could be unknown")
    card, report = written(name, tmp_path / "x", fault=fault, shape=(24, 24, 24))
    second = sorted(find_cases(card, tmp_path / "x"), key=int if name == "lits" else str)[1]
    assert {error.case for error in report.errors} == {second}
    assert any(error.what.startswith(GENERAL[fault]) for error in report.errors)


def test_every_fault_has_its_test():
    offered = {(name, fault) for name in TIER_1 for fault in faults_of(name) if fault not in EVERYWHERE}
    others = {("lits", "identity-affine"), ("pddca", "missing-structure")}
    assert offered == {(name, fault) for name, fault, _ in SPECIAL} | others
    assert set(GENERAL) == set(EVERYWHERE)


def test_the_identity_affines_of_lits(tmp_path):
    _, report = written("lits", tmp_path / "x", fault="identity-affine", cases=6)
    assert report.errors == ()
    warned = {finding.case for finding in report.findings if finding.what == "affine"}
    assert warned == {case for case in report.facts if 28 <= int(case) <= 47} != set()


def test_structures_that_nobody_drew(tmp_path, capsys):
    card, report = written("pddca", tmp_path / "x", fault="missing-structure")
    assert report.errors == ()
    second = sorted(report.facts)[1]
    assert {case: facts.not_annotated for case, facts in report.facts.items() if facts.not_annotated} == {
        second: (3, 9)
    }
    assert main(["data", "check", card.id, "--root", str(tmp_path / "x"), "--workers", "1"]) == 0
    assert f"not annotated in {second}, so ignored in loss and score: mandible, right_sub" in capsys.readouterr().out


# ---------------------------------------------------------------- the volumes themselves


@pytest.mark.parametrize("name", ["btcv", "pddca", "brats2021", "atlas_v2"])
def test_there_is_something_to_learn(tmp_path, name):
    """Each structure differs from what is around it by more than the noise, in some channel."""
    card, _ = written(name, tmp_path / "x")
    for case in find_cases(card, tmp_path / "x").values():
        images = [read(path).data.astype(float) for path in case.images]
        labels = read_reference(case).labels
        for value in card.labels:
            if value:
                inside = labels == value
                shell = ndimage.binary_dilation(inside, iterations=2) & ~inside
                assert max(abs(np.median(image[inside]) - np.median(image[shell])) for image in images) > 20


def test_spacing_is_that_of_the_set(tmp_path):
    card, report = written("btcv", tmp_path / "x", cases=6)
    spacings = np.array([facts.spacing for facts in report.facts.values()])
    assert (spacings[:, 0] == spacings[:, 1]).all()
    assert len(np.unique(spacings[:, 2])) == 6
    assert not [finding for finding in report.findings if finding.what == "spacing in mm"]
    assert card.ranges.spacing is not None


def test_the_same_seed_gives_the_same_voxels(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthesize("nnunet", tmp_path / name, cases=2, seed=seed, shape=(16, 16, 16))
    first, same, other = (nibabel.load(tmp_path / name / "imagesTr/case_000_0000.nii.gz").get_fdata() for name in "abc")
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["btvc"], "Did you mean 'btcv'"),
        (["btcv", "--fault", "moved-hart"], "flipped-label"),
        (["btcv", "--cases", "31"], "2 to 30 cases"),
        (["btcv", "--cases", "1"], "2 to 30 cases"),
        (["btcv", "--shape", "4", "20", "20"], "8 voxels or more"),
        (["btcv", "--channels", "2"], "those of btcv are given"),
        (["--fault", "cut-file"], "name one"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, arguments, says, capsys):
    assert main(["data", "synthesize", *arguments, "--out", str(tmp_path / "x")]) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_among_other_files(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(UserError, match="not an empty folder"):
        synthesize("nnunet", tmp_path / "x", cases=2)
    assert [path.name for path in tmp_path.rglob("*")] == ["x", "mine.txt"]


@pytest.mark.slow
def test_a_run_on_made_up_volumes_of_a_real_set_is_marked(tmp_path):
    out = tmp_path / "segthor"
    arguments = ["--cases", "40", "--shape", "20", "20", "20"]
    assert main(["data", "synthesize", "segthor", *arguments, "--out", str(out)]) == 0
    places = [f"out={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}", f"data_root={out}"]
    cell = ["model=models_genesis.narrow8", "dataset=segthor", "init=scratch", "debug=smoke"]
    assert main(["run", *cell, *places]) == 0
    (record,) = (tmp_path / "runs").rglob("record.json")
    content = json.loads(record.read_text(encoding="utf-8"))
    assert content["evidence"] == ["synthetic_data"]
    assert content["dataset"]["id"] == "segthor"
    assert main(["record", "verify", str(record.parent)]) == 0
