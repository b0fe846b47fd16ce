"""`harness pretrain` in two processes learns what one learns; killed, it goes on; in half precision it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.library import model_card
from harness.checkpoints.hashing import state_sha256
from harness.config import pretrain_config
from harness.data.synthetic import write
from harness.training.device import seed_everything

pytestmark = pytest.mark.slow
RANKS_DRIVER = Path(__file__).parents[1] / "training" / "ranks_driver.py"
KILL_DRIVER = Path(__file__).parents[1] / "integration" / "kill_driver.py"

FUSION = ["dataset=ct", "recipe.size=[16,32,32]", "held_out=[case003,case004]", "model=mis_fm.fmunet_dry"]
RECIPES = {
    "models_genesis": ["dataset=ct", "held_out=[case004]", "recipe.cubes.size=[16,16,16]"],
    "volume_fusion": [*FUSION, "recipe.smallest_block=[2,4,4]", "recipe.largest_block=[6,12,12]"],
    "volume_fusion_2023": [*FUSION, "recipe.largest_box=[12,16,16]"],
    "med3d": ["dataset=ct+ct2", "held_out=[ct/case004,ct2/case002]", "recipe.size=[16,24,24]"],
    "brainsegfounder": [
        "dataset=mr",
        "held_out=[case002]",
        "model=brainsegfounder.ssl_dry",
        "recipe.cubes.size=[64,32,32]",
        "recipe.contrasted=1",
        "input.spacing=native",
    ],
}
# no dropout, since ranks would drop out different units; and one Swin block a stage, which is quicker
DRY = (
    ("mis_fm.fmunet_dry", "mis_fm.fmunet_narrow8", {"dropout": 0.0}),
    ("brainsegfounder.ssl_dry", "brainsegfounder.ssl_narrow12", {"depths": [1, 1, 1, 1]}),
)
NO_BATCH_NORM = ("volume_fusion", "volume_fusion_2023", "brainsegfounder")
# one step that is the gradient: later ones amplify rounding, as instance norm of few voxels does
SGD = ["training.optimizer={name: sgd, lr: 1.0, momentum: 0.0, weight_decay: 0.0}", "training.schedule.name=constant"]


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up volumes, and cards of small networks."""
    folder = tmp_path_factory.mktemp("cards")
    write(folder / "ct", cases=5, name="ct")
    write(folder / "ct2", cases=3, name="ct2", seed=1)
    write(folder / "mr", cases=3, name="mr", channels=2, seed=2)
    for name, base, changes in DRY:
        card = model_card(base)[0]
        update = {"id": name, "architecture": {**card.architecture, **changes}, "parameters": None}
        content = card.model_copy(update=update).model_dump(mode="json", exclude_defaults=True)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def arguments(name: str, cards: Path, out: Path, *more: str) -> list[str]:
    where = [f"cards=['{cards}']", f"out='{out}'", f"cache='{cards / 'cache'}'", "executor.workers=0"]
    few = "recipe.evaluation_patches=1" if name == "med3d" else "recipe.evaluation_batches=1"
    budget = ["recipe.batch=2", few, "training.steps=1", "training.checkpoint_every=1", "training.log_every=1"]
    return [f"recipe={name}", f"name={name}_ranks", "threads=1", *RECIPES[name], *budget, *where, *more]


