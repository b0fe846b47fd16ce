"""``harness doctor``: what this machine has and lacks."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where runs would lie")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="folder of prepared volumes")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def execute(arguments: argparse.Namespace) -> int:
    """Print every finding; 1 where one keeps runs from working."""
    from harness.doctor import examine, to_json

    findings = examine(arguments.out, arguments.cache)
    if arguments.json:
        sys.stdout.write(json.dumps(to_json(findings), indent=1, ensure_ascii=False) + "\n")
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            sys.stdout.write(f"{finding.state:<8} {finding.what:<{width}}  {finding.found}\n")
            if finding.mend:
                sys.stdout.write(f"{'':<8} {'':<{width}}  mend: {finding.mend}\n")
    return 1 if any(finding.state == "problem" for finding in findings) else 0
