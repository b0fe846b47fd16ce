"""The profiler's page names every part of a step, and the run is the one without it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.checkpoints.hashing import state_sha256
from harness.config import run_config
from harness.training.device import Numerics, seed_everything
from harness.training.loop import fit
from harness.training.profiling import PARTS
from harness.training.settings import Training

CPU = torch.device("cpu")


class Heavy:
    """A step that is one large product forward, and two backward."""

    def batches(self, start: int, stop: int) -> Iterator[Mapping[str, Tensor]]:
        for step in range(start, stop):
            yield {"x": torch.randn(64, 256, generator=torch.Generator().manual_seed(step))}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return network(batch["x"]).square().mean()

    def validate(self, network: nn.Module) -> float:
        raise AssertionError("not selected by validation")


def train(folder: Path, profile: int) -> nn.Module:
    folder.mkdir()
    settings = Training(steps=7)
    seed_everything(0)
    network = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256))
    fit(network, Heavy(), settings, folder, folder / "log.jsonl", Numerics(settings, CPU), profile=profile)
    return network


def test_the_page_and_the_trace_are_written_and_nothing_else_changes(tmp_path: Path) -> None:
    plain, profiled = train(tmp_path / "plain", 0), train(tmp_path / "profiled", 3)
    assert state_sha256(plain.state_dict()) == state_sha256(profiled.state_dict())
    assert not (tmp_path / "plain" / "profile").exists()
    page = (tmp_path / "profiled" / "profile" / "summary.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line.split("|") for line in page.splitlines() if line.startswith("| ")}
    spent = {part: float(rows[part][2]) for part in PARTS}
    assert spent["forward"] > 0
    assert spent["backward"] > 0
    assert spent["update"] > 0
    whole = float(page.split("One step: **")[1].split(" ms")[0])
    assert 0.5 * whole < sum(spent.values()) <= whole * 1.01
    assert "`aten::addmm`" in rows
    assert rows["`aten::addmm`"][2].strip() == "2"  # calls a step: two linear layers
    trace = json.loads((tmp_path / "profiled" / "profile" / "trace.json").read_text(encoding="utf-8"))
    assert {event.get("name") for event in trace["traceEvents"]} >= {"data", "forward", "backward", "update"}


def test_debug_profile_changes_no_cell() -> None:
    words = ["model=models_genesis.narrow8", "dataset=ct_headneck_oar", "init=scratch", "protocol=demo_ct"]
    plain, profiled = run_config(words), run_config([*words, "debug=profile"])
    assert (plain.profile, profiled.profile) == (0, 3)
    assert plain.cell == profiled.cell
