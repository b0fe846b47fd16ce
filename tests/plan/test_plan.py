"""A plan is made without data, weights or memory, and says what a real step then takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.library import model_card
from harness.cli import main
from harness.config import run_config
from harness.errors import UserError
from harness.plan import footprint, plan
from harness.plan.seeds import seeds_for, seeds_needed
from harness.selftest.bench import allocated_peak
from harness.sweep import expand
from harness.training.objective import SegmentationLoss

CELL = ["model=models_genesis.narrow8", "dataset=ct_headneck_oar", "init=scratch", "protocol.patches.size=[32,32,16]"]


@pytest.mark.slow
def test_predicted_memory_is_what_a_real_step_allocates() -> None:
    protocol = run_config(CELL).protocol
    card, _ = model_card("models_genesis.narrow8")
    predicted = footprint(card, 1, 8, protocol)
    network = build(
        card, Task("segmentation", 1, 8, (32, 32, 16)), protocol.network.get(card.adapter, {}), None
    ).network
    objective = SegmentationLoss(protocol.training.loss, "softmax")
    weights = sum(p.numel() * p.element_size() for p in [*network.parameters(), *network.buffers()])
    moments = predicted.static_bytes - weights

    def step() -> None:
        objective(network(torch.rand(2, 1, 32, 32, 16)), torch.zeros(2, 1, 32, 32, 16)).backward()

    measured = allocated_peak(step) + weights + moments
    assert predicted.parameters == sum(p.numel() for p in network.parameters())
    # oneDNN reorders weights and inputs in scratch memory, which no tensor shows
    assert 0.75 < predicted.train_bytes / measured < 1.1, (predicted.train_bytes, measured)


@pytest.mark.slow
def test_the_settings_that_save_memory_show() -> None:
    card, _ = model_card("models_genesis.narrow8")
    plain = footprint(card, 1, 8, run_config(CELL).protocol)
    training = "protocol.training"
    parts = footprint(card, 1, 8, run_config([*CELL, f"{training}.accumulate=2"]).protocol)
    again = footprint(card, 1, 8, run_config([*CELL, f"{training}.activation_checkpointing=true"]).protocol)
    frozen = footprint(card, 1, 8, run_config([*CELL, f"{training}.finetuning.mode=frozen_encoder"]).protocol)
    assert parts.train_bytes < 0.7 * plain.train_bytes
    assert parts.flops_per_step == plain.flops_per_step
    assert again.train_bytes < plain.train_bytes
    assert again.flops_per_step > plain.flops_per_step
    assert frozen.trainable < plain.trainable == plain.parameters
    assert frozen.train_bytes < plain.train_bytes


def test_operations_of_a_convolution_are_counted_as_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    class Family:
        stages, output = (), "$^"

        def build(self, *_: object) -> nn.Module:
            return nn.Conv3d(1, 8, 3, padding=1, bias=False)

        def encoder_prefixes(self, *_: object) -> tuple[str, ...]:
            return ()

    monkeypatch.setattr("harness.footprint.adapter", lambda name: Family())
    card, _ = model_card("models_genesis.narrow8")
    found = footprint(card, 1, 8, run_config(CELL).protocol)
    forward = 2 * (2 * 32 * 32 * 16) * 8 * 27
    assert found.flops_per_step == 2 * forward  # forward, and the gradient of the weights; the input has none
    assert found.parameters == 8 * 27


def test_a_plan_without_data_and_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["model=swin_unetr.ssl_ct", "dataset=brats2021", "protocol.patches.size=[32,32,32]", "fold=0,1"]
    overrides += [f"out={tmp_path / 'runs'}", "protocol.input.allow_modality_mismatch=true"]
    made = plan(expand([*overrides, "model=models_genesis.chest_ct"]))
    assert [cell.state for cell in made.cells] == ["planned"] * 4
    assert {one.what: one.is_here for one in made.downloads} == {
        "weights models_genesis.chest_ct": False,
        "data brats2021": False,
    }
    assert made.hours is None
    assert any("harness weights fetch models_genesis.chest_ct" in line for line in made.missing)
    assert any("harness data add brats2021" in line for line in made.missing)
    assert {recipe.init for recipe in made.recipes} == {"pretrained", "scratch"}
    assert made.recipes[0].prepared_bytes is None
    assert not (tmp_path / "runs").exists()


def test_the_command_and_what_lies_here(cell: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *cell, "seed=0,1", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [row["steps"] for row in made["cells"]] == [6, 6]
    assert made["recipes"][0]["prepared_bytes"] > 10_000
    assert made["recipes"][0]["footprint"]["flops_per_step"] > 1e6
    assert main(["plan", *cell, "protocol.training.steps=7200", "device=cpu", "--calibrate"]) == 0
    said = capsys.readouterr().out
    assert "s a step on cpu" in said
    assert "of training, one cell after the other" in said
    assert "nothing is missing on this machine" in said


def test_more_memory_than_there_is_names_the_knobs() -> None:
    made = plan(expand([*CELL, "protocol.patches.size=[512,512,512]", "protocol.patches.batch=64"]))
    assert any("lower protocol.patches.batch" in line for line in made.missing)


def test_seeds() -> None:
    assert seeds_needed(0.01, 0.01) == 7
    assert seeds_needed(0.5, 0.001) is None
    assert seeds_needed(0.0, 0.001) == 3
    known = seeds_for([0.80, 0.82], 0.01)
    assert known.spread == pytest.approx(0.01414, abs=1e-4)
    assert known.needed == seeds_needed(known.spread or 0, 0.01)
    assert seeds_for([0.8], 0.01).spread is None


def test_nothing_to_plan() -> None:
    with pytest.raises(UserError, match="no cell to plan"):
        plan([])
