"""``harness score``: label maps made by anything, against references. ``harness rescore``: a run by another metric."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.machine import processors

if TYPE_CHECKING:
    from harness.scoring.summary import Summary

__all__ = ["add_scoring_arguments", "configure", "execute", "table"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--prediction", type=Path, required=True, metavar="DIR", help="one label map per case")
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR", help="the same, or a data set's root")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--dataset", metavar="ID", help="take classes and layout from this data set's card")
    what.add_argument("--labels", metavar="NAME=1,NAME=2+3", help="classes and the label values that make them up")
    parser.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards")
    parser.add_argument(
        "--missing", choices=["refuse", "skip", "empty"], default="refuse", help="what no prediction is"
    )
    parser.add_argument("--ignore-extra", action="store_true", help="leave predictions without a reference alone")
    parser.add_argument("--out", type=Path, default=Path("scores"), metavar="DIR", help="for cases.csv, summary.json")
    add_scoring_arguments(parser)


def add_scoring_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every scoring command takes."""
    parser.add_argument("--metrics", default="dice,hd95", metavar="IDS", help="such as dice,hd95,nsd@2")
    parser.add_argument("--policy", default="adopted", help="what empty masks count")
    parser.add_argument("--workers", type=int, default=processors())


def execute(arguments: argparse.Namespace) -> int:
    """Score, write, print."""
    from harness.cards.library import dataset_card
    from harness.score import label_files, reference_cases, score_folders, write_scores

    card = dataset_card(arguments.dataset, arguments.cards)[0] if arguments.dataset else None
    classes = card.classes if card else _classes(arguments.labels)
    scores = score_folders(
        label_files(arguments.prediction),
        reference_cases(arguments.reference, card),
        classes,
        arguments.metrics.split(","),
        policy=arguments.policy,
        missing=arguments.missing,
        ignore_extra=arguments.ignore_extra,
        workers=arguments.workers,
    )
    cases, summary = write_scores(scores, classes, arguments.policy, arguments.out)
    sys.stdout.write(table(scores.summary))
    if scores.skipped:
        sys.stdout.write(f"left out, no prediction: {', '.join(scores.skipped)}\n")
    sys.stdout.write(f"{cases}\n{summary}\n")
    return 0


def _classes(text: str) -> dict[str, tuple[int, ...]]:
    """Parse ``liver=1,tumour=2,whole=1+2``."""
    classes: dict[str, tuple[int, ...]] = {}
    for part in text.split(","):
        name, equals, values = part.partition("=")
        try:
            classes[name.strip()] = tuple(int(value) for value in values.split("+"))
        except ValueError as error:
            raise UserError(f"--labels has {part!r}, which is not NAME=1 or NAME=1+2.") from error
        if not (name.strip() and equals):
            raise UserError(f"--labels has {part!r}, which is not NAME=1 or NAME=1+2.")
    return classes


def table(summary: Summary) -> str:
    """Spell the means with everything that went into them."""
    width = max(len(name) for found in summary.metrics.values() for name in found.per_class)
    lines = [f"{summary.n_cases} cases, policy {summary.policy}"]
    for metric, found in summary.metrics.items():
        overall, interval = found.overall, found.interval
        value = "-" if overall.value is None else f"{overall.value:.4f}"
        around = f"  95 % CI {interval.low:.4f} to {interval.high:.4f}" if interval else ""
        lines.append(f"\n{metric}: {value}  (n {overall.n}, undefined {overall.n_undefined}){around}")
        for name, one in found.per_class.items():
            mean = "-" if one.value is None else f"{one.value:.4f}"
            states = " ".join(f"{state} {count}" for state, count in one.states.items() if count)
            apart = f", not annotated {one.n_not_annotated}" if one.n_not_annotated else ""
            lines.append(f"  {name:<{width}}  {mean:>9}  n {one.n}, undefined {one.n_undefined}{apart}  [{states}]")
    return "\n".join(lines) + "\n"
