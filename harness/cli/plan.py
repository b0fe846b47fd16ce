"""``harness plan``: what a run, a sweep or a pretraining would do and take; runs nothing."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from harness.cli.run import add_config_arguments, overrides_of

if TYPE_CHECKING:
    from harness.plan import Plan
    from harness.plan.planning import Download
    from harness.plan.seeds import Seeds

__all__ = ["configure", "execute", "spell_plan"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(
        parser,
        "as for `harness sweep`: model=… dataset=… init=pretrained,scratch seed=0,1,2 …; "
        "or as for `harness pretrain`: recipe=…",
    )
    parser.add_argument("--without-twins", action="store_true", help="do not add the twins from scratch")
    parser.add_argument("--calibrate", action="store_true", help="time a few steps on the device, to say hours")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def execute(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    from harness.plan import plan, plan_pretraining
    from harness.sweep import expand

    overrides = overrides_of(arguments)
    if any(override.lstrip("+~").startswith("recipe") for override in overrides):
        from harness.config import pretrain_config

        made = plan_pretraining(pretrain_config(overrides, arguments.config_dir), calibrated=arguments.calibrate)
    else:
        cells = expand(overrides, arguments.config_dir, twins=not arguments.without_twins)
        made = plan(cells, calibrated=arguments.calibrate)
    if arguments.json:
        sys.stdout.write(json.dumps(made.to_json(), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(spell_plan(made))
    return 0


def spell_plan(made: Plan) -> str:
    """Put a plan into lines for people."""
    states: dict[str, int] = {}
    for cell in made.cells:
        states[cell.state] = states.get(cell.state, 0) + 1
    to_do = [cell for cell in made.cells if cell.state != "complete"]
    steps, samples = (sum(getattr(cell, name) for cell in to_do) for name in ("steps", "samples"))
    lines = [
        f"cells      {len(made.cells)} ({', '.join(f'{count} {state}' for state, count in states.items())})",
        f"to do      {steps:,} steps, {samples:,} samples",
        f"hours      {_hours(made)}",
        f"device     {made.machine.device}, {_gb(made.machine.memory_bytes)} memory; "
        f"{_gb(made.machine.disk_free_bytes)} disk free",
    ]
    for recipe in made.recipes:
        lines += [
            "",
            f"{recipe.model} on {recipe.dataset}, {recipe.protocol}, init={recipe.init}: {recipe.cells} cells",
        ]
        if recipe.footprint:
            cost = recipe.footprint
            lines += [
                f"  network  {cost.parameters:,} parameters ({cost.trainable:,} learn), "
                f"{cost.flops_per_step / 1e9:,.0f} GFLOP a step",
                f"  memory   {_gb(cost.train_bytes)} training, {_gb(cost.infer_bytes)} per batch of windows "
                "(predicted; allocator and cuDNN come on top)",
            ]
        else:
            lines.append(f"  network  {'unknown (see below)' if recipe.problem else 'no network: nothing is trained'}")
        lines.append(
            f"  disk     checkpoints {_gb(recipe.checkpoint_bytes)} a cell, prepared data {_gb(recipe.prepared_bytes)}"
        )
        if recipe.calibration:
            timed = recipe.calibration
            peak = f", peak {timed.peak_gib:.2f} GiB measured" if timed.peak_gib is not None else ""
            lines.append(f"  timed    {timed.seconds_per_step:.3f} s a step on {timed.device}{peak}")
        if recipe.seeds:
            lines.append(f"  seeds    {_seeds(recipe.seeds)}")
    lines += ["", "downloads"]
    lines += [f"  {'here   ' if one.is_here else 'missing'}  {one.what}{_size(one)}" for one in made.downloads]
    lines += ["", "missing on this machine" if made.missing else "nothing is missing on this machine"]
    return "\n".join([*lines, *(f"  {line}" for line in made.missing), ""])


def _hours(made: Plan) -> str:
    if made.hours is None:
        return "unknown; --calibrate times a few steps on the device"
    return f"{made.hours:.2f} of training, one cell after the other; reading, prediction and scoring are not in it"


def _seeds(seeds: Seeds) -> str:
    margin, spread = seeds.margin, seeds.spread
    if spread is not None:
        needed = seeds.needed or "more than 100"
        return f"{needed} for a verdict within {margin:g}, since those that ran differ by {spread:.4f}"
    table = ", ".join(f"{n or '>100'} if they differ by {s}" for s, n in seeds.assumed.items())
    return f"for a verdict within {margin:g}: {table} (standard deviation; none has run yet)"


def _size(one: Download) -> str:
    return "" if one.is_here else f"  {_gb(one.bytes)}"


def _gb(value: int | None) -> str:
    return "unknown" if value is None else f"{value / 1e9:.2f} GB"
