"""``harness leaderboard``: build the board, a folder of static files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    build = actions.add_parser("build", help="write the board")
    build.add_argument("runs", type=Path, nargs="*", default=[Path("runs")], help="folders with runs (default: runs)")
    build.add_argument("--out", type=Path, default=Path("results/board"), help="where the board goes")


def execute(arguments: argparse.Namespace) -> int:
    """Build it and say where it is."""
    from harness.leaderboard import build

    sys.stdout.write(f"{build(arguments.runs, arguments.out)}\n")
    return 0
