"""``harness leaderboard``: build the board, check it, serve it while runs arrive, or export what it shows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["configure", "execute"]

_FORMATS = ("csv", "json", "parquet", "hf", "latex", "markdown", "bibtex", "catalogue")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    build = actions.add_parser("build", help="write the board")
    serve = actions.add_parser("serve", help="show the board in a browser of this machine; it follows the runs")
    check = actions.add_parser("check", help="look for broken links, unsafe or inaccessible pages; exit 1 if any")
    export = actions.add_parser("export", help="what the board shows, as a table for programs, papers or other sites")
    for action in (build, serve, export):
        action.add_argument(
            "runs", type=Path, nargs="*", default=[Path("runs")], help="folders with runs (default: runs)"
        )
        action.add_argument(
            "--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards"
        )
    for action in (build, serve, check):
        action.add_argument("--out", type=Path, default=Path("results/board"), help="where the board is")
    for action in (build, serve):
        action.add_argument(
            "--viewer",
            action="store_true",
            help="also show volumes with NiiVue (fetched once), where the data allow it",
        )
    serve.add_argument("--port", type=int, default=8000)
    export.add_argument("--to", choices=_FORMATS, required=True)
    export.add_argument("--what", choices=["claims", "runs", "cells"], default="claims", help="which table")
    export.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows; may be given repeatedly"
    )
    export.add_argument("--url", default="", help="where the board is published, for the links")
    export.add_argument("--out", type=Path, help="file, or folder for hf and catalogue (default: the terminal)")


def execute(arguments: argparse.Namespace) -> int:
    """Run the action."""
    return {"build": _build, "check": _check, "serve": _serve, "export": _export}[arguments.action](arguments)


def _build(arguments: argparse.Namespace) -> int:
    from harness.leaderboard import build

    page = build(arguments.runs, arguments.out, cards=arguments.cards, viewer=arguments.viewer)
    sys.stdout.write(f"{page}\n")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from harness.leaderboard.serve import serve

    serve(arguments.runs, arguments.out, arguments.port, arguments.cards, viewer=arguments.viewer)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from harness.leaderboard.export import export

    text = export(
        arguments.runs,
        arguments.to,
        arguments.out,
        what=arguments.what,
        filters=arguments.where,
        cards=arguments.cards,
        url=arguments.url,
    )
    sys.stdout.write(text)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from harness.leaderboard.check import check

    faults = check(arguments.out)
    sys.stdout.writelines(f"{fault.page}: {fault.what}\n" for fault in faults)
    sys.stdout.write(f"{len(faults)} faults\n" if faults else "no faults\n")
    return 1 if faults else 0
