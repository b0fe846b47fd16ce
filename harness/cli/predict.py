"""``harness predict``: label maps for a folder of scans, by the networks of finished runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="folder of a finished run: `harness list runs`; of several, such as folds or seeds, the mean probability",
    )
    parser.add_argument(
        "scans",
        type=Path,
        metavar="SCANS",
        help="folder of scans; several channels: CASE_CHANNEL.nii.gz or CASE_0000.nii.gz",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the label maps")
    parser.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="the released file, if the run scored one as it is"
    )
    parser.add_argument("--overwrite", action="store_true", help="predict again what lies in DIR")


def execute(arguments: argparse.Namespace) -> int:
    """Predict, and print the files."""
    from harness.predict import ensemble, find_scans, predict, trained

    predictor = ensemble([trained(run, arguments.cards, arguments.device, arguments.weights) for run in arguments.runs])
    scans = find_scans(arguments.scans, predictor.data.channels)
    for path in predict(predictor, scans, arguments.out, overwrite=arguments.overwrite):
        sys.stdout.write(f"{path}\n")
    return 0