def drive(driver: Path, jobs: list[dict[str, Any]]) -> Any:
    done = subprocess.run(
        [sys.executable, str(driver)],
        input=json.dumps(jobs),
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def weights(out: Path) -> dict[str, Tensor]:
    (path,) = [path for path in out.glob("*/weights/*") if path.suffix in (".pt", ".pth")]
    content = torch.load(path, weights_only=True)
    found: dict[str, Tensor] = content.get("state_dict") or content["model_state_dict"]
    return found


def record(out: Path) -> dict[str, Any]:
    (path,) = out.glob("*/record/record.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def first_loss(out: Path) -> float:
    (log,) = out.glob("*/log.jsonl")
    return float(json.loads(log.read_text(encoding="utf-8").splitlines()[0])["loss"])


def started(name: str, cards: Path) -> Mapping[str, Tensor]:
    """Return the weights that the run began with."""
    config = pretrain_config(arguments(name, cards, cards))
    card = model_card(config.model, [cards])[0]
    if name == "brainsegfounder":
        card = card.model_copy(update={"architecture": {**card.architecture, "in_channels": 2}})
    seed_everything(0)
    found: Mapping[str, Tensor] = build(
        card, Task("published", patch=(16, 32, 32)), config.network, None
    ).network.state_dict()
    return found


@pytest.fixture(scope="module")
def trained(cards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every recipe with one and with two ranks, in one driver."""
    top = tmp_path_factory.mktemp("ranks")
    jobs = {
        f"{name}-{ranks}": {
            "ranks": ranks,
            "arguments": ["pretrain", *arguments(name, cards, top / f"{name}-{ranks}", *SGD)],
        }
        for name in RECIPES
        for ranks in (1, 2)
    }
    found, said = drive(RANKS_DRIVER, list(jobs.values()))
    assert all(set(one["codes"]) == {0} for one in found), (dict(zip(jobs, found, strict=True)), said[-3000:])
    return top


@pytest.mark.parametrize("name", NO_BATCH_NORM)
def test_two_ranks_learn_what_one_learns(name: str, cards: Path, trained: Path) -> None:
    one, two = record(trained / f"{name}-1"), record(trained / f"{name}-2")
    start = started(name, cards)
    assert state_sha256(start) == one["weights"]["state_sha256"] == two["weights"]["state_sha256"]
    alone, both = (
        {key.removeprefix("module."): value for key, value in weights(trained / f"{name}-{ranks}").items()}
        for ranks in (1, 2)
    )
    moved = max((alone[key] - start[key]).abs().max().item() for key in alone)
    apart = max((alone[key] - both[key]).abs().max().item() for key in alone)
    assert moved > 1e-3
    assert apart < 1e-2 * moved, (apart, moved)
    assert first_loss(trained / f"{name}-1") == pytest.approx(first_loss(trained / f"{name}-2"), rel=1e-5)
    assert "batch_norm" not in two["protocol"]
    assert [metric["value"] for metric in one["metrics"]] == pytest.approx(
        [metric["value"] for metric in two["metrics"]], rel=0.02, abs=1e-3
    )


@pytest.mark.parametrize("name", RECIPES)
def test_the_record_of_two_ranks_says_so_and_counts_each_sample_once(name: str, trained: Path) -> None:
    one, two = record(trained / f"{name}-1"), record(trained / f"{name}-2")
    assert two["cost"]["ranks"] == 2
    assert "ranks" not in one["cost"]
    assert one["protocol"]["samples_seen"] == two["protocol"]["samples_seen"] > 0
    assert one["dataset"] == two["dataset"]
    if name not in NO_BATCH_NORM:
        assert two["protocol"]["batch_norm"] == "statistics of each of 2 ranks"
        assert first_loss(trained / f"{name}-1") == pytest.approx(first_loss(trained / f"{name}-2"), rel=0.2)


def test_killed_while_a_checkpoint_is_written_it_ends_as_one_that_never_was(cards: Path, tmp_path: Path) -> None:
    jobs = [
        {
            "arguments": ["pretrain", *arguments("models_genesis", cards, tmp_path / name, "training.steps=4")],
            "kills": kills,
        }
        for name, kills in (("whole", [[None, 0]]), ("cut", [["in_checkpoint_write", 2], ["in_record", 1], [None, 0]]))
    ]
    codes, said = drive(KILL_DRIVER, jobs)
    assert codes == [[0], [-9, -9, 0]], said[-2000:]
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    assert record(tmp_path / "whole")["result_id"] == record(tmp_path / "cut")["result_id"]
    assert "resuming at step 2 of 4" in said


def test_half_precision_ends_with_weights_and_a_record(cards: Path, tmp_path: Path) -> None:
    full, half = (
        ["pretrain", *arguments("volume_fusion", cards, tmp_path / amp, f"training.amp={amp}")]
        for amp in ("off", "bf16")
    )
    codes, said = drive(KILL_DRIVER, [{"arguments": one, "kills": [[None, 0]]} for one in (full, half)])
    assert codes == [[0], [0]], said[-2000:]
    (settings,) = (tmp_path / "bf16").glob("*/record/config.yaml")
    assert yaml.safe_load(settings.read_text(encoding="utf-8"))["training"]["amp"] == "bf16"
    one, other = weights(tmp_path / "off"), weights(tmp_path / "bf16")
    assert all(value.dtype == torch.float32 and torch.isfinite(value).all() for value in other.values())
    assert any(not torch.equal(one[key], other[key]) for key in one)
