"""The checks. Each compares what the device does with what it must, and says both numbers."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import backward

from harness.adapters.conformance_forge import outputs, volume
from harness.checkpoints.hashing import state_sha256
from harness.errors import HarnessError
from harness.footprint import footprint, static_bytes
from harness.inference.settings import Inference
from harness.inference.sliding_window import predict_labels
from harness.plan.calibrate import calibrate
from harness.progress import say
from harness.selftest.bench import CLASSES, Bench
from harness.training.device import Numerics, use_determinism
from harness.training.interruption import InterruptedRunError
from harness.training.loop import fit

__all__ = ["CHECKS", "Check", "selftest", "to_json"]

State = Literal["passed", "failed", "not applicable"]

_PARITY = 1e-4  # largest difference relative to the largest output: float32 sums in another order
_TF32 = 2e-2  # ten bits of mantissa through a network of some twenty layers
_HALF = 5e-2  # of the loss after a few steps
_MEMORY = (0.7, 1.3)  # predicted over measured: cuDNN and oneDNN take scratch memory that no tensor shows
_VERY_SLOW = 1800.0
_PATIENCE = 10.0  # CPU seconds of one step in bfloat16; a tenth of a second where the CPU has instructions for it


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes
    ----------
    name : str
        What was checked.
    state : {"passed", "failed", "not applicable"}
        On a CPU some have no meaning; ``found`` says why.
    found : str
        What was measured.
    limit : str
        What it had to be; empty where a figure is only reported.
    seconds : float
        How long it took.
    """

    name: str
    state: State
    found: str
    limit: str = ""
    seconds: float = 0.0


def parity(bench: Bench) -> Check:
    """Load a forged file: it answers on the device as the network it was made of does on the CPU."""
    given = volume(1, bench.published.published_patch)
    with torch.no_grad(), _tf32(False):
        expected = _answer(bench.published.donor.eval(), given)
        loaded = bench.published.published(bench.published.file).network.eval().to(bench.device)
        difference = _relative(_answer(loaded, given.to(bench.device)).cpu(), expected)
    return _limited("parity", difference, _PARITY)


def tf32(bench: Bench) -> Check:
    """Do the same with TensorFloat-32 on: how much precision it costs on this device."""
    if not bench.on_cuda:
        return Check("tf32", "not applicable", "a CPU has no TensorFloat-32")
    given = volume(1, bench.published.published_patch)
    network = bench.published.published(bench.published.file).network.eval().to(bench.device)
    with torch.no_grad():
        with _tf32(False):
            exact = _answer(network, given.to(bench.device))
        with _tf32(True):
            difference = _relative(_answer(network, given.to(bench.device)), exact)
    return _limited("tf32", difference, _TF32)


def mixed_precision(bench: Bench) -> Check:
    """Train in bfloat16, and on a GPU in float16, which follows the float32 loss."""
    spent = 0.0 if bench.on_cuda else _cpu_seconds_of_a_step(bench, "bf16")
    if spent > _PATIENCE:
        found = f"one step in bfloat16 takes {spent:.0f} CPU seconds: this CPU has no instructions for it, use amp=off"
        return Check("AMP (bf16)", "not applicable", found, f"at most {_PATIENCE:g} s")
    exact = _last_loss(bench, "off")
    kinds = ("bf16", "fp16") if bench.on_cuda else ("bf16",)
    worst = max(abs(_last_loss(bench, kind) - exact) / abs(exact) for kind in kinds)
    return _limited(f"AMP ({', '.join(kinds)})", worst, _HALF)


def channels_last(bench: Bench) -> Check:
    """Change the memory format, which changes speed and nothing else."""
    protocol = bench.protocol(amp="off", channels_last=True)
    network = bench.fresh(protocol).network.eval().to(bench.device)
    given = volume(1, protocol.patches.size).to(bench.device)
    with torch.no_grad(), _tf32(False):
        plain = _answer(network, given)
        Numerics(protocol.training, bench.device).place(network)
        other = _answer(network, given.contiguous(memory_format=torch.channels_last_3d))
    return _limited("channels-last", _relative(other, plain), _PARITY)


