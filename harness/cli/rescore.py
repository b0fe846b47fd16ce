"""``harness rescore``: a finished run by other metrics or another policy, from its kept predictions, not retrained."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.cli.score import add_scoring_arguments, table

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder, with record/ and predictions/ in it")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="where the data set lies")
    parser.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: RUN/rescored")
    add_scoring_arguments(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Score the predictions again; the run's record stays as it is."""
    from harness.cards.library import dataset_card
    from harness.data.roots import data_root
    from harness.records.store import load
    from harness.records.verify import record_folder
    from harness.score import label_files, reference_cases, score_folders, write_scores

    folder = record_folder(arguments.run)
    record = load(folder)
    card, card_folder = dataset_card(record.dataset.id, arguments.cards)
    predictions = label_files(folder.parent / "predictions")
    references = reference_cases(data_root(card, card_folder, arguments.data_root), card)
    scores = score_folders(
        predictions,
        {case: files for case, files in references.items() if case in predictions},
        card.classes,
        arguments.metrics.split(","),
        policy=arguments.policy,
        workers=arguments.workers,
        sums=folder.parent / "sums",
    )
    out = arguments.out or folder.parent / "rescored"
    cases, summary = write_scores(scores, card.classes, arguments.policy, out)
    sys.stdout.write(f"{table(scores.summary)}{cases}\n{summary}\n")
    return 0
