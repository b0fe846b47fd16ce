"""The loop on a task small enough to see through: it learns, it resumes exactly, it stops when it diverges."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.checkpoints.hashing import state_sha256
from harness.errors import HarnessError, UserError
from harness.training.device import Numerics, seed_everything
from harness.training.guard import OutOfMemoryError
from harness.training.interruption import InterruptedRunError
from harness.training.loop import DivergedError, Outcome, fit
from harness.training.settings import Optimizer, Selection, Training
from harness.training.state import load_latest, read_state

CPU = torch.device("cpu")


class Line:
    """Fit y = 2x from batches that depend on the step alone; drop-out makes the global generator matter too."""

    def __init__(self, stop_at: int | None = None, poison: int | None = None) -> None:
        self.stop_at, self.poison, self.scores = stop_at, poison, iter([0.5, 0.9, 0.9, 0.1, 0.2, 0.3])

    def batches(self, start: int, stop: int) -> Iterator[Mapping[str, Tensor]]:
        for step in range(start, stop):
            if step == self.stop_at:
                raise KeyboardInterrupt
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            yield {"x": x, "y": 2 * x.sum(1, keepdim=True) * (float("nan") if step == self.poison else 1)}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return ((network(batch["x"]) - batch["y"]) ** 2).mean()

    def validate(self, network: nn.Module) -> float:
        assert isinstance(network, nn.Module)
        return next(self.scores)


def train(
    folder: Path, task: Line | None = None, middle: nn.Module | None = None, **settings: object
) -> tuple[nn.Module, Outcome]:
    chosen = Training.model_validate(
        {"steps": 12, "checkpoint_every": 4, "log_every": 2, "optimizer": Optimizer(lr=0.05), **settings}
    )
    seed_everything(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), middle or nn.ReLU(), nn.Linear(16, 1))
    folder.mkdir(exist_ok=True)
    outcome = fit(network, task or Line(), chosen, folder, folder / "log.jsonl", Numerics(chosen, CPU))
    return network, outcome


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_it_learns_and_logs_the_curve(tmp_path: Path) -> None:
    _, outcome = train(tmp_path, steps=60)
    losses = [line["loss"] for line in lines(tmp_path)]
    assert len(losses) == 30
    assert losses[-1] < losses[0] / 5  # type: ignore[operator]
    assert outcome.steps == outcome.selected_step == 60
    assert outcome.resumed == 0
    assert outcome.seconds["train"] > 0


@pytest.mark.parametrize("stop_at", [1, 4, 7, 11])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_interrupted_run_ends_like_an_undisturbed_one(tmp_path: Path, stop_at: int, optimizer: str) -> None:
    chosen = {"optimizer": Optimizer(name=optimizer, lr=0.01)}  # type: ignore[arg-type]
    whole, _ = train(tmp_path / "whole", **chosen)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", Line(stop_at=stop_at), **chosen)
    torch.manual_seed(99)  # whatever happened in between must not matter
    again, outcome = train(tmp_path / "cut", **chosen)
    assert state_sha256(again.state_dict()) == state_sha256(whole.state_dict())
    assert outcome.resumed == (1 if stop_at >= 4 else 0)
    strip = [{k: v for k, v in line.items() if k != "seconds"} for line in lines(tmp_path / "cut")]
    assert strip == [{k: v for k, v in line.items() if k != "seconds"} for line in lines(tmp_path / "whole")]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    whole, _ = train(tmp_path)
    again, outcome = train(tmp_path, Line(stop_at=0))
    assert state_sha256(again.state_dict()) == state_sha256(whole.state_dict())
    assert outcome.steps == 12


def test_best_val_keeps_the_first_of_the_best(tmp_path: Path) -> None:
    chosen = Selection(rule="best_val", every=2)
    network, outcome = train(tmp_path, selection=chosen)
    assert (outcome.selected_step, outcome.best_score) == (4, 0.9)
    short, _ = train(tmp_path / "short", steps=12, selection=Selection(rule="last"))
    assert state_sha256(network.state_dict()) != state_sha256(short.state_dict())
    assert [line["step"] for line in lines(tmp_path) if "metric" in line] == [2, 4, 6, 8, 10, 12]


def test_a_loss_that_is_no_number_stops_the_run_and_spares_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="at step 7; 8 values of the batch itself are not finite"):
        train(tmp_path, Line(poison=6))
    assert lines(tmp_path)[-1]["loss"] is None
    kept = read_state(tmp_path / "diverged-step-7.pt")
    (batch,) = Line(poison=6).batches(6, 7)
    assert torch.equal(kept["batch"]["x"], batch["x"])
    assert kept["batch"]["y"].isnan().all()
    state = load_latest(tmp_path)
    assert state is not None
    assert state["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in state["network"].values())


def test_clipping_bounds_the_update(tmp_path: Path) -> None:
    free, _ = train(tmp_path / "free", steps=1, optimizer=Optimizer(name="sgd", lr=1, momentum=0, weight_decay=0))
    clipped, _ = train(
        tmp_path / "clipped",
        steps=1,
        clip_norm=1e-3,
        optimizer=Optimizer(name="sgd", lr=1, momentum=0, weight_decay=0),
    )
    seed_everything(0)
    start = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 1))

    def moved(network: nn.Module) -> float:
        pairs = zip(network.parameters(), start.parameters(), strict=True)
        return sum(((a - b) ** 2).sum().item() for a, b in pairs) ** 0.5

    assert moved(clipped) == pytest.approx(1e-3, rel=1e-3)
    assert moved(free) > 0.1


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_resumes_exactly_with_its_scaler(tmp_path: Path, amp: str) -> None:
    whole, outcome = train(tmp_path / "whole", amp=amp)
    assert outcome.steps == 12
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", Line(stop_at=6), amp=amp)
    again, _ = train(tmp_path / "cut", amp=amp)
    assert state_sha256(again.state_dict()) == state_sha256(whole.state_dict())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
def test_a_compiled_run_says_where_its_graph_breaks_and_resumes_exactly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "simdlen", 1)  # vector code takes g++ several times as long

    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return x.relu()

    report = r"torch\.compile: \d+ graphs, [1-9]\d* graph breaks \(.*torch._dynamo.graph_break"

    def compiled(folder: Path, task: Line) -> nn.Module:
        torch._dynamo.reset()  # as a new process: nothing is compiled yet
        return train(folder, task, middle=Breaks(), compile=True)[0]

    whole = compiled(tmp_path / "whole", Line())
    assert len(re.findall(report, capsys.readouterr().err)) == 1
    losses = [float(str(line["loss"])) for line in lines(tmp_path / "whole")]
    assert losses[-1] < losses[0]
    with pytest.raises(KeyboardInterrupt):
        compiled(tmp_path / "cut", Line(stop_at=6))
    again = compiled(tmp_path / "cut", Line())
    said = capsys.readouterr().err
    assert len(re.findall(report, said)) == 2
    assert "resuming at step 4 of 12" in said
    assert state_sha256(again.state_dict()) == state_sha256(whole.state_dict())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
def test_a_compiler_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch._dynamo.reset()
    with pytest.raises(HarnessError, match=r"torch.compile failed: .*protocol.training.compile=false"):
        train(tmp_path, compile=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_later(tmp_path: Path, number: signal.Signals) -> None:
    class Asked(Line):
        def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
            if torch.equal(batch["x"], next(iter(self.batches(5, 6)))["x"]):
                os.kill(os.getpid(), number)
            return super().loss(network, batch)

    whole, _ = train(tmp_path / "whole", ema=0.9)
    before = signal.getsignal(number)
    with pytest.raises(InterruptedRunError, match=f"{number.name}.* at step 6 of 12") as caught:
        train(tmp_path / "asked", Asked(), ema=0.9)
    assert (caught.value.exit_code, caught.value.run_state) == (75, "interrupted")
    assert signal.getsignal(number) == before
    state = load_latest(tmp_path / "asked")
    assert state is not None
    assert state["step"] == 6
    again, outcome = train(tmp_path / "asked", ema=0.9)
    assert outcome.resumed == 1
    assert state_sha256(again.state_dict()) == state_sha256(whole.state_dict())


def test_too_little_memory_names_what_needs_less(tmp_path: Path) -> None:
    class Greedy(Line):
        def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
            return torch.empty(2**50).sum()

    with pytest.raises(
        OutOfMemoryError, match=r"activation_checkpointing=true.*accumulate=4.*amp=bf16.*patches\.batch"
    ):
        train(tmp_path, Greedy(), accumulate=2)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_batch_in_parts_gives_the_same_update(tmp_path: Path, optimizer: str) -> None:
    chosen = {"steps": 1, "optimizer": Optimizer(name=optimizer, lr=0.1)}  # type: ignore[arg-type]

    class Plain(Line):
        def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
            network.eval()  # drop-out would draw other numbers for parts
            return super().loss(network, batch)

    whole, first = train(tmp_path / "whole", Plain(), **chosen)
    parts, second = train(tmp_path / "parts", Plain(), accumulate=4, **chosen)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert first.samples == second.samples == 8
    assert lines(tmp_path / "whole")[0]["loss"] == pytest.approx(lines(tmp_path / "parts")[0]["loss"], rel=1e-6)


def test_a_batch_that_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A batch of 8 samples cannot be worked through in 3 equal parts"):
        train(tmp_path, accumulate=3)


def test_the_average_of_the_weights_is_what_is_scored_and_kept(tmp_path: Path) -> None:
    seen = []

    class Watched(Line):
        def validate(self, network: nn.Module) -> float:
            seen.append(network[0].weight[0, 0].item())  # type: ignore[index]
            return super().validate(network)

    chosen = {"optimizer": Optimizer(name="sgd", lr=0.01, momentum=0, weight_decay=0), "schedule": {"name": "constant"}}
    states = []
    for steps in range(5):
        torch.manual_seed(0)
        network, _ = train(tmp_path / str(steps), steps=max(steps, 1), **chosen)
        states.append(network[0].weight[0, 0].item())  # type: ignore[index]
    seed_everything(0)
    mean = nn.Linear(4, 16).weight[0, 0].item()
    for number, weight in enumerate(states[1:], start=1):
        decay = min(0.3, (1 + number) / (10 + number))
        mean = decay * mean + (1 - decay) * weight
    averaged, _ = train(tmp_path / "averaged", steps=4, ema=0.3, **chosen)
    assert averaged[0].weight[0, 0].item() == pytest.approx(mean, rel=1e-5)  # type: ignore[index]
    train(tmp_path / "scored", Watched(), steps=4, ema=0.3, selection=Selection(rule="best_val", every=4), **chosen)
    assert seen == [pytest.approx(mean, rel=1e-5)]


def test_patience_ends_the_run_and_a_second_start_does_not_go_on(tmp_path: Path) -> None:
    chosen = {"selection": Selection(rule="best_val", every=1, patience=2), "checkpoint_every": 100}
    network, outcome = train(tmp_path, **chosen)  # scores 0.5, 0.9, 0.9, 0.1: two without a better one after step 2
    assert (outcome.steps, outcome.selected_step, outcome.stopped_early) == (4, 2, True)
    again, outcome = train(tmp_path, Line(stop_at=0), **chosen)
    assert (outcome.steps, outcome.stopped_early) == (4, True)
    assert state_sha256(again.state_dict()) == state_sha256(network.state_dict())


def test_scores_that_stop_rising_lower_the_rate_at_once(tmp_path: Path) -> None:
    schedule = {"name": "plateau", "patience": 1, "gamma": 0.1, "min_delta": 0}
    chosen = {"selection": Selection(rule="best_val", every=2), "log_every": 1, "schedule": schedule}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", Line(stop_at=9), **chosen)
    train(tmp_path, **chosen)
    rates = [line["lr"] for line in lines(tmp_path) if "lr" in line]
    # the rate in a line is that of the next update; the third score, at step 6, is no better than the second
    assert rates == pytest.approx([0.05] * 6 + [0.005] * 2 + [5e-4] * 2 + [5e-5] * 2)
