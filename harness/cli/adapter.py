"""``harness adapter``: for people who add a model, and for parity with real weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.errors import UserError

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    forward = actions.add_parser("forward", help="write the named outputs of a checkpoint for one input")
    forward.add_argument("model", metavar="MODEL", help="id or alias of a model card")
    forward.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="in the published layout")
    forward.add_argument(
        "--input", type=Path, required=True, metavar="X.npy", help="float32, (batch, channel, a, b, c)"
    )
    forward.add_argument("--output", type=Path, required=True, metavar="Y.npz")
    check = actions.add_parser("check", help="run the conformance kit, without weights or data; exit code 1 on failure")
    check.add_argument("name", metavar="NAME", help="id or alias of a model card, or an adapter: all its cards")
    check.add_argument("--checkpoint", type=Path, metavar="FILE", help="a published file to load as well")
    for action in (forward, check):
        action.add_argument(
            "--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards"
        )
    new = actions.add_parser("new", help="write an adapter, its card and its test to start from")
    new.add_argument("name", metavar="NAME", help="of the adapter: lower-case letters, digits and _")
    new.add_argument("--out", type=Path, metavar="DIR", help="where to (default: ./NAME)")


def execute(arguments: argparse.Namespace) -> int:
    """Run the action."""
    return {"forward": _forward, "check": _check, "new": _new}[arguments.action](arguments)


def _forward(arguments: argparse.Namespace) -> int:
    import numpy as np

    from harness.adapters.forward import forward, write_outputs

    try:
        volume = np.load(arguments.input, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"Cannot read --input {arguments.input}: {error}. Save it with numpy.save.") from error
    if not isinstance(volume, np.ndarray):
        raise UserError(f"--input {arguments.input} holds several arrays (.npz). Save the one with numpy.save.")
    outputs = forward(arguments.model, arguments.checkpoint, volume, tuple(arguments.cards))
    write_outputs(arguments.output, outputs)
    for name, value in outputs.items():
        sys.stdout.write(f"{name:<20} {value.shape!s:<24} mean {value.mean():.6g} std {value.std():.6g}\n")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from harness.adapters.conformance import check

    reports = check(arguments.name, arguments.checkpoint, tuple(arguments.cards))
    sys.stdout.write("\n".join(report.text() for report in reports))
    return 1 if any(report.failures for report in reports) else 0


def _new(arguments: argparse.Namespace) -> int:
    from harness.adapters.scaffold import scaffold

    folder = arguments.out or Path(arguments.name)
    for path in scaffold(arguments.name, folder):
        sys.stdout.write(f"{path}\n")
    sys.stdout.write(f"They conform as they are: harness adapter check {arguments.name} --cards {folder}\n")
    return 0
