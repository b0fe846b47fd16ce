"""``harness weights``: what a checkpoint file holds, read without executing it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    inspect = actions.add_parser("inspect", help="list the tensors of a file")
    inspect.add_argument("file", type=Path)
    inspect.add_argument("--key", help="top-level entry that holds the tensors (default: found by looking)")
    inspect.add_argument("--json", action="store_true", help="machine-readable output")


def execute(arguments: argparse.Namespace) -> int:
    """Run the action."""
    from harness.checkpoints.reading import read

    raw = read(arguments.file, arguments.key)
    rows = [
        {"name": name, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in raw.tensors.items()
    ]
    if arguments.json:
        sys.stdout.write(json.dumps({"top_level": raw.top_level, "tensors": rows}, indent=1) + "\n")
        return 0
    total = sum(tensor.numel() for tensor in raw.tensors.values())
    sys.stdout.write(f"top level: {', '.join(raw.top_level) or '-'}\n{len(rows)} tensors, {total:,} values\n")
    sys.stdout.writelines(f"  {row['name']}  {tuple(row['shape'])}  {row['dtype']}\n" for row in rows)
    return 0
