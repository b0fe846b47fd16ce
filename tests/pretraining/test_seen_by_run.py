"""Fine-tuning on volumes that pretraining has seen is flagged in the record by itself, whatever they are called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from harness.config import pretrain_config, run_config
from harness.data.synthetic import write
from harness.pretrain import Pretrained, pretrain
from harness.run import run


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled set with three folds, and the same images, unlabelled, under other names."""
    folder = tmp_path_factory.mktemp("cards")
    write(folder / "target", cases=5, name="target", shape=(24, 24, 20))
    folds = {"id": "three", "source": "this test", "made": {"folds": 3, "seed": 0}}
    fixed = yaml.safe_load((folder / "target" / "splits.yaml").read_text(encoding="utf-8"))
    (folder / "target" / "splits.yaml").write_text(yaml.safe_dump([*fixed, folds]), encoding="utf-8")
    write(folder / "renamed", cases=3, name="renamed", labelled=False, seed=9, shape=(24, 24, 20))
    shutil.copy(folder / "target" / "images" / "case004.nii.gz", folder / "renamed" / "images" / "case000.nii.gz")
    return folder


def learn(cards: Path, out: Path, *more: str) -> Pretrained:
    overrides = ["name=seen", "recipe.cubes.size=[16,16,16]", "recipe.batch=1", "recipe.evaluation_batches=1"]
    return pretrain(pretrain_config([*overrides, "training.steps=1", *where(out, cards), *more]))


def where(out: Path, *cards: Path) -> list[str]:
    folders = ",".join(f"'{folder}'" for folder in cards)
    return [f"cards=[{folders}]", f"out='{out / 'runs'}'", f"cache='{out / 'cache'}'", "executor.workers=0"]


def fine_tune(made: Pretrained, cards: Path, out: Path, *more: str) -> dict[str, str]:
    cell = [f"model={made.model}", "dataset=target", "debug=smoke", "protocol.training.steps=1"]
    record = run(run_config([*cell, *where(out, cards, made.card.parent), *more])) / "record.json"
    found: dict[str, str] = json.loads(record.read_text(encoding="utf-8"))["contamination"]
    return found


def test_a_scored_volume_seen_under_another_name_is_flagged(cards: Path, tmp_path: Path) -> None:
    made = learn(cards, tmp_path, "dataset=renamed", "held_out=[case001]")
    found = fine_tune(made, cards, tmp_path)  # case004 is the test case
    assert found["status"] == "unlabeled_overlap"
    assert "1 of 1 scored volumes were seen in pretraining, 0 of them with labels: case004" in found["evidence"]

    held_out = learn(cards, tmp_path, "dataset=renamed", "held_out=[case000]", "seed=1")
    found = fine_tune(held_out, cards, tmp_path, "seed=1")
    assert found["status"] == "none"  # it was only measured on


@pytest.mark.slow
def test_another_fold_than_that_of_the_weights_is_said(cards: Path, tmp_path: Path) -> None:
    made = learn(cards, tmp_path, "dataset=target", "split=three", "fold=0")
    listed = json.loads((made.card.parent / "volumes.json").read_text(encoding="utf-8"))["datasets"][0]
    other = fine_tune(made, cards, tmp_path, "split=three", "fold=1")
    assert other["status"] == "unlabeled_overlap"
    assert other["evidence"].startswith("pretrained for fold 0 of the split three, and this run is fold 1; ")
    assert "scored volumes were seen in pretraining" in other["evidence"]

    own = fine_tune(made, cards, tmp_path, "split=three", "fold=0")
    assert "this run is fold" not in own["evidence"]
    assert "no scored volume was seen in pretraining" in own["evidence"]
    assert listed["split"]["fold"] == 0
