"""``harness leaderboard``: build the board, check it, or serve it while runs arrive."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    build = actions.add_parser("build", help="write the board")
    serve = actions.add_parser("serve", help="show the board in a browser of this machine; it follows the runs")
    check = actions.add_parser("check", help="look for broken links, unsafe or inaccessible pages; exit 1 if any")
    for action in (build, serve):
        action.add_argument(
            "runs", type=Path, nargs="*", default=[Path("runs")], help="folders with runs (default: runs)"
        )
    for action in (build, serve, check):
        action.add_argument("--out", type=Path, default=Path("results/board"), help="where the board is")
    serve.add_argument("--port", type=int, default=8000)


def execute(arguments: argparse.Namespace) -> int:
    """Run the action."""
    if arguments.action == "check":
        return _check(arguments.out)
    if arguments.action == "serve":
        from harness.leaderboard.serve import serve

        serve(arguments.runs, arguments.out, arguments.port)
        return 0
    from harness.leaderboard import build

    sys.stdout.write(f"{build(arguments.runs, arguments.out)}\n")
    return 0


def _check(out: Path) -> int:
    from harness.leaderboard.check import check

    faults = check(out)
    sys.stdout.writelines(f"{fault.page}: {fault.what}\n" for fault in faults)
    sys.stdout.write(f"{len(faults)} faults\n" if faults else "no faults\n")
    return 1 if faults else 0
