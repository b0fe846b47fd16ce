"""What the training loop costs beside a bare loop over the same ready tensors: `python benchmarks/loop.py`.

Both train the same network on the same tensors with the same optimiser and schedule, in one process on one thread.
They take turns step by step: whenever the loop asks for a batch, the bare loop does a step first. CPU time is compared,
so that other processes do not matter, and medians of the differences are printed, of steps that write a line of the
curve apart, since those are one in twenty. Setting up and the one checkpoint at the end are left out: how often to save
is the user's choice.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.networks.genesis_unet import GenesisUNet
from harness.training.device import Numerics
from harness.training.loop import fit
from harness.training.objective import SegmentationLoss
from harness.training.optim import make_optimizer, make_scheduler
from harness.training.settings import Training

CPU = torch.device("cpu")
WARM_UP = 5  # steps that are not counted
OBJECTIVE = SegmentationLoss(Training(steps=1).loss, "softmax")


class TakingTurns:
    """A task whose batches are there already, and which lets the bare loop step between two steps of the other."""

    def __init__(self, network: nn.Module, settings: Training, patch: tuple[int, int, int]) -> None:
        image, label = torch.randn(2, 1, *patch), torch.randint(0, 8, (2, 1, *patch))
        self.batch = {"image": image.contiguous(memory_format=torch.channels_last_3d), "label": label}
        self.network = network
        self.optimizer = make_optimizer(settings.optimizer, network)
        self.scheduler = make_scheduler(settings.schedule, self.optimizer, settings.steps)
        self.ours: list[float] = []  # CPU milliseconds of every step but the last, whose end nobody asks for
        self.bare: list[float] = []

    def batches(self, start: int, stop: int) -> Iterator[Mapping[str, Tensor]]:
        begin = None
        for _ in range(start, stop):
            now = time.process_time()
            if begin is not None:
                self.ours.append(1000 * (now - begin))
            begin = time.process_time()
            self.bare_step()
            self.bare.append(1000 * (time.process_time() - begin))
            begin = time.process_time()
            yield self.batch

    def bare_step(self) -> None:
        loss = OBJECTIVE(self.network(self.batch["image"]), self.batch["label"])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return OBJECTIVE(network(batch["image"]), batch["label"])

    def validate(self, network: nn.Module) -> float:
        raise AssertionError("not selected by validation")


def measure(name: str, width: int, patch: tuple[int, int, int], steps: int) -> None:
    settings = Training(steps=steps, checkpoint_every=10 * steps)
    numerics = Numerics(settings, CPU)
    ours, bare = (numerics.place(GenesisUNet(1, 8, width, "running").train()) for _ in range(2))
    task = TakingTurns(bare, settings, patch)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        fit(ours, task, settings, Path(folder), Path(folder) / "log.jsonl", numerics)
    pairs = list(enumerate(zip(task.ours, task.bare, strict=False), start=1))[WARM_UP:]
    plain = [one - other for step, (one, other) in pairs if step % settings.log_every]
    logged = [one - other for step, (one, other) in pairs if not step % settings.log_every]
    ordinary, with_line = statistics.median(plain), statistics.median(logged)
    overhead = ordinary + (with_line - ordinary) / settings.log_every
    step = statistics.median(task.bare[WARM_UP:])
    print(
        f"{name:<27} bare step {step:8.2f} ms   overhead {overhead:+.3f} ms a step ({overhead / step:+.2%}; ordinary "
        f"{ordinary:+.3f}, with a line of the curve {with_line:+.3f})",
        flush=True,
    )


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, CPU time, medians over pairs of steps that take turns", flush=True)
    measure("tiny: width 2, 8x8x8", 2, (8, 8, 8), steps=241)
    measure("small: width 2, 16x16x16", 2, (16, 16, 16), steps=121)
    measure("demo: width 8, 32x32x32", 8, (32, 32, 32), steps=24)


if __name__ == "__main__":
    main()
