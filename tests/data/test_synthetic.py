"""Synthetic volumes: the same seed gives the same bytes, on grids as awkward as promised, and they check clean."""

from __future__ import annotations

import numpy as np
import pytest

from harness.cards.library import dataset_card
from harness.data.check import check
from harness.data.layouts import find_cases
from harness.data.reading import read
from harness.data.roots import data_root
from harness.data.splits import resolve
from harness.data.synthetic import LABELS, write
from harness.errors import UserError
from harness.files import file_sha256
from harness.grid import GridSpec


def contents(folder):
    return {path.relative_to(folder): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_seed_gives_the_same_bytes(tmp_path, channels):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / name, cases=3, channels=channels, seed=seed)
    first, same, other = (contents(tmp_path / name) for name in "abc")
    assert first == same
    assert not {file for file in first if file.suffix == ".gz" and other[file] == first[file]}


@pytest.mark.parametrize("channels", [1, 4])
def test_it_is_an_ordinary_data_set(tmp_path, channels):
    written = write(tmp_path / "set", cases=6, channels=channels, seed=4)
    card, folder = dataset_card("synthetic", [tmp_path])
    assert card == written
    cases = find_cases(card, data_root(card, folder))
    report = check(card, cases)
    assert report.findings == ()
    assert all(set(facts.label_histogram) == set(LABELS) for facts in report.facts.values())
    assert all(len(facts.ranges) == channels for facts in report.facts.values())
    assert card.evidence == ("synthetic_data",)
    assert [len(part) for part in (resolve(card).train, resolve(card).val, resolve(card).test)] == [4, 1, 1]


def test_grids_are_oblique_anisotropic_and_of_several_axis_orders(tmp_path):
    card = write(tmp_path, cases=4, seed=0)
    grids = [read(case.images[0]).grid for case in find_cases(card, tmp_path).values()]
    assert [grid.axcodes for grid in grids] == ["LPS", "RAS", "PIR", "SAL"]
    oblique = [np.count_nonzero(np.abs(grid.matrix[:3, :3]) > 0.1) > 3 for grid in grids]
    assert oblique == [False, True, False, True]
    assert all(max(grid.spacing) / min(grid.spacing) == pytest.approx(1.5, rel=1e-5) for grid in grids)
    assert len({grid.shape for grid in grids}) > 1


def test_classes_differ_in_brightness(tmp_path):
    """Something to learn: in CT values, organ and vessel stand out of the body, the lesion is darker."""
    card = write(tmp_path, cases=3, seed=0)
    for case in find_cases(card, tmp_path).values():
        image, labels = read(case.images[0]).data, read(case.label).data
        means = [image[labels == value].mean() for value in (1, 2, 3)]
        assert means[2] < 0 < means[0] < means[1]


def test_the_scene_lies_in_space_and_not_in_the_array(tmp_path):
    """Reoriented to RAS, the vessel of every case runs from foot to head at the right of the organ."""
    card = write(tmp_path, cases=4, seed=0)
    for case in find_cases(card, tmp_path).values():
        volume = read(case.label)
        labels = GridSpec.plan(volume.grid, axcodes="RAS").apply(volume.data, order="nearest", fill=0)
        vessel, organ = np.argwhere(labels == 2), np.argwhere(labels == 1)
        assert np.argmax(np.ptp(vessel, axis=0)) == 2
        assert vessel[:, 0].mean() > organ[:, 0].mean()


def test_unlabelled_volumes(tmp_path):
    card = write(tmp_path, cases=1, channels=2, labelled=False, name="pool")
    (case,) = find_cases(card, tmp_path).values()
    assert case.label is None
    assert len(case.images) == 2
    assert card.splits == ()
    assert check(card, {case.id: case}).findings == ()


@pytest.mark.parametrize("arguments", [{"cases": 2}, {"cases": 0, "labelled": False}, {"channels": 0}])
def test_too_little_is_refused(tmp_path, arguments):
    with pytest.raises(UserError, match="synthetic data set needs"):
        write(tmp_path / "x", **arguments)
    assert not (tmp_path / "x").exists()
