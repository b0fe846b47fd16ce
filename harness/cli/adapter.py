"""``harness adapter``: the published network on one input."""

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
    forward.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards")


def execute(arguments: argparse.Namespace) -> int:
    """Run the action."""
    import numpy as np

    from harness.adapters.forward import forward, write_outputs

    try:
        volume = np.load(arguments.input, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read --input {arguments.input}: {error}. Save it with numpy.save.") from error
    outputs = forward(arguments.model, arguments.checkpoint, volume, tuple(arguments.cards))
    write_outputs(arguments.output, outputs)
    for name, value in outputs.items():
        sys.stdout.write(f"{name:<20} {value.shape!s:<24} mean {value.mean():.6g} std {value.std():.6g}\n")
    return 0