def compiled(bench: Bench) -> Check:
    """Compile the network, which gives its own answer."""
    if not bench.on_cuda:
        return Check("compile", "not applicable", "on a CPU it takes minutes to compile and is not what runs use")
    protocol = bench.protocol()
    network = bench.fresh(protocol).network.eval().to(bench.device)
    given = volume(1, protocol.patches.size).to(bench.device)
    with torch.no_grad(), _tf32(False):
        plain = _answer(network, given)
        begin = time.perf_counter()
        fast: Any = torch.compile(network)
        difference = _relative(_answer(fast, given), plain)
    check = _limited("compile", difference, _PARITY)
    return Check(
        check.name, check.state, f"{check.found} ({time.perf_counter() - begin:.0f} s to compile)", check.limit
    )


def resume(bench: Bench) -> Check:
    """Train four steps in one go and two plus two: the weights are the same, bit by bit."""
    hashes = []
    for stops in ((4,), (2, 4)):
        with tempfile.TemporaryDirectory(dir=bench.folder) as name:
            for stop in stops:
                # the schedule is constant, so that a budget of two steps is the first half of one of four
                protocol = bench.protocol(steps=stop, schedule="{name: constant}")
                network = _train(bench, protocol, Path(name))
            hashes.append(state_sha256(network.state_dict()))
    same = hashes[0] == hashes[1]
    found = f"weights {hashes[0][:12]} in one go, {hashes[1][:12]} resumed"
    return Check("resume", "passed" if same else "failed", found, "the same hash")


def memory(bench: Bench) -> Check:
    """Measure the peak of a real step, which lies where `harness plan` predicts it."""
    protocol = bench.protocol(amp="off")
    predicted = footprint(bench.card, 1, CLASSES, protocol)
    network = bench.fresh(protocol).network.to(bench.device)
    work = bench.work(protocol)
    (batch,) = work.batches(0, 1)
    moved = Numerics(protocol.training, bench.device).move(batch)
    backward(work.loss(network, moved))  # kernels are chosen, and choosing takes memory of its own
    network.zero_grad(set_to_none=True)
    measured = bench.peak_bytes(lambda: backward(work.loss(network, moved))) + static_bytes(network, protocol)
    ratio = predicted.train_bytes / measured
    found = f"{predicted.train_bytes / 2**20:.1f} MiB predicted, {measured / 2**20:.1f} MiB measured, ratio {ratio:.2f}"
    low, high = _MEMORY
    return Check("memory against plan", "passed" if low < ratio < high else "failed", found, f"ratio {low} to {high}")


def throughput(bench: Bench) -> Check:
    """Time training samples and predicted voxels; a figure, not a verdict."""
    protocol = bench.protocol(amp="bf16" if bench.on_cuda else "off")
    timed = calibrate(bench.card, 1, CLASSES, protocol, str(bench.device))
    samples = protocol.patches.batch / timed.seconds_per_step
    network = bench.fresh(protocol).network.eval().to(bench.device)
    side = 96 if bench.on_cuda else 48
    scan, settings = torch.rand(1, side, side, side), Inference()
    predict_labels(network, scan, settings, protocol.patches.size, bench.device)  # compiles the kernels
    begin = time.perf_counter()
    predict_labels(network, scan, settings, protocol.patches.size, bench.device)
    voxels = side**3 / (time.perf_counter() - begin)
    ok = math.isfinite(samples) and samples > 0
    found = f"{samples:.1f} training samples/s, {voxels / 1e6:.2f} million predicted voxels/s"
    return Check("throughput", "passed" if ok else "failed", found)


def two_ranks(bench: Bench) -> Check:
    """Let two processes of torchrun train together; they end with one set of weights."""
    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    enough = bench.on_cuda and torch.cuda.device_count() >= 2
    device = "cuda" if enough else "cpu"
    command = [*ranks, "-m", "harness.selftest.ranks", device, bench.card.id]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter on our own module
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=_VERY_SLOW, check=False
        )
    except subprocess.TimeoutExpired:
        return Check("two ranks", "failed", f"no end after {_VERY_SLOW:.0f} s", "ends")
    hashes = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("weights ")]
    same = done.returncode == 0 and len(hashes) == 2 and len(set(hashes)) == 1
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    found = f"on {device}: {', '.join(h[:12] for h in hashes) or last[:200]}"
    return Check("two ranks", "passed" if same else "failed", found, "the same weights on both")


