"""Every pretraining recipe is planned without volumes, weights or memory, and the plan says what a real step is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.config import pretrain_config
from harness.data.synthetic import write
from harness.plan import plan_pretraining
from harness.pretraining.recipes import RECIPES

SMALL = {
    "models_genesis": ["recipe.cubes.size=[16,16,16]"],
    "volume_fusion": ["recipe.size=[16,32,32]"],
    "volume_fusion_2023": ["recipe.size=[16,32,32]"],
    "med3d": ["recipe.size=[16,24,24]"],
    "brainsegfounder": ["recipe.cubes.size=[64,32,32]"],
    "brainsegfounder_stage2": ["recipe.cubes.size=[64,32,32]", "parent=brainsegfounder.ssl_tiny"],
}


QUICK = ("models_genesis", "med3d", "brainsegfounder_stage2")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in RECIPES]
)
def test_every_recipe_is_planned(name: str, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    made = plan_pretraining(pretrain_config([f"recipe={name}", "name=planned", f"out='{out}'", *SMALL[name]]))
    (cell,), (recipe,) = made.cells, made.recipes
    assert (cell.state, recipe.problem, recipe.protocol) == ("planned", None, name)
    assert cell.samples >= 2 * cell.steps > 0
    assert recipe.footprint is not None
    assert recipe.footprint.train_bytes > recipe.footprint.static_bytes > 8 * recipe.footprint.parameters
    assert recipe.footprint.flops_per_step > 1e6
    wanted = {one.what: one.is_here for one in made.downloads}
    assert any(here for what, here in wanted.items() if what.startswith("data "))  # bundled
    if name == "brainsegfounder_stage2":
        assert wanted["weights brainsegfounder.ssl_tiny"] is False
        assert any("harness weights fetch brainsegfounder.ssl_tiny" in line for line in made.missing)
    assert not out.exists()


@pytest.mark.parametrize("name", ["models_genesis", "med3d"])
def test_the_planned_operations_are_those_of_a_real_step(name: str, tmp_path: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from harness.cards.library import dataset_card, model_card
    from harness.plan.pretext import _empty_task
    from harness.pretraining.recipes import task_class

    overrides = [f"recipe={name}", "name=planned", f"out='{tmp_path}'", "recipe.batch=2", *SMALL[name]]
    config = pretrain_config(overrides)
    card, _ = model_card(config.model)
    task = _empty_task(config, task_class(config.recipe), card, [dataset_card(config.dataset)[0]])
    network = task.network(card, config.network)
    with FlopCounterMode(display=False) as flops:
        task.loss(network, task.batch(0)).backward()
    (recipe,) = plan_pretraining(config).recipes
    assert recipe.footprint is not None
    assert recipe.footprint.flops_per_step == flops.get_total_flops()
    assert recipe.footprint.parameters == sum(p.numel() for p in network.parameters())
    twice = pretrain_config([*overrides, "recipe.batch=4", "training.accumulate=2"])
    (parts,) = plan_pretraining(twice).recipes
    assert parts.footprint is not None
    assert parts.footprint.flops_per_step == 2 * recipe.footprint.flops_per_step
    assert parts.footprint.train_bytes == recipe.footprint.train_bytes


def test_the_command_says_what_a_pretraining_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "cards" / "ct", cases=3, name="ct", labelled=False)
    state = torch.get_rng_state()
    command = [
        "plan",
        "recipe=models_genesis",
        "dataset=ct",
        "name=planned",
        "training.steps=5",
        *SMALL["models_genesis"],
    ]
    command += ["recipe.batch=1", "device=cpu", f"out='{tmp_path / 'runs'}'", "--cards", str(tmp_path / "cards")]
    assert main([*command, "--json"]) == 0
    assert torch.equal(torch.get_rng_state(), state)
    made = json.loads(capsys.readouterr().out)
    assert [(row["steps"], row["samples"]) for row in made["cells"]] == [(5, 5)]
    assert made["recipes"][0]["prepared_bytes"] > 10_000
    assert main([*command, "--calibrate"]) == 0
    said = capsys.readouterr().out
    assert "models_genesis.narrow8 on ct, models_genesis, init=scratch" in said
    assert "s a step on cpu" in said
    assert main(["plan", "recipe=brainsegfounder_stage2", "name=planned"]) == 2
    assert "say parent=MODEL and fold=NUMBER" in capsys.readouterr().err
