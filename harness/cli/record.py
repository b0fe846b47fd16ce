"""``harness record``: verify records, show one, send them in, answer a pull request, or import from elsewhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.records.verification import Verification

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    verify = actions.add_parser("verify", help="recompute what records claim; exit 1 if anything does not hold")
    verify.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="records, runs, or folders of them")
    verify.add_argument(
        "--rescore", action="store_true", help="score the kept predictions against the references again"
    )
    verify.add_argument("--full", action="store_true", help="draw every interval again instead of a sample of them")
    verify.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards")
    verify.add_argument("--data-root", type=Path, metavar="DIR", help="where the data set lies (with --rescore)")
    verify.add_argument(
        "--reinfer", action="store_true", help="predict every case again with the run's own weights (needs the run)"
    )
    verify.add_argument("--cache", type=Path, metavar="DIR", help="prepared volumes (with --reinfer)")
    verify.add_argument("--weights", type=Path, metavar="FILE", help="the published file (with --reinfer)")
    verify.add_argument("--device", default="auto", help="what to compute on (with --reinfer)")
    take = actions.add_parser("import", help="score what another framework predicted, as a record")
    take.add_argument(
        "folder", type=Path, metavar="DIR", help="nnU-Net v2: …/<trainer>__<plans>__<configuration>/fold_0"
    )
    take.add_argument("--from", dest="framework", choices=["nnunet"], required=True)
    take.add_argument("--dataset", required=True, metavar="ID", help="whose references and case ids these are")
    take.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new record")
    take.add_argument("--metrics", default="dice,hd95", metavar="IDS")
    take.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards")
    take.add_argument("--data-root", type=Path, metavar="DIR", help="where the data set lies")
    _configure_submission(actions)
    show = actions.add_parser("show", help="print a record as JSON")
    show.add_argument("paths", type=Path, nargs="+", metavar="PATH")


def _configure_submission(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    pack = actions.add_parser("pack", help="put runs into a folder that is ready for a pull request")
    pack.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    pack.add_argument("--out", type=Path, required=True, metavar="DIR", help="new, or packed into before")
    pack.add_argument("--rescore", action="store_true", help="score the kept predictions again first")
    pack.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards")
    review = actions.add_parser("review", help="check what a pull request adds; exit 1 if it cannot be merged")
    review.add_argument("base", type=Path, metavar="BASE", help="the results repository before")
    review.add_argument("head", type=Path, metavar="HEAD", help="and after")
    review.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards")
    review.add_argument("--out", type=Path, metavar="FILE", help="where to write the answer, besides the terminal")
    complain = actions.add_parser("object", help="open, confirm or reject an objection to a record, or withdraw it")
    complain.add_argument("root", type=Path, metavar="DIR", help="the results repository")
    complain.add_argument("--run", required=True, metavar="RUN_ID")
    complain.add_argument("--id", required=True, help="name of the objection: small letters, digits and hyphens")
    complain.add_argument("--field", default="record", help="what it is about, such as weights.sha256")
    complain.add_argument("--state", choices=["open", "confirmed", "rejected"], default="open")
    complain.add_argument("--outcome", choices=["flagged", "demoted", "withdrawn"], help="of a confirmed one")
    complain.add_argument("--by", required=True, metavar="NAME")
    complain.add_argument("--text", required=True, help="what is wrong, or why not")


def execute(arguments: argparse.Namespace) -> int:
    """Run the action."""
    actions = {
        "show": _show, "verify": _verify, "import": _import, "pack": _pack, "review": _review, "object": _object,
    }  # fmt: skip
    return actions[arguments.action](arguments)


def _pack(arguments: argparse.Namespace) -> int:
    from harness.records.pack import PULL_REQUEST, pack

    for run in arguments.runs:
        target = pack(run, arguments.out, cards=arguments.cards, rescore=arguments.rescore)
        sys.stdout.write(f"{target}\n")
    sys.stdout.write(f"{arguments.out / PULL_REQUEST}\n")
    return 0


def _review(arguments: argparse.Namespace) -> int:
    from harness.files import write_text
    from harness.machine import processors
    from harness.records.review import review

    answer = review(arguments.base, arguments.head, cards=arguments.cards, workers=processors())
    if arguments.out is not None:
        write_text(arguments.out, answer.text)
    sys.stdout.write(answer.text)
    return 0 if answer.ok else 1


def _object(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from pydantic import ValidationError

    from harness.cards.base import explain
    from harness.errors import UserError
    from harness.records.objections import Objection, object_to

    if not arguments.root.is_dir():
        raise UserError(f"There is no results repository at {arguments.root}. Check the path.")
    told = {
        "id": arguments.id, "run_id": arguments.run, "field": arguments.field, "state": arguments.state,
        "outcome": arguments.outcome, "by": arguments.by, "text": arguments.text,
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
    try:
        event = Objection.model_validate(told)
    except ValidationError as error:
        raise UserError(f"This is no objection: {explain(error, Objection)}") from error
    object_to(arguments.root, event)
    sys.stdout.write(f"{arguments.id}: {arguments.state}\n")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from harness.machine import processors
    from harness.nnunet import import_nnunet

    record = import_nnunet(
        arguments.folder,
        arguments.dataset,
        arguments.out,
        metrics=tuple(arguments.metrics.split(",")),
        cards=tuple(arguments.cards),
        root=arguments.data_root,
        workers=processors(),
    )
    sys.stdout.write(f"{record}\n")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from harness.machine import processors
    from harness.records.verify import verify_all

    verdicts = verify_all(
        arguments.paths,
        rescore=arguments.rescore,
        full=arguments.full,
        cards=arguments.cards,
        data_root=arguments.data_root,
        workers=processors(),
    )
    if arguments.reinfer:
        verdicts = _reinferred(arguments, verdicts)
    for verdict in verdicts:
        sys.stdout.write(f"{'valid' if verdict.ok else 'INVALID':<8} {verdict.trust_name:<14} {verdict.path}\n")
        sys.stdout.writelines(f"  {finding.level}: {finding}\n" for finding in verdict.findings)
    return 0 if all(verdict.ok for verdict in verdicts) else 1


def _reinferred(arguments: argparse.Namespace, verdicts: list[Verification]) -> list[Verification]:
    """Predict again for every record that holds so far, and say what it cost."""
    from harness.reinfer import reinfer

    done = []
    for verdict in verdicts:
        if not verdict.ok:
            done.append(verdict)
            continue
        found = reinfer(
            verdict.path,
            cards=arguments.cards,
            data_root=arguments.data_root,
            cache=arguments.cache,
            weights=arguments.weights,
            device=arguments.device,
        )
        sys.stdout.write(f"{verdict.path}: {found.cost}\n")
        done.append(found.verification)
    return done


def _show(arguments: argparse.Namespace) -> int:
    import json

    from harness.records.store import load
    from harness.records.verify import record_folder

    for path in arguments.paths:
        record = load(record_folder(path))
        sys.stdout.write(json.dumps(record.to_json(), indent=1, ensure_ascii=False) + "\n")
    return 0
