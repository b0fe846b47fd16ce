"""Runs jobs in several ranks each, as forks of one process, since importing torch takes longer than a job.

Every rank is a real process with the environment that torchrun gives it, and they talk through gloo. Reads a list of
jobs as JSON, writes the list of exit codes per rank and of seconds. With a job as its argument it is itself one rank,
started by torchrun, and dies as the job says in its first life only.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters.parts import Parts
from harness.cli import main
from harness.errors import HarnessError
from harness.training.device import Numerics, seed_everything
from harness.training.distributed import join
from harness.training.loop import fit
from harness.training.objective import SegmentationLoss
from harness.training.settings import Training

SLOW = (
    "harness.run",
    "torch._inductor",
    "torch._dynamo",
    "torch.distributed.nn",
    "scipy.stats",
    "harness.records.verify",
    "harness.cli.run",
    "hydra",
)


class Blobs:
    """Segment blobs: batches of four that depend on the step alone."""

    def __init__(self, settings: Training, rank: int, die_at: int | None, ask_at: int | None) -> None:
        self.objective, self.rank = SegmentationLoss(settings.loss, "softmax"), rank
        self.die_at, self.ask_at = die_at, ask_at
        self.steps = 0

    def batches(self, start: int, stop: int) -> Iterator[Mapping[str, Tensor]]:
        for step in range(start, stop):
            self.steps = step
            generator = torch.Generator().manual_seed(step)
            image = torch.randn(4, 1, 8, 8, 8, generator=generator)
            # samples differ in how much of each class they have, so a mean over samples is not one over the batch
            shift = torch.tensor([-1.0, 0.0, 0.5, 1.5])[:, None, None, None, None]
            yield {"image": image, "label": (image > shift).long() + (image > 1 + shift).long()}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        if self.die_at == self.steps and self.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.ask_at == self.steps and self.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        loss: Tensor = self.objective(network(batch["image"]), batch["label"])
        return loss

    def validate(self, network: nn.Module) -> float:
        raise AssertionError("not selected by validation")


def train(job: dict[str, Any]) -> int:
    folder = Path(job["folder"])
    settings = Training.model_validate(job["training"])
    with join("cpu") as world:
        seed_everything(0)
        norm = nn.BatchNorm3d(4) if job.get("batch_norm") else nn.InstanceNorm3d(4, affine=True)
        unused = nn.Linear(2, 2)
        network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), norm, nn.ReLU(), nn.Conv3d(4, 3, 1))
        network.register_module("head_of_another_task", unused)
        network.forward = lambda x: network[3](network[2](network[1](network[0](x))))  # type: ignore[method-assign]
        task = Blobs(settings, world.rank, job.get("die_at"), job.get("ask_at"))
        numerics = Numerics(settings, torch.device("cpu"))
        parts = Parts(("0.", "1."), output=r"^3\.")
        outcome = fit(network, task, settings, folder, folder / "log.jsonl", numerics, parts)
        done = {"state": network.state_dict(), "samples": outcome.samples, "ranks": outcome.ranks}
        torch.save({**done, "resumed": outcome.resumed}, folder / f"rank{world.rank}.pt")
    return 0


def work(job: dict[str, Any]) -> int:
    try:
        return main(job["arguments"]) if "arguments" in job else train(job)
    except HarnessError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def ranks(job: dict[str, Any]) -> dict[str, Any]:
    begin = time.monotonic()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(job["ranks"]):
        pid = os.fork()
        if pid == 0:
            signal.alarm(120)  # a rank that hangs is a failure with a code, and nothing that outlives the tests
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job["ranks"], "MASTER_PORT": port}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in place.items()}}
            os._exit(work(job))
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return {"codes": codes, "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        given = json.loads(sys.argv[1])
        if os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":
            given.pop("die_at")
        sys.exit(work(given))
    for module in SLOW:
        importlib.import_module(module)  # what a run imports on its way, once instead of in every fork
    sys.stdout.write(json.dumps([ranks(job) for job in json.loads(sys.stdin.read())]))
