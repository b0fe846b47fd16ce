"""``harness eval``: released fine-tuned weights, scored as they are, with zero steps of training."""

from __future__ import annotations

import argparse
import json
import sys

from harness.cli.run import add_config_arguments, overrides_of
from harness.cli.sweep import sweep_table

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser, "model=swin_unetr.brats21 dataset=brats2021 protocol=swin_unetr_brats21 fold=all …")
    parser.add_argument("--json", action="store_true", help="machine-readable report")


def execute(arguments: argparse.Namespace) -> int:
    """Score every fold that has no record yet."""
    from harness.sweep import sweep
    from harness.sweep.released import released_cells

    cells = released_cells(overrides_of(arguments), arguments.config_dir)
    if arguments.cfg:
        sys.stdout.write("".join(f"{cell.name}\n" for cell in cells))
        return 0
    report = sweep(cells)
    if arguments.json:
        sys.stdout.write(json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(sweep_table([vars(row) for row in report.rows]))
    return 0 if report.is_complete else 1
