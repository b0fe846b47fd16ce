"""Narrow networks beat the trivial answer on volumes that they never saw; every recipe does a step at full width.

On real volumes, with more steps and three seeds: benchmarks/pretraining_evidence.py.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.cards.library import model_card
from harness.cards.model import ModelCard
from harness.config import pretrain_config
from harness.pretrain import pretrain
from harness.pretraining.recipes import make_task
from harness.pretraining.task import PretextTask
from harness.training.device import Numerics, seed_everything
from harness.training.loop import fit
from harness.training.settings import Optimizer, Training

pytestmark = pytest.mark.slow

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "pretraining_evidence.py"


def learn(task: PretextTask, card: ModelCard, out: Path, steps: int, lr: float, **options: Any) -> dict[str, float]:
    seed_everything(0)
    network = task.network(card, options)
    training = Training(steps=steps, optimizer=Optimizer(name="adamw", lr=lr), checkpoint_every=steps)
    fit(network, task, training, out, out / "log.jsonl", Numerics(training, torch.device("cpu")))
    return task.evaluate(network, "cpu")


def test_restoration_beats_the_distorted_cube_and_its_blur(volumes: Any, tmp_path: Path) -> None:
    recipe = {"name": "models_genesis", "cubes": {"size": (16, 16, 16)}, "batch": 4, "shuffle_windows": 500}
    task = make_task(recipe, volumes, ["a", "b"], ["c"], 0)
    scores = learn(task, model_card("models_genesis.narrow8")[0], tmp_path, 60, 3e-3, normalization="running")
    assert scores["mse"] < scores["mse_blur"] < scores["mse_identity"]


def test_co_training_makes_features_that_a_random_encoder_has_not(labelled: Any, tmp_path: Path) -> None:
    recipe = {"name": "med3d", "size": (16, 24, 24), "batch": 4, "classes": {"two": 2, "three": 3}}
    held_out = ["two/t2", "three/h2"]
    task = make_task(recipe, labelled, [case for case in labelled if case not in held_out], held_out, 0)
    scores = learn(task, model_card("med3d.resnet10_narrow8")[0], tmp_path, 60, 3e-3)
    assert scores["probe"] > scores["probe_random"]
    assert scores["accuracy"] > scores["accuracy_majority"]


# a grid that leaves no rim: rims are background, and would be most of so small a volume
FUSION = {
    "volume_fusion": {"smallest_block": (4, 8, 8), "largest_block": (4, 8, 8)},
    "volume_fusion_2023": {"largest_box": (10, 20, 20)},
}


@pytest.mark.parametrize("name", FUSION)
def test_fusion_coefficients_are_told_better_than_by_the_most_frequent_one(
    name: str, volumes: Any, narrow: Any, tmp_path: Path
) -> None:
    recipe = {"name": name, "size": (16, 32, 32), "batch": 2, **FUSION[name]}
    task = make_task(recipe, volumes, ["a", "b"], ["c", "small"], 0)
    scores = learn(task, narrow("mis_fm.fmunet_abk1k"), tmp_path, 110, 5e-3)
    assert scores["accuracy"] > scores["accuracy_majority"] + 0.01, scores
    assert scores["dice"] > scores["dice_majority"] + 0.05, scores


def test_a_swin_network_learns_features_that_a_random_encoder_has_not(tmp_path: Path) -> None:
    """The first seed of the evidence, as the benchmark has it: real MR, since made-up bodies have no way up."""
    evidence = runpy.run_path(str(BENCHMARK))
    cards = evidence["small_windows"](evidence["one_channel"](tmp_path / "cards"))
    where = [f"cards=['{cards}']", f"out='{tmp_path / 'runs'}'", f"cache='{tmp_path / 'cache'}'"]
    fixed = ["recipe=brainsegfounder", "name=learning", "executor.workers=0", "threads=1"]
    made = pretrain(pretrain_config([*fixed, *evidence["PLANS"]["brainsegfounder"].overrides, *where]))
    scores = evidence["scores_of"](made.record)
    probe, random = (scores[f"accuracy.{name}.v2"][0] for name in ("probe", "probe_random"))
    assert probe > random + 0.06, scores  # six random encoders differ by that much; seed 0 is 0.11 above
    assert scores["accuracy.rotation.v1"] > scores["accuracy.rotation_chance.v1"], scores


@pytest.mark.parametrize(
    ("name", "model", "settings", "options"),
    [
        ("models_genesis", "models_genesis.chest_ct", {"cubes": {"size": (16, 16, 16)}, "batch": 1}, {}),
        ("volume_fusion", "mis_fm.pctnet_ct10k", {"size": (16, 32, 32), "batch": 1}, {"deep_supervision": True}),
        ("volume_fusion_2023", "mis_fm.fmunet_abk1k", {"size": (16, 32, 32), "batch": 1}, {"deep_supervision": True}),
        ("med3d", "med3d.resnet10", {"size": (16, 24, 24), "batch": 2, "classes": {"two": 2, "three": 3}}, {}),
        ("brainsegfounder", "brainsegfounder.ssl_tiny", {"cubes": {"size": (64, 32, 32)}, "batch": 1}, {}),
    ],
)
def test_one_step_at_full_width(
    name: str, model: str, settings: dict[str, Any], options: dict[str, Any], volumes: Any, labelled: Any
) -> None:
    source, train, held_out = volumes, ["a", "b"], ["c", "small"]
    if name == "med3d":
        source, train, held_out = labelled, ["two/t0", "three/h0"], ["two/t2", "three/h2"]
    seed_everything(0)
    task = make_task({"name": name, **settings}, source, train, held_out, 0)
    card = model_card(model)[0]
    network = task.network(card, options)
    # so small a volume shrinks the bias tables of PCT-Net's windows
    assert name == "volume_fusion" or count(task.published(network)) == card.parameters
    optimizer = torch.optim.SGD(network.parameters(), 1e-2)
    before = task.loss(network, task.batch(0))
    before.backward()  # type: ignore[no-untyped-call]
    trained = [value for value in network.parameters() if value.grad is not None]
    assert all(torch.isfinite(value.grad).all() for value in trained)
    old = [value.detach().clone() for value in trained]
    optimizer.step()
    assert any(not torch.equal(value, other) for value, other in zip(trained, old, strict=True))


def count(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())
