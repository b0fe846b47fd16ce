"""``harness pretrain`` with every recipe: from volumes on disk to a checkpoint, its card and a record that verifies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.adapters.weights import locate
from harness.cards.library import model_card
from harness.cli import main
from harness.config import pretrain_config, run_config
from harness.data.synthetic import write
from harness.errors import UserError
from harness.pretrain import Pretrained, pretrain
from harness.records.verify import verify
from harness.run import run

FUSION = ["recipe.size=[16,32,32]", "recipe.batch=1", "recipe.smallest_block=[2,4,4]", "recipe.largest_block=[6,12,12]"]
SWIN = ["recipe.cubes.size=[64,32,32]", "recipe.batch=1", "recipe.evaluation_batches=1", "input.spacing=native"]
RECIPES = {
    "models_genesis": ["dataset=ct", "held_out=[case004]", "recipe.cubes.size=[16,16,16]", "recipe.batch=1"],
    "volume_fusion": ["dataset=ct", "held_out=[case003,case004]", *FUSION],
    "volume_fusion_2023": [
        "dataset=ct",
        "held_out=[case003,case004]",
        "model=mis_fm.pctnet_narrow8",
        "recipe.size=[16,32,32]",
        "recipe.batch=1",
        "recipe.largest_box=[12,16,16]",
    ],
    "med3d": ["dataset=ct+second", "held_out=[ct/case004,second/case002]", "recipe.size=[16,24,24]", "recipe.batch=2"],
    "brainsegfounder": ["dataset=mr", "held_out=[case002]", *SWIN],
}
QUICK = ("models_genesis", "med3d")
METRICS = {
    "models_genesis": {"mse.restoration.v1", "mse.restoration_identity.v1", "mse.restoration_blur.v1"},
    "volume_fusion": {"accuracy.pseudo_label.v1", "dice.fusion.v1", "dice.fusion_majority.v1"},
    "volume_fusion_2023": {"accuracy.pseudo_label.v1", "dice.fusion.v1", "dice.fusion_majority.v1"},
    "med3d": {"accuracy.pseudo_label.v1", "accuracy.probe.v2", "accuracy.probe_random.v2"},
    "brainsegfounder": {"accuracy.rotation.v1", "nt_xent.views.v1", "l1.restoration.v1", "accuracy.probe.v2"},
}


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up data sets: two of labelled CT, one of labelled MR with two channels."""
    folder = tmp_path_factory.mktemp("cards")
    write(folder / "ct", cases=5, name="ct")
    write(folder / "second", cases=3, name="second", seed=1, shape=(28, 32, 20), spacing=(3.0, 3.0, 4.0))
    write(folder / "mr", cases=3, name="mr", channels=2, seed=2)
    return folder


def configure(name: str, cards: Path, out: Path, *more: str) -> list[str]:
    where = [f"cards=['{cards}']", f"out='{out / 'runs'}'", f"cache='{out / 'cache'}'", "executor.workers=0"]
    budget = ["training.steps=2", f"name={name}", "recipe.evaluation_batches=1"]
    if name == "med3d":
        budget[-1] = "recipe.evaluation_patches=2"
    return [f"recipe={name}", *RECIPES.get(name, []), *budget, *where, *more]


def run_recipe(name: str, cards: Path, out: Path, *more: str) -> Pretrained:
    return pretrain(pretrain_config(configure(name, cards, out, *more)))


