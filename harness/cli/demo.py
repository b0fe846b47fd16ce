"""``harness demo``: the whole line on the bundled real volumes, ending in a board."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything it makes (default: demo)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="more overrides for the fine-tuning runs")


def execute(arguments: argparse.Namespace) -> int:
    """Run it and say what to try next."""
    from harness.demo import demo

    made = demo(arguments.out, arguments.seed, tuple(arguments.overrides))
    sys.stdout.write(
        f"\nThe board: open {made.board}\n"
        "Demo weights, bundled sample: not a reproduction of anything.\n\n"
        "Three commands to try next:\n"
        f"  harness record verify --rescore --cards {made.cards} {made.out / 'runs'}\n"
        "  harness run model=models_genesis.narrow8 dataset=ct_headneck_oar init=scratch seed=1\n"
        "  harness list claims\n"
    )
    return 0
