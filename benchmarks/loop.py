"""What the training loop costs beside a bare loop over the same ready tensors: `python benchmarks/loop.py`.

Both train the same network on the same tensors with the same optimiser and schedule, interleaved in one process. The
loop's checkpoints are left out (one at the very end), since how often to save is the user's choice; its logging is in.
"""

from __future__ import annotations

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
ROUNDS = 7


class Ready:
    """Batches that are there already."""

    def __init__(self, patch: tuple[int, int, int]) -> None:
        image, label = torch.randn(2, 1, *patch), torch.randint(0, 8, (2, 1, *patch))
        self.batch = {"image": image.contiguous(memory_format=torch.channels_last_3d), "label": label}

    def batches(self, start: int, stop: int) -> Iterator[Mapping[str, Tensor]]:
        for _ in range(start, stop):
            yield self.batch

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return OBJECTIVE(network(batch["image"]), batch["label"])

    def validate(self, network: nn.Module) -> float:
        raise AssertionError("not selected by validation")


OBJECTIVE = SegmentationLoss(Training(steps=1).loss, "softmax")


def bare(network: nn.Module, task: Ready, settings: Training) -> None:
    optimizer = make_optimizer(settings.optimizer, network)
    scheduler = make_scheduler(settings.schedule, optimizer, settings.steps)
    for _ in range(settings.steps):
        loss = OBJECTIVE(network(task.batch["image"]), task.batch["label"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()


def seconds(work: object, *arguments: object) -> float:
    begin = time.perf_counter()
    work(*arguments)  # type: ignore[operator]
    return time.perf_counter() - begin


def measure(name: str, width: int, patch: tuple[int, int, int], steps: int) -> None:
    settings = Training(steps=steps, checkpoint_every=10 * steps)
    task, pairs = Ready(patch), []
    numerics = Numerics(settings, CPU)

    def ours(network: nn.Module) -> float:
        """Return the loop's own time: what it reports as training, without the one checkpoint at its end."""
        with tempfile.TemporaryDirectory() as folder:
            return fit(network, task, settings, Path(folder), Path(folder) / "log.jsonl", numerics).seconds["train"]

    for _ in range(ROUNDS):
        first, second = (numerics.place(GenesisUNet(1, 8, width, "running").train()) for _ in range(2))
        plain = seconds(bare, first, task, settings)
        pairs.append((ours(second) / steps, plain / steps))
    ratios = [ours_step / bare_step for ours_step, bare_step in pairs]
    overhead = [1000 * (ours_step - bare_step) for ours_step, bare_step in pairs]
    step = 1000 * statistics.median(bare_step for _, bare_step in pairs)
    print(
        f"{name:<28} bare step {step:8.2f} ms   ratio {statistics.median(ratios):.4f}   "
        f"overhead {statistics.median(overhead):+.3f} ms a step"
    )


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, median of {ROUNDS} interleaved rounds")
    measure("demo: width 8, 32x32x32", 8, (32, 32, 32), 25)
    measure("small: width 2, 16x16x16", 2, (16, 16, 16), 200)


if __name__ == "__main__":
    main()
