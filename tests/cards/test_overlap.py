"""What weights have seen is found whatever a paper calls the data."""

from __future__ import annotations

import pytest

from harness.cards.library import all_dataset_cards, all_model_cards, dataset_card, model_card
from harness.cards.overlap import contamination_of, overlaps


@pytest.mark.parametrize(
    ("model", "dataset", "status", "words"),
    [
        ("med3d.resnet50", "lits", "train_overlap", "LiTS, with its labels"),
        ("med3d.resnet50", "msd_task03_liver", "train_overlap", "msd_task03_liver is msd_liver"),
        ("med3d.resnet10", "msd_task04_hippocampus", "train_overlap", "is msd_hippocampus"),
        ("mis_fm.pctnet_ct10k", "msd_task09_spleen", "unlabeled_overlap", "AbdomenCT-1K"),
        ("mis_fm.pctnet_ct10k", "synapse8", "unknown", "synapse8 is btcv"),
        ("mis_fm.pctnet_ct10k", "segthor", "unknown", "not listed"),
        ("models_genesis.chest_ct", "luna16", "unlabeled_overlap", ""),
        ("swin_unetr.brats21_fold1", "brats2021", "train_overlap", "all folds but 1"),
        ("swin_unetr.brats21_fold1", "brats2023", "train_overlap", "brats2023 is brats21"),
        ("swin_unetr.brats21_fold1", "brats2018", "unknown", "may share cases with"),
        ("brainsegfounder.ssl_small_fold0", "brats2021", "unlabeled_overlap", ""),
    ],
)
def test_the_gravest_word_is_found_under_every_name(model: str, dataset: str, status: str, words: str) -> None:
    found = contamination_of(model_card(model)[0], dataset_card(dataset)[0])
    assert found is not None
    assert (found.dataset, found.status) == (dataset, status)
    assert words in found.evidence


def test_silence_is_not_innocence() -> None:
    assert contamination_of(model_card("mis_fm.pctnet_ct10k")[0], dataset_card("brats2021")[0]) is None


def test_every_name_that_a_model_card_uses_and_we_hold_is_reached() -> None:
    models, datasets = all_model_cards(), all_dataset_cards()
    reached = {name for data in datasets for name in (data.id, *(kin.name for kin in data.shares_images_with))}
    used = {entry.dataset for model in models for entry in model.contamination}
    without_a_card = {"flare22", "hnscc", "kits19", "totalsegmentator"}
    without_a_card |= {"msd_pancreas", "msd_prostate", "msd_hepatic_vessel"}
    assert used - reached == without_a_card
    assert len(overlaps(models, datasets)) > 100
