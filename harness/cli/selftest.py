"""``harness selftest``: what this machine does with a small network, for machines that nobody here can see."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--only", action="append", default=[], metavar="CHECK", help="one check; may be repeated")
    parser.add_argument("--model", default="models_genesis.narrow8", help="a card to test with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, to attach to an issue")


def execute(arguments: argparse.Namespace) -> int:
    """Run the checks and print a table; 1 where one failed."""
    from harness.files import write_json
    from harness.selftest import selftest, to_json

    checks = selftest(arguments.device, arguments.only, arguments.model)
    width = max(len(check.name) for check in checks)
    for check in checks:
        limit = f"  ({check.limit})" if check.limit else ""
        sys.stdout.write(f"{check.state:<14}  {check.name:<{width}}  {check.seconds:6.1f} s  {check.found}{limit}\n")
    if arguments.json:
        write_json(arguments.json, to_json(checks, arguments.device))
        sys.stdout.write(f"written: {arguments.json}\n")
    return 1 if any(check.state == "failed" for check in checks) else 0
