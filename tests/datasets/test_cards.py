"""Every shipped data set card, found by looking, not by list."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.cards.library import dataset_card, index
from harness.data.case import Case
from harness.data.check import check
from harness.data.layouts import find_cases
from harness.data.roots import data_root
from harness.data.splits import resolve
from harness.errors import UserError
from harness.resources import shipped

NAMES = list(index("dataset"))
PUBLISHED = json.loads((Path(__file__).parent / "data" / "published_splits.json").read_text(encoding="utf-8"))


@pytest.fixture(params=NAMES)
def card(request):
    return dataset_card(request.param)[0]


def test_every_folder_has_a_card_of_its_own_name():
    assert sorted(path.name for path in shipped("datasets").iterdir() if path.is_dir()) == NAMES
    for name in NAMES:
        assert dataset_card(name)[1].name == name


def test_terms_say_how_to_get_the_data_and_whom_to_name(card):
    assert all([card.terms.licence, card.terms.attribution, card.terms.how_to_get, card.citation])


def test_the_options_of_its_layout_are_understood(card, tmp_path):
    """On an empty folder the only complaint may be that nothing is there."""
    with pytest.raises(UserError, match=f"No case of '{card.id}' was found|dataset\\.json cannot be read"):
        find_cases(card, tmp_path)


def test_the_ids_of_its_splits_have_the_form_of_its_cases(card):
    pattern = re.compile(card.layout.options.get("case_pattern", "[^/]+"))
    for split in card.splits:
        wrong = [case for ids in split.parts.values() for case in ids if not pattern.fullmatch(case)]
        assert wrong == []


def test_every_split_resolves_in_every_fold(card):
    named = {case for split in card.splits for ids in split.parts.values() for case in ids}
    made = sorted(named) or [f"sub-r{number % 9:03d}s{number:03d}" for number in range(40)]
    ids = {case: Case(case, (Path(f"subset{number % 10}") / case,), None) for number, case in enumerate(made)}
    for split in card.splits:
        for fold in range(resolve(card, split.id, ids=ids).n_folds):
            found = resolve(card, split.id, fold, ids=ids)
            assert found.train
            assert found.scored
            assert not set(found.train) & set(found.val + found.test)


def test_labels_start_with_background_and_are_scored(card):
    if card.task == "segmentation":
        assert card.labels[0] == "background"
        assert card.classes
        assert all(values and 0 not in values for values in card.classes.values())


def test_hints_are_about_values_that_are_no_labels(card):
    assert not set(card.label_hints) & set(card.remap or card.labels)


def test_suspects_and_slices_name_cases_of_the_splits(card):
    named = {case for split in card.splits for ids in split.parts.values() for case in ids}
    assert set(card.slices) <= named
    assert set(card.suspects) <= named


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_splits_are_as_published(name):
    """Numbers and hashes of the ids were taken down apart from the cards."""
    (split,) = [split for other in NAMES for split in dataset_card(other)[0].splits if split.id == name]
    assert {part: {"n": len(ids), "ids_sha256": split.sha256[part]} for part, ids in split.parts.items()} == PUBLISHED[
        name
    ]


BUNDLED = [name for name in NAMES if dataset_card(name)[0].bundled]


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_volumes_check_clean_and_are_marked(name):
    card, folder = dataset_card(name)
    report = check(card, find_cases(card, data_root(card, folder)))
    assert report.findings == ()
    assert card.evidence == ("bundled_sample",)
    assert card.terms.redistribution


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_volumes_come_with_licence_and_attribution(name):
    _, folder = dataset_card(name)
    attribution = (folder / "ATTRIBUTION.md").read_text(encoding="utf-8")
    texts = {path.name for path in (folder / "LICENSES").iterdir()}
    linked = set(re.findall(r"\]\(LICENSES/([^)]+)\)", attribution))
    assert linked == texts != set()
    assert "Do not try to identify" in attribution


@pytest.mark.parametrize("name", [name for name in BUNDLED if name.startswith("unlabelled")])
def test_every_unlabelled_file_is_attributed(name):
    _, folder = dataset_card(name)
    named = re.findall(r"^\| `images/([^`]+)`", (folder / "ATTRIBUTION.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (folder / "images").iterdir())


def test_the_bundled_data_stay_small_and_readable():
    files = [path for path in shipped("datasets").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
