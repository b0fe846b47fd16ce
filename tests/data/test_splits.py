"""Splits resolve to the cases of a run; shares of training cases are nested and the same everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cards.dataset import DatasetCard, MadeFolds, Split, ids_sha256
from harness.cards.library import dataset_card
from harness.data.case import Case
from harness.data.splits import make_folds, resolve, split_sha256, subset
from harness.errors import UserError


def split(name, **parts):
    return Split(id=name, source="a test", parts=parts, sha256={part: ids_sha256(ids) for part, ids in parts.items()})


def card(*splits):
    return DatasetCard(
        id="tiny",
        title="tiny",
        version="1",
        task="segmentation",
        modality=("CT",),
        body="none",
        channels=("CT",),
        layout={"kind": "pairs"},
        splits=splits,
        terms={"licence": "none", "attribution": "none", "how_to_get": "none", "redistribution": True},
        citation="none",
    )


FIXED = split("fixed", train=("d", "a", "b", "c"), val=("e",), test=("g", "f"))
FOLDS = split("folds", fold0=("a", "b"), fold1=("c",), fold2=("e", "d"))


def test_a_fixed_split_scores_its_test_cases():
    found = resolve(card(FIXED))
    assert (found.train, found.val, found.test) == (("a", "b", "c", "d"), ("e",), ("f", "g"))
    assert (found.scored, found.scored_role) == (("f", "g"), "test")
    assert (found.fold, found.n_folds, found.label_fraction) == (0, 1, 1.0)


def test_a_fold_validates_and_the_others_train():
    found = resolve(card(FIXED, FOLDS), "folds", fold=2)
    assert (found.train, found.val, found.test) == (("a", "b", "c"), ("d", "e"), ())
    assert (found.scored, found.scored_role) == (("d", "e"), "val_used_for_selection")
    assert (found.fold, found.n_folds) == (2, 3)


def test_folds_beside_a_test_part():
    found = resolve(card(split("both", fold0=("a",), fold1=("b",), test=("t",))), fold=1)
    assert (found.train, found.val, found.scored, found.scored_role) == (("a",), ("b",), ("t",), "test")


def test_the_bundled_set_has_its_fixed_split():
    found = resolve(dataset_card("ct_headneck_oar")[0], "fixed-14-2-4")
    assert (len(found.train), len(found.val), found.test) == (14, 2, ("pt_282", "pt_332", "pt_60", "pt_83"))


def test_the_hash_follows_the_ids_and_not_their_order():
    assert split_sha256(FIXED) == split_sha256(split("other", train=("a", "b", "c", "d"), val=("e",), test=("f", "g")))
    assert split_sha256(FIXED) != split_sha256(split("fixed", train=("a", "b", "c", "e"), val=("d",), test=("f", "g")))
    assert resolve(card(FIXED)).sha256 == resolve(card(FIXED), label_fraction=0.5).sha256 == split_sha256(FIXED)


IDS = st.sets(st.text("abc123_", min_size=1, max_size=6), min_size=1, max_size=40)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(IDS, st.integers(0, 5))
def test_shares_are_nested_and_of_the_right_size(ids, seed):
    previous: set[str] = set()
    for percent in (1, 5, 10, 25, 50, 100):
        share = subset(ids, percent / 100, seed, "name")
        assert list(share) == sorted(set(share))
        assert len(share) == max(1, -(-len(ids) * percent // 100))
        assert previous <= set(share) <= ids
        previous = set(share)
    assert previous == ids


def test_a_share_never_changes():
    """Written down once; if this fails, every few-shot record made before is orphaned."""
    expected = ("case0", "case14", "case16", "case17", "case9")
    assert subset([f"case{n}" for n in range(20)], 0.25, 3, "btcv/btcv-24-6/0") == expected


def test_seeds_draw_different_shares_and_only_of_the_training_cases():
    ids = tuple(f"case{n}" for n in range(30))
    big = card(split("big", train=ids, val=("v",), test=("t",)))
    draws = {resolve(big, label_fraction=0.2, seed=seed).train for seed in range(5)}
    assert len(draws) == 5
    assert all(len(draw) == 6 for draw in draws)
    found = resolve(big, label_fraction=0.2, seed=1)
    assert (found.val, found.test, found.label_fraction, found.subset_seed) == (("v",), ("t",), 0.2, 1)


@pytest.mark.parametrize(
    ("splits", "arguments", "reason"),
    [
        ((), {}, "no split"),
        ((FIXED,), {"split_id": "fixd"}, "Did you mean 'fixed'"),
        ((FIXED,), {"fold": 1}, "folds 0 to 0; found fold=1"),
        ((FOLDS,), {"fold": 3}, "folds 0 to 2; found fold=3"),
        ((FOLDS,), {"fold": -1}, "fold=-1"),
        ((FIXED,), {"label_fraction": 0.0}, "above 0"),
        ((FIXED,), {"label_fraction": 1.5}, "at most 1"),
        ((split("gap", fold0=("a",), fold2=("b",)),), {}, "numbered from fold0"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(splits, arguments, reason):
    with pytest.raises(UserError, match=reason):
        resolve(card(*splits), **arguments)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(IDS.filter(lambda ids: len(ids) >= 3), st.integers(2, 3), st.integers(0, 5))
def test_made_folds_divide_all_cases_evenly(ids, folds, seed):
    made = MadeFolds(folds=folds, seed=seed)
    parts = make_folds(ids, made, "own")
    sizes = [len(part) for part in parts.values()]
    assert sorted(case for part in parts.values() for case in part) == sorted(ids)
    assert max(sizes) - min(sizes) <= 1
    assert parts == make_folds(sorted(ids, reverse=True), made, "own")


def test_seeds_make_different_folds():
    ids = [f"case{number}" for number in range(20)]
    assert make_folds(ids, MadeFolds(folds=5, seed=0), "own") != make_folds(ids, MadeFolds(folds=5, seed=1), "own")


def test_groups_stay_together():
    ids = [f"r{cohort:03d}s{subject}" for cohort in range(9) for subject in range(cohort + 1)]
    parts = make_folds(ids, MadeFolds(folds=3, group=r"(r\d+)s\d+"), "own")
    where = {case: part for part, cases in parts.items() for case in cases}
    assert len(where) == 45
    for cohort in range(9):
        assert len({where[case] for case in ids if case.startswith(f"r{cohort:03d}")}) == 1


def test_a_made_split_follows_from_the_cases_on_disk():
    own = card(Split(id="own", source="a test", made=MadeFolds(folds=2)))
    found = resolve(own, fold=1, ids=["a", "b", "c", "d"])
    assert sorted(found.train + found.val) == ["a", "b", "c", "d"]
    assert (len(found.val), found.n_folds, found.scored_role) == (2, 2, "val_used_for_selection")
    assert found.sha256 != resolve(own, fold=1, ids=["a", "b", "c", "e"]).sha256
    with pytest.raises(UserError, match="made from the cases on disk"):
        resolve(own)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"folds": 4}, "3 independent cases cannot make 4 folds"),
        ({"folds": 2, "group": "(a)."}, "'b' does not have the form"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(made, reason):
    with pytest.raises(UserError, match=reason):
        make_folds(["ax", "b", "c"], MadeFolds(**made), "own")


def test_pieces_of_a_part_count_as_the_part():
    found = resolve(card(split("pieces", train=("a",), train_optional=("b",), test_onsite=("c",), test_offsite=("d",))))
    assert (found.train, found.val, found.test) == (("a", "b"), (), ("c", "d"))


def test_a_split_is_named_or_made():
    with pytest.raises(ValueError, match="needs one of parts, made and folders"):
        Split(id="none", source="a test")
    with pytest.raises(ValueError, match="needs one of parts, made and folders"):
        Split(id="both", source="x", parts={"train": ("a",)}, sha256={"train": ids_sha256(("a",))}, made={"folds": 2})


def test_a_split_by_folder_takes_the_cases_that_lie_there():
    """LUNA16 as Models Genesis divides it: subsets 0-4, 5-6 and 7-9, whatever the series in them are called."""
    card, _ = dataset_card("luna16")
    cases = {f"1.3.{n}": Case(f"1.3.{n}", (Path("x") / f"subset{n % 10}" / f"1.3.{n}.mhd",), None) for n in range(30)}
    found = resolve(card, "luna16-genesis-ncc", ids=cases)
    for part, subsets in (("train", range(5)), ("val", (5, 6)), ("test", (7, 8, 9))):
        assert set(getattr(found, part)) == {case for case in cases if int(case[4:]) % 10 in subsets}
    assert found.scored == found.test
    less = resolve(card, "luna16-genesis-ncc", ids={case: cases[case] for case in list(cases)[:29]})
    assert less.sha256 != found.sha256


def test_a_split_by_folder_says_what_it_misses():
    card, _ = dataset_card("luna16")
    cases = {"1": Case("1", (Path("subset0/1.mhd"),), None)}
    with pytest.raises(UserError, match="'val' from the folders subset5, subset6, but no case lies there"):
        resolve(card, "luna16-genesis-ncc", ids=cases)
    with pytest.raises(UserError, match="where the files of each case lie"):
        resolve(card, "luna16-genesis-ncc", ids=["1"])
    with pytest.raises(UserError, match="not known here"):
        resolve(card, "luna16-genesis-ncc")
