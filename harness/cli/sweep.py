"""``harness sweep``: many cells, here or on a cluster."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from harness.cli.run import add_config_arguments, overrides_of

if TYPE_CHECKING:
    from harness.sweep import Cell

__all__ = ["configure", "execute", "run_cells", "sweep_table"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    example = "model=… dataset=… init=pretrained,scratch seed=0,1,2 fold=all executor=local|slurm|ray executor.jobs=2 …"
    add_config_arguments(parser, example)
    parser.add_argument("--without-twins", action="store_true", help="do not add the twins from scratch")
    parser.add_argument("--json", action="store_true", help="machine-readable report")


def execute(arguments: argparse.Namespace) -> int:
    """Run the sweep and print what became of every cell.

    1 where one has no valid record at the end; 75 where that is only because cells were asked to stop.
    """
    from harness.sweep import expand

    return run_cells(
        expand(overrides_of(arguments), arguments.config_dir, twins=not arguments.without_twins), arguments
    )


def run_cells(cells: list[Cell], arguments: argparse.Namespace) -> int:
    """Run the cells, or name them with ``--cfg``, and print the report; return the exit code."""
    from harness.sweep import sweep

    if arguments.cfg:
        sys.stdout.write("".join(f"{cell.name}\n" for cell in cells))
        return 0
    report = sweep(cells)
    if arguments.json:
        sys.stdout.write(json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(sweep_table([vars(row) for row in report.rows]))
    return report.exit_code


def sweep_table(rows: list[dict[str, object]]) -> str:
    """Return the table of a report: what is not complete last, with its error below it."""
    done = [row for row in rows if row["state"] == "complete"]
    rest = [row for row in rows if row["state"] != "complete"]
    lines = [f"  complete  {row['cell']}{_seconds(row)}" for row in done]
    for row in rest:
        lines += [f"  {row['state']}  {row['cell']}{_seconds(row)}", f"      {row['error']}"]
    return "\n".join([*lines, f"{len(done)} of {len(rows)} cells are complete", ""])


def _seconds(row: dict[str, object]) -> str:
    return "" if row["seconds"] is None else f"  {row['seconds']:.0f} s"
