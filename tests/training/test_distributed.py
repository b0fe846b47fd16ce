"""Several ranks at one run are one run: same data, same gradients, every case once; a rank that dies ends the job."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.errors import UserError
from harness.networks.genesis_unet import GenesisUNet
from harness.training.distributed import World, current

DRIVER = Path(__file__).with_name("ranks_driver.py")
SGD = {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
FIT: dict[str, Any] = {"steps": 6, "checkpoint_every": 2, "log_every": 1, "optimizer": {"name": "adam", "lr": 0.01}}
ONE_STEP = {"steps": 1, "optimizer": SGD, "schedule": {"name": "constant"}, "log_every": 1}
SAWTOOTH: dict[str, Any] = {
    "steps": 5,
    "optimizer": {**SGD, "lr": 0.1},
    "schedule": {"name": "constant"},
    "finetuning": {"mode": "sawtooth", "decoder_steps": 2},
}
FORMS = {
    "per sample": {},
    "dice over the batch": {"loss": {"batch_dice": True}},
    "in parts": {"accumulate": 2},
    "half": {"amp": "bf16"},
}


def drive(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for job in jobs:
        if "folder" in job:
            Path(job["folder"]).mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(DRIVER)],
        input=json.dumps(jobs),
        capture_output=True,
        encoding="utf-8",
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    for one in found:
        one["errors"] = done.stderr
    return found


def cell(synthetic: Path, out: Path, ranks: int) -> dict[str, Any]:
    """A run whose weights stay as they were drawn: what differs between numbers of ranks is who scores which case."""
    settings = ["optimizer.lr=1e-30", "optimizer.weight_decay=0", "steps=2", "selection.rule=best_val"]
    return {
        "ranks": ranks,
        "arguments": [
            "run",
            "model=models_genesis.narrow8",
            "dataset=synthetic",
            "init=scratch",
            "debug=smoke",
            "protocol.patches.batch=4",
            *[f"protocol.training.{one}" for one in settings],
            f"cards=['{synthetic}']",
            f"data_root='{synthetic / 'synthetic'}'",
            f"out='{out}'",
            f"cache='{out.parent / 'cache'}'",
            "threads=1",
        ],
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, synthetic: Path) -> dict[str, Any]:
    """Every job of the quick set in one driver."""
    top = tmp_path_factory.mktemp("ranks")
    jobs: dict[str, dict[str, Any]] = {}
    for name, choice in FORMS.items():
        for ranks in (1, 2):
            folder = str(top / f"{name} {ranks}")
            jobs[f"{name} {ranks}"] = {"ranks": ranks, "folder": folder, "training": {**ONE_STEP, **choice}}
    for ranks in (1, 2):
        folder = str(top / f"sawtooth {ranks}")
        jobs[f"sawtooth {ranks}"] = {"ranks": ranks, "folder": folder, "training": SAWTOOTH}
    for name, ends in (
        ("whole", {}),
        ("cut", {"die_at": 3}),
        ("cut again", {}),
        ("asked", {"ask_at": 2}),
        ("asked again", {}),
    ):
        folder = str(top / name.removesuffix(" again"))
        jobs[name] = {"ranks": 2, "folder": folder, "training": FIT, "batch_norm": True, **ends}
    for ranks in (1, 2):
        jobs[f"cell {ranks}"] = cell(synthetic, top / f"cell{ranks}", ranks)
    return {"top": top, **dict(zip(jobs, drive(list(jobs.values())), strict=True))}


def weights(trained: dict[str, Any], name: str, rank: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(trained["top"] / name / f"rank{rank}.pt", weights_only=True)
    return found


@pytest.mark.parametrize("name", FORMS)
def test_one_step_of_two_ranks_is_that_of_one(trained: dict[str, Any], name: str) -> None:
    assert trained[f"{name} 1"]["codes"] == [0]
    assert trained[f"{name} 2"]["codes"] == [0, 0]
    alone, first, second = (weights(trained, f"{name} {n}", rank) for n, rank in ((1, 0), (2, 0), (2, 1)))
    assert (alone["ranks"], first["ranks"]) == (1, 2)
    assert alone["samples"] == first["samples"] == 4
    for key, expected in alone["state"].items():
        assert torch.equal(first["state"][key], second["state"][key])
        assert (first["state"][key] - expected).abs().max() <= (1e-5 if name != "half" else 1e-2), key
    # lr is 1, so weights moved by their gradients; had they not moved, all would be equal as well
    torch.manual_seed(0)
    assert (alone["state"]["0.weight"] - nn.Conv3d(1, 4, 3).weight).abs().max() > 1e-3
    losses = [json.loads((trained["top"] / f"{name} {n}" / "log.jsonl").read_text("utf-8"))["loss"] for n in (1, 2)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5 if name != "half" else 1e-2)


def test_ranks_share_the_gradients_of_an_encoder_that_was_frozen_when_they_were_joined(trained: dict[str, Any]) -> None:
    assert trained["sawtooth 2"]["codes"] == [0, 0], trained["sawtooth 2"]["errors"]
    alone, first, second = (weights(trained, f"sawtooth {n}", rank)["state"] for n, rank in ((1, 0), (2, 0), (2, 1)))
    for key, expected in alone.items():
        assert torch.equal(first[key], second[key]), key
        assert (first[key] - expected).abs().max() <= 1e-5, key
    torch.manual_seed(0)
    assert (alone["0.weight"] - nn.Conv3d(1, 4, 3).weight).abs().max() > 1e-4  # it did learn, from step 3 on


def test_dice_per_sample_and_over_the_batch_differ(trained: dict[str, Any]) -> None:
    one, other = (weights(trained, f"{name} 1")["state"]["0.weight"] for name in ("per sample", "dice over the batch"))
    assert (one - other).abs().max() > 1e-4


def test_a_rank_that_dies_ends_the_job_which_then_resumes_exactly(trained: dict[str, Any]) -> None:
    cut = trained["cut"]
    assert cut["codes"] == [1, -9]
    assert cut["seconds"] < 30
    assert "Another rank of this run is gone" in cut["errors"]
    assert trained["cut again"]["codes"] == trained["whole"]["codes"] == [0, 0]
    for rank in (0, 1):
        again, whole = weights(trained, "cut", rank), weights(trained, "whole", rank)
        assert (again["resumed"], whole["resumed"]) == (1, 0)
        for key, expected in whole["state"].items():
            assert torch.equal(again["state"][key], expected), key
    first, second = weights(trained, "whole", 0), weights(trained, "whole", 1)
    assert torch.equal(first["state"]["1.running_mean"], second["state"]["1.running_mean"])


def test_one_rank_that_is_asked_to_stop_stops_all_of_them_at_one_step(trained: dict[str, Any]) -> None:
    assert trained["asked"]["codes"] == [75, 75]
    assert "Asked to stop (SIGTERM) at step 3 of 6" in trained["asked"]["errors"]
    assert trained["asked again"]["codes"] == [0, 0]
    for key, expected in weights(trained, "whole")["state"].items():
        assert torch.equal(weights(trained, "asked")["state"][key], expected), key


def read(top: Path, ranks: int) -> tuple[dict[str, Any], list[dict[str, str]]]:
    (path,) = (top / f"cell{ranks}").glob("*/record/record.json")
    with (path.parent / "cases.csv").open(newline="", encoding="utf-8") as stream:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(stream)]
    return json.loads(path.read_text(encoding="utf-8")), rows


def test_every_case_is_scored_once_and_as_by_one_process(trained: dict[str, Any]) -> None:
    assert trained["cell 1"]["codes"] == [0]
    assert trained["cell 2"]["codes"] == [0, 0], trained["cell 2"]["errors"]
    (alone, expected), (both, found) = (read(trained["top"], ranks) for ranks in (1, 2))
    assert found == expected
    assert both["metrics"] == alone["metrics"]
    assert both["protocol"]["samples_seen"] == alone["protocol"]["samples_seen"] == 8
    assert both["protocol"]["batch_norm"] == "statistics of each of 2 ranks"
    assert both["cost"]["ranks"] == 2
    assert "batch_norm" not in alone["protocol"]


@pytest.mark.slow
def test_torchrun_with_four_processes_and_one_that_dies(tmp_path: Path, synthetic: Path) -> None:
    jobs = [cell(synthetic, tmp_path / f"cell{ranks}", ranks) for ranks in (1, 4)]
    alone = drive(jobs[:1])
    assert alone[0]["codes"] == [0]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    command = [*torchrun, "--max-restarts", "1", "-m", "harness", *jobs[1]["arguments"]]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (_, expected), (_, found) = (read(tmp_path, ranks) for ranks in (1, 4))
    assert found == expected


@pytest.mark.slow
def test_torchrun_starts_a_job_again_whose_rank_died(tmp_path: Path, trained: dict[str, Any]) -> None:
    """It goes on from the checkpoint and ends with the weights of a job in which nobody died."""
    job = {"folder": str(tmp_path), "training": FIT, "batch_norm": True, "die_at": 3}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "--max-restarts", "1", str(DRIVER), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        again = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert again["resumed"] == 1
        for key, expected in weights(trained, "whole", rank)["state"].items():
            assert torch.equal(again["state"][key], expected), key


def test_a_process_that_torchrun_did_not_start_is_alone() -> None:
    world = current()
    assert (world.rank, world.size, world.is_main) == (0, 1, True)
    assert world.gather("x") == ["x"]
    assert world.share([1, 2, 3]) == [1, 2, 3]


def test_parts_are_consecutive_and_equal() -> None:
    batch = {"image": torch.arange(6), "label": torch.arange(6) * 10}
    assert [part["label"].tolist() for part in World.parts(batch, 3)] == [[0, 10], [20, 30], [40, 50]]
    with pytest.raises(UserError, match="6 samples cannot be worked through in 4 equal parts"):
        World.parts(batch, 4)


def test_batch_norm_over_ranks_is_refused_where_torch_cannot() -> None:
    with pytest.raises(UserError, match="sync_batch_norm needs CUDA, and the network is on cpu"):
        World(0, 2).wrap(GenesisUNet(1, 2, 2), synchronise_batch_norm=True)
