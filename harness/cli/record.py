"""``harness record``: verify records, or show one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    verify = actions.add_parser("verify", help="recompute what records claim; exit 1 if anything does not hold")
    verify.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="record folders, runs, or folders of them")
    verify.add_argument("--rescore", action="store_true", help="score the kept predictions again")
    verify.add_argument("--full", action="store_true", help="recompute every interval instead of a sample")
    show = actions.add_parser("show", help="print a record")
    show.add_argument("paths", type=Path, nargs="+", metavar="PATH")


def execute(arguments: argparse.Namespace) -> int:
    """Run the action."""
    if arguments.action == "show":
        return _show(arguments.paths)
    return _verify(arguments)
