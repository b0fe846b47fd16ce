"""Where the time of a step goes: a trace for the eye, and one page of numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from harness.files import atomic_path, write_text
from harness.progress import say

__all__ = ["PARTS", "profiling", "span"]

# the parts of a step, in their order; everything the loop does lies in one of them or is its own overhead
PARTS = {
    "data": "waiting for the batch and moving it",
    "forward": "network and loss",
    "backward": "gradients",
    "update": "clipping, optimiser, schedule, average",
    "keeping": "log, validation, checkpoint",
}
_STEP = "ProfilerStep"
_WARM_UP = 2  # the first steps build caches, choose algorithms and compile


def span(part: str) -> contextlib.AbstractContextManager[Any]:
    """Mark a part of the step for whoever profiles; costs nothing where nobody does."""
    if not torch._C._autograd._profiler_enabled():
        return contextlib.nullcontext()
    return record_function(part)


@contextlib.contextmanager
def profiling(folder: Path | None, steps: int, device: torch.device) -> Iterator[Callable[[], None]]:
    """Profile ``steps`` steps after two to warm up; the block calls what it is given at the end of every step.

    Parameters
    ----------
    folder : Path or None
        Gets ``trace.json``, to be opened in a browser at ui.perfetto.dev, and ``summary.md``. None: nothing is done.
    steps : int
        How many to look at. Operations are recorded with their shapes, which makes steps somewhat slower.
    device : torch.device
        Where the network is.
    """
    if folder is None or steps <= 0:
        yield lambda: None
        return
    folder.mkdir(parents=True, exist_ok=True)

    def write(found: profile) -> None:
        with atomic_path(folder / "trace.json") as temporary:
            found.export_chrome_trace(str(temporary))
        write_text(folder / "summary.md", summary(found, steps, device))
        say(f"profile of {steps} steps: {folder / 'summary.md'}")

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(
        activities=activities,
        schedule=schedule(wait=0, warmup=_WARM_UP, active=steps, repeat=1),
        on_trace_ready=write,
        record_shapes=True,
        profile_memory=True,
        acc_events=True,
    ) as running:
        yield running.step


def summary(found: profile, steps: int, device: torch.device) -> str:
    """Return the page: what a step takes, its parts, and the operations that take most.

    Parameters
    ----------
    found : torch.profiler.profile
        After its active steps.
    steps : int
        How many there were.
    device : torch.device
        Where the network is; its time is that of kernels on CUDA.
    """
    averages = found.key_averages()
    by_name = {event.key: event for event in averages}
    whole = sum(event.cpu_time_total for event in averages if event.key.startswith(_STEP)) / 1e3 / steps
    lines = [
        "# Where a training step goes",
        "",
        f"{steps} steps on {device}, after {_WARM_UP} to warm up. Profiling itself slows steps down: read shares, and "
        "take absolute times from a run without it.",
        "",
        f"One step: **{whole:.2f} ms** of wall time.",
        "",
        "| part | ms a step | share | what it is |",
        "|---|---|---|---|",
    ]
    rest = whole
    for part, words in PARTS.items():
        spent = by_name[part].cpu_time_total / 1e3 / steps if part in by_name else 0.0
        rest -= spent
        lines.append(_row(part, spent, whole, words))
    lines.append(_row("rest", max(rest, 0.0), whole, "the loop itself, and the profiler"))
    on_cuda = device.type == "cuda"
    if on_cuda:
        lines += ["", "On CUDA the parts are what Python waited; kernels run behind it. Their times are below."]
    lines += ["", f"## Operations by their own {'kernel' if on_cuda else 'CPU'} time", ""]
    lines += ["| operation | calls a step | ms a step | share of operations |", "|---|---|---|---|"]
    operations = [e for e in averages if e.key not in PARTS and not e.key.startswith(_STEP)]

    def own(event: Any) -> float:
        return float(event.self_device_time_total if on_cuda else event.self_cpu_time_total)

    total = sum(map(own, operations)) or 1.0
    for event in sorted(operations, key=own, reverse=True)[:15]:
        share = f"{own(event) / total:.0%}"
        lines.append(f"| `{event.key}` | {event.count / steps:g} | {own(event) / 1e3 / steps:.2f} | {share} |")
    return "\n".join(lines) + "\n"


def _row(part: str, spent: float, whole: float, words: str) -> str:
    return f"| {part} | {spent:.2f} | {spent / whole if whole else 0.0:.0%} | {words} |"
