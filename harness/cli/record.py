"""``harness record``: verify records, show one, or import what another framework made."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

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
    show = actions.add_parser("show", help="print a record as JSON")
    show.add_argument("paths", type=Path, nargs="+", metavar="PATH")


def execute(arguments: argparse.Namespace) -> int:
    """Run the action."""
    return {"show": _show, "verify": _verify, "import": _import}[arguments.action](arguments)


def _import(arguments: argparse.Namespace) -> int:
    from harness.nnunet import import_nnunet
    from harness.records.verify import processors

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
    from harness.records.verify import processors, verify_all

    verdicts = verify_all(
        arguments.paths,
        rescore=arguments.rescore,
        full=arguments.full,
        cards=arguments.cards,
        data_root=arguments.data_root,
        workers=processors(),
    )
    for verdict in verdicts:
        sys.stdout.write(f"{'valid' if verdict.ok else 'INVALID':<8} {verdict.trust_name:<14} {verdict.path}\n")
        sys.stdout.writelines(f"  {finding.level}: {finding}\n" for finding in verdict.findings)
    return 0 if all(verdict.ok for verdict in verdicts) else 1


def _show(arguments: argparse.Namespace) -> int:
    import json

    from harness.records.store import load
    from harness.records.verify import record_folder

    for path in arguments.paths:
        record = load(record_folder(path))
        sys.stdout.write(json.dumps(record.to_json(), indent=1, ensure_ascii=False) + "\n")
    return 0