CHECKS: dict[str, Callable[[Bench], Check]] = {
    "parity": parity,
    "tf32": tf32,
    "amp": mixed_precision,
    "channels_last": channels_last,
    "compile": compiled,
    "resume": resume,
    "memory": memory,
    "throughput": throughput,
    "ranks": two_ranks,
}


def selftest(device: str = "auto", only: Sequence[str] = (), model: str = "models_genesis.narrow8") -> list[Check]:
    """Run the checks on a device; one that breaks is a failed check and does not keep the others from running.

    Parameters
    ----------
    device : str
        auto, cpu, cuda or cuda:N.
    only : sequence of str
        Names of `CHECKS`; all by default.
    model : str
        A card to test with; the package's own narrow network by default.

    Raises
    ------
    UserError
        There is no such device, model or check.
    """
    from harness.errors import unknown_name

    for name in only:
        if name not in CHECKS:
            raise unknown_name("check", name, CHECKS)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, Path(folder), model)
        for name in only or CHECKS:
            say(f"{name} …")
            begin = time.perf_counter()
            try:
                check = CHECKS[name](bench)
            except InterruptedRunError:  # somebody asked the whole test to stop
                raise
            except (RuntimeError, HarnessError, AssertionError, OSError) as error:
                said = " ".join(str(error).split())[:400]
                check = Check(name, "failed", f"{type(error).__name__}: {said}")
            found.append(Check(check.name, check.state, check.found, check.limit, time.perf_counter() - begin))
    return found


def to_json(checks: Sequence[Check], device: str) -> dict[str, Any]:
    """Return plain values with the environment, to attach to an issue; names and paths of the machine are not in it."""
    from harness.records.environment import describe
    from harness.training.device import choose_device

    about = describe(str(choose_device(device)))
    return {
        "device": str(choose_device(device)),
        "passed": all(check.state != "failed" for check in checks),
        "checks": [asdict(check) for check in checks],
        "harness": about.harness.model_dump(mode="json"),
        "env": about.env.model_dump(mode="json"),
        "hardware": about.hardware.model_dump(mode="json"),
    }


def _train(bench: Bench, protocol: Any, folder: Path) -> nn.Module:
    use_determinism(protocol.training.deterministic, bench.device)
    built = bench.fresh(protocol)
    numerics = Numerics(protocol.training, bench.device)
    fit(built.network, bench.work(protocol), protocol.training, folder / "state", folder / "log.jsonl", numerics)
    return built.network


def _last_loss(bench: Bench, amp: str) -> float:
    protocol = bench.protocol(amp=amp)
    with tempfile.TemporaryDirectory(dir=bench.folder) as name:
        network = _train(bench, protocol, Path(name)).train()
        work, numerics = bench.work(protocol), Numerics(protocol.training, bench.device)
        with torch.no_grad(), numerics.autocast():
            return float(work.loss(network, numerics.move(next(work.batches(9, 10)))))


def _cpu_seconds_of_a_step(bench: Bench, amp: str) -> float:
    protocol = bench.protocol(amp=amp)
    network, work = bench.fresh(protocol).network.train(), bench.work(protocol)
    numerics = Numerics(protocol.training, bench.device)
    (batch,) = work.batches(0, 1)
    begin = time.process_time()
    with numerics.autocast():
        loss = work.loss(network, numerics.move(batch))
    backward(loss)
    return time.process_time() - begin


def _answer(network: nn.Module, given: Tensor) -> Tensor:
    return outputs(network, given)[0].float()


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def _limited(name: str, difference: float, limit: float) -> Check:
    state: State = "passed" if difference <= limit else "failed"  # NaN is not below a limit
    return Check(name, state, f"relative difference {difference:.2e}", f"at most {limit:g}")


@contextlib.contextmanager
def _tf32(wanted: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = wanted
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
