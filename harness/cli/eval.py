"""``harness eval``: released fine-tuned weights, scored as they are, with zero steps of training."""

from __future__ import annotations

import argparse

from harness.cli.run import add_config_arguments, overrides_of
from harness.cli.sweep import run_cells

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser, "model=swin_unetr.brats21 dataset=brats2021 protocol=swin_unetr_brats21 fold=all …")
    parser.add_argument("--json", action="store_true", help="machine-readable report")


def execute(arguments: argparse.Namespace) -> int:
    """Score every fold that has no record yet."""
    from harness.sweep.released import released_cells

    return run_cells(released_cells(overrides_of(arguments), arguments.config_dir), arguments)
