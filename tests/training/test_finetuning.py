"""Fine-tuning modes in the loop: exact resume in every one of them, rates that follow the mode, the record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from harness.adapters.parts import Parts
from harness.checkpoints.hashing import state_sha256
from harness.errors import UserError
from harness.recording.shared import schedule_words
from harness.training.device import Numerics, seed_everything
from harness.training.loop import Outcome, fit
from harness.training.settings import Training

PARTS = Parts(("0.", "1.", "2."), (r"^0\.", r"^1\."), r"^6\.")
MODES = {
    "full": {"encoder_lr_factor": 0.1, "stage_decay": 0.5},
    "frozen_encoder": {"mode": "frozen_encoder"},
    "linear_probe": {"mode": "linear_probe"},
    "sawtooth": {"mode": "sawtooth", "decoder_steps": 5},
    "lora": {"mode": "lora", "lora": {"rank": 2}},
}


class Blobs:
    """Regress the mean of a volume; the batch depends on the step alone, the scores on how often it validated."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.scores = stop_at, iter([0.1, 0.9, 0.3, 0.2])

    def batches(self, start: int, stop: int) -> Iterator[Mapping[str, Tensor]]:
        for step in range(start, stop):
            if step == self.stop_at:
                raise KeyboardInterrupt
            yield {"x": torch.randn(4, 1, 4, 4, 4, generator=torch.Generator().manual_seed(step))}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return (network(batch["x"]).mean((1, 2, 3, 4)) - 3 * batch["x"].mean((1, 2, 3, 4))).square().mean()

    def validate(self, network: nn.Module) -> float:
        network.eval()
        return next(self.scores)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.Dropout(0.3),
        nn.Conv3d(4, 4, 1),
        nn.BatchNorm3d(4),
        nn.Dropout(0.3),
        nn.Conv3d(4, 1, 1),
    )


def train(
    folder: Path, finetuning: Mapping[str, object], task: Blobs | None = None, **settings: object
) -> tuple[nn.Sequential, Outcome]:
    chosen = Training.model_validate(
        {"steps": 12, "checkpoint_every": 3, "log_every": 1, "finetuning": finetuning, **settings}
    )
    seed_everything(0)
    trained = network()
    folder.mkdir(exist_ok=True)
    log = folder / "log.jsonl"
    return trained, fit(trained, task or Blobs(), chosen, folder, log, Numerics(chosen, torch.device("cpu")), PARTS)


def start() -> dict[str, Tensor]:
    seed_everything(0)
    return network().state_dict()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stop_at", [4, 8])
def test_an_interrupted_run_ends_like_an_undisturbed_one(tmp_path: Path, mode: str, stop_at: int) -> None:
    whole, one = train(tmp_path / "whole", MODES[mode])
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", MODES[mode], Blobs(stop_at))
    again, other = train(tmp_path / "cut", MODES[mode])
    assert other.resumed == 1
    assert state_sha256(again.state_dict()) == state_sha256(whole.state_dict())
    assert one.trainable == other.trainable
    finished, _ = train(tmp_path / "cut", MODES[mode])  # nothing is left to do: the same network comes back
    assert state_sha256(finished.state_dict()) == state_sha256(whole.state_dict())


@pytest.mark.parametrize("mode", ["frozen_encoder", "linear_probe", "lora"])
def test_what_is_frozen_is_the_same_after_a_whole_run_with_validation(tmp_path: Path, mode: str) -> None:
    trained, outcome = train(tmp_path, MODES[mode], selection={"rule": "best_val", "every": 3})
    before, after = start(), trained.state_dict()
    assert after.keys() == before.keys()
    still = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(PARTS.encoder)} - ({"0.weight"} if mode == "lora" else set())
    assert frozen <= still
    assert "6.weight" not in still
    assert ("0.weight" in still) == (mode != "lora")
    assert outcome.selected_step == 6


def test_the_rate_rises_falls_back_and_rises_again_in_a_sawtooth(tmp_path: Path) -> None:
    schedule = {"name": "constant", "warmup_steps": 4}
    train(tmp_path, MODES["sawtooth"], schedule=schedule, optimizer={"lr": 1.0e-3})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = {line["step"]: line["lr"] / 1.0e-3 for line in lines}  # of the update after this one
    assert [rates[step] for step in range(1, 12)] == pytest.approx([0.4, 0.6, 0.8, 1, 0.25, 0.5, 0.75, 1, 1, 1, 1])


def test_the_moving_average_and_low_rank_updates_go_together(tmp_path: Path) -> None:
    trained, _ = train(tmp_path, MODES["lora"], ema=0.9)
    assert trained.state_dict().keys() == start().keys()
    assert not torch.equal(trained[0].weight, start()["0.weight"])


def test_contradictions_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="the encoder would never learn"):
        train(tmp_path, {"mode": "sawtooth", "decoder_steps": 12})
    with pytest.raises(ValidationError, match="sync_batch_norm replaces"):
        train(tmp_path, MODES["frozen_encoder"], sync_batch_norm=True)
    settings = Training.model_validate({"steps": 1, "finetuning": MODES["lora"]})
    with pytest.raises(UserError, match="acts on a model's encoder"):
        fit(network(), Blobs(), settings, tmp_path, tmp_path / "l", Numerics(settings, torch.device("cpu")))


def test_a_record_says_how_the_network_was_tuned() -> None:
    assert schedule_words(Training(steps=20)).endswith("final fraction 0")
    words = schedule_words(Training.model_validate({"steps": 20, "finetuning": MODES["sawtooth"]}))
    assert words.endswith("; decoder alone for 5 steps, then all")