def read_record(made: Pretrained) -> dict:
    return json.loads((made.record / "record.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in RECIPES]
)
def test_every_recipe_ends_with_a_checkpoint_that_loads_and_a_record_that_verifies(
    name: str, cards: Path, tmp_path: Path
) -> None:
    made = run_recipe(name, cards, tmp_path)
    record = read_record(made)
    verdict = verify(made.record, full=True, cards=[cards])
    assert verdict.ok, verdict.errors
    assert {metric["id"] for metric in record["metrics"]} >= METRICS[name]
    assert record["evidence"] == ["synthetic_data"]
    assert record["protocol"]["id"] == name

    card, folder = model_card(made.model, [made.card.parent])
    assert card.pretraining.steps == 2
    assert set(card.evidence) == {"self_pretrained", "synthetic_data", "bundled_sample"}
    assert card.pretraining.fingerprint is not None
    channels, patch = len(card.contract.channels), card.contract.patch
    file = locate(card, folder)  # size and hash are the card's
    published = build(card, Task("published", channels, patch=patch), {}, file)
    state = torch.load(file, weights_only=True)[card.checkpoint.weights_key]
    assert all(entry.startswith(card.checkpoint.prefix) for entry in state)
    assert sum(value.numel() for value in published.network.parameters()) == card.parameters
    task = build(card, Task("segmentation", channels, 4, patch), {}, file)
    assert task.report.encoder.value == 1.0


def test_co_training_gives_each_data_set_its_branch_its_spacing_and_its_place_in_the_card(
    cards: Path, tmp_path: Path
) -> None:
    made = run_recipe("med3d", cards, tmp_path)
    record = read_record(made)
    assert record["dataset"]["id"] == "ct+second"
    assert record["dataset"]["n_cases"] == {"train": 6, "val": 0, "test": 2}
    assert record["protocol"]["spacing"] is None
    assert "'second': (4.0, 3.0, 3.0)" in record["reasons"]["protocol.spacing"]
    settings = yaml.safe_load((made.record / "config.yaml").read_text(encoding="utf-8"))
    assert settings["recipe"]["classes"] == {"ct": 4, "second": 4}
    card = model_card(made.model, [made.card.parent])[0]
    assert {entry.dataset: entry.status for entry in card.contamination} == {
        "ct": "train_overlap",
        "second": "train_overlap",
    }
    assert any("zscore" in note for note in card.notes)


@pytest.mark.slow
def test_the_second_stage_goes_on_from_the_first_on_one_fold(cards: Path, tmp_path: Path) -> None:
    write(tmp_path / "cards" / "target", cases=5, name="target", channels=3, seed=3)
    first = run_recipe("brainsegfounder", cards, tmp_path)
    own = tmp_path / "cards"
    second = run_recipe(
        "brainsegfounder_stage2",
        own,
        tmp_path,
        *SWIN,
        "dataset=target",
        f"parent={first.model}",
        f"cards=['{own}','{first.card.parent}']",
    )
    record = read_record(second)
    assert record["model"]["init"] == "other"
    assert record["weights"]["file"] == "brainsegfounder.pt"
    assert 0.99 < record["weights"]["loaded_fraction"] < 1.0  # all but the stem, which has other channels
    assert record["split"]["fold"] == 0
    assert record["dataset"]["n_cases"] == {"train": 3, "val": 0, "test": 1}
    assert record["contamination"]["status"] == "none"
    card = model_card(second.model, [second.card.parent])[0]
    assert card.pretraining.parent == first.model
    assert card.pretraining.datasets == ("mr", "target")
    assert card.architecture["in_channels"] == 3
    assert card.contract.channels == ("c0", "c1", "c2")
    listed = json.loads((second.card.parent / "volumes.json").read_text(encoding="utf-8"))
    assert [(part["dataset"], len(part["trained"])) for part in listed["datasets"]] == [("target", 3), ("mr", 2)]
    assert listed["datasets"][0]["split"]["fold"] == 0
    assert listed["complete"] is True


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["recipe=brainsegfounder_stage2", "dataset=ct"], "say parent=MODEL and fold=NUMBER"),
        (["recipe=models_genesis", "fold=0", "held_out=[case000]"], "leave held_out out"),
        (["recipe=models_genesis", "split=fixed"], "needs fold="),
        (["recipe=models_genesis", "weights=x.pt"], "Say parent=MODEL"),
        (["recipe=models_genesis", "parent=med3d.resnet10"], "of the family models_genesis"),
        (["recipe=models_genesis", "dataset=mr", "held_out=[case000]"], r"mr has 2 channels .* takes 1"),
        (["recipe=med3d", "dataset=ct+mr", "held_out=[ct/case000]"], "differ in their number of channels"),
        (["recipe=med3d", "dataset=ct+second", "held_out=[case000]"], "write ct/case000"),
        (["recipe=med3d", "dataset=ct+second", "held_out=[third/case000]"], "third"),
        (["recipe=med3d", "dataset=ct+second", "held_out=[ct/case9]"], "case9"),
    ],
)
def test_mistakes_are_answered_before_any_work(overrides: list[str], says: str, cards: Path, tmp_path: Path) -> None:
    where = [f"cards=['{cards}']", f"out='{tmp_path / 'runs'}'", f"cache='{tmp_path / 'cache'}'", "name=wrong"]
    with pytest.raises(UserError, match=says):
        pretrain(pretrain_config([*overrides, *where]))
    assert not list(tmp_path.rglob("card.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["models_genesis", "volume_fusion", "med3d", "brainsegfounder"])
def test_what_came_out_conforms_and_fine_tunes(name: str, cards: Path, tmp_path: Path) -> None:
    made = run_recipe(name, cards, tmp_path)
    home = made.card.parent
    card = model_card(made.model, [home])[0]
    file = locate(card, home)
    assert main(["adapter", "check", made.model, "--checkpoint", str(file), "--cards", str(home)]) == 0

    data = "mr" if name == "brainsegfounder" else "ct"
    size = "[64,32,32]" if name == "brainsegfounder" else "[16,32,32]"
    cell = [f"model={made.model}", f"dataset={data}", "debug=smoke", "protocol.training.steps=1"]
    cell += [f"protocol.patches.size={size}", f"protocol.inference.patch={size}", "protocol.patches.batch=1"]
    cell += [f"cards=['{cards}','{home}']", f"out='{tmp_path / 'tuned'}'", f"cache='{tmp_path / 'cache'}'"]
    record = json.loads((run(run_config(cell)) / "record.json").read_text(encoding="utf-8"))
    assert record["weights"]["loaded_fraction"] == 1.0
    assert record["weights"]["file"] == file.name
    assert "self_pretrained" in record["evidence"]
    assert record["contamination"]["status"] in ("test_overlap", "train_overlap", "unlabeled_overlap")
