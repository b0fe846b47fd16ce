"""What the benchmarks that train whole matrices share: places, one cell, and one line of a table.

Cells are ordinary runs: `harness.run.run` skips what has a record and goes on with what was killed.
"""

from __future__ import annotations

import argparse
import platform
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev

import torch

from harness.config import pretrain_config, run_config
from harness.pretrain import pretrain
from harness.records.comparison import Run
from harness.records.identity import record_path
from harness.records.schema import Metric
from harness.records.store import load
from harness.run import run

DICE = "dice.hard.native.v1"


def parser(about: str | None, out: str, steps: int, pretrain_steps: int) -> argparse.ArgumentParser:
    """Return the arguments that every matrix takes."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=Path(out))
    made.add_argument("--steps", type=int, default=steps, help="of every fine-tuning")
    made.add_argument("--pretrain-steps", type=int, default=pretrain_steps)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--set", nargs="*", default=[], help="overrides of every fine-tuning")
    made.add_argument("--records", type=Path, help="copy the records of complete cells here")
    return made


def places(arguments: argparse.Namespace) -> list[str]:
    out = arguments.out.resolve()
    return [f"out='{out / 'runs'}'", f"cache='{out / 'cache'}'"]


def pretrained(overrides: Sequence[str], arguments: argparse.Namespace) -> Path:
    """Pretrain, or find it done; return the folder of the card."""
    config = pretrain_config([*overrides, f"training.steps={arguments.pretrain_steps}", *places(arguments)])
    pretrain(config)
    return config.out / config.cell / "weights"


def cell(overrides: Sequence[str], cards: Path | None, arguments: argparse.Namespace) -> Run:
    """Execute one cell, or find it done; copy its record where ``--records`` says."""
    known = [] if cards is None else [f"cards=['{cards.resolve()}']"]
    folder = run(
        run_config(
            [
                *overrides,
                f"protocol.training.steps={arguments.steps}",
                *arguments.set,
                *known,
                *places(arguments),
            ]
        )
    )
    done = Run(load(folder), folder)
    if arguments.records:
        shutil.copytree(folder, arguments.records / record_path(done.record), dirs_exist_ok=True)
    return done


def dice(one: Run) -> Metric:
    return next(metric for metric in one.record.metrics if metric.id == DICE)


def line(label: Sequence[object], runs: Sequence[Run], classes: Sequence[str] = ()) -> str:
    """Return one row: label, seeds, mean, spread over seeds, mean of the classes, hours of wall clock."""
    values = [value for one in runs if (value := dice(one).value) is not None]
    spread = f"{stdev(values):.4f}" if len(values) > 1 else "-"
    parts = [mean(dice(one).per_class[name].value or 0.0 for one in runs) for name in classes]
    hours = sum(sum((one.record.cost.wall or {}).values()) for one in runs) / 3600
    cells = [*label, len(runs), f"{mean(values):.4f}", spread, *(f"{value:.4f}" for value in parts), f"{hours:.2f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def provenance(command: str, arguments: argparse.Namespace, seconds: float) -> str:
    """Return the line that says when, how and where."""
    overrides = " --set " + " ".join(arguments.set) if arguments.set else ""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; `{command} --steps {arguments.steps} --pretrain-steps "
        f"{arguments.pretrain_steps} --seeds {arguments.seeds}{overrides}`; {platform.machine()}, torch "
        f"{torch.__version__}, {torch.get_num_threads()} threads; {seconds / 3600:.2f} h of this call. Hours are wall."
    )


def progress(done: int, planned: int) -> str:
    return f"{done} of {planned} cells are done." + ("" if done == planned else " The others were not run yet.")
