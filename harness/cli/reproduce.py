"""``harness reproduce CLAIM``: from a printed number to a verdict."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("claim", help="such as r104: `harness list claims`")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="executor=… out=… seed=0,1,2 device=… …")
    parser.add_argument("--plan", action="store_true", help="plan and compare what has run; run nothing")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder of own config groups")
    parser.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def execute(arguments: argparse.Namespace) -> int:
    """Plan, run what is missing, compare; 1 where a cell has no valid record at the end."""
    from harness.cli.plan import spell_plan
    from harness.cli.run import overrides_of
    from harness.cli.sweep import sweep_table
    from harness.reproduce import reproduce

    found = reproduce(arguments.claim, tuple(overrides_of(arguments)), arguments.config_dir, dry=arguments.plan)
    if arguments.json:
        sys.stdout.write(json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(f"{found.claim}: {', '.join(found.experiments)}\n\n{spell_plan(found.plan)}\n")
        if found.report:
            sys.stdout.write(sweep_table([vars(row) for row in found.report.rows]) + "\n")
        said = found.comparison.explanation if found.comparison else "nothing has run yet"
        state = found.comparison.value.state if found.comparison else "not_attempted"
        sys.stdout.write(f"{state}: {said}\n")
    return 0 if found.report is None or found.report.is_complete else 1
