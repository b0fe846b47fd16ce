"""``harness list``: what there is. Reads names and titles from the files as they are; validation happens on use."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.cards.library import index, read_yaml
from harness.resources import shipped

__all__ = ["configure", "execute"]

Row = dict[str, object]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=sorted(_LISTS))
    parser.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs lie (list runs)")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def execute(arguments: argparse.Namespace) -> int:
    """Print the list."""
    rows = list(_LISTS[arguments.what](arguments))
    if arguments.json:
        sys.stdout.write(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(_table(rows) if rows else f"no {arguments.what} here\n")
    return 0


def _models(arguments: argparse.Namespace) -> Iterable[Row]:
    for entry in index("model", arguments.cards).values():
        card = entry.content
        millions = card.get("parameters")
        yield {
            "model": entry.id,
            "parameters": f"{millions / 1e6:.1f} M" if millions else "unknown",
            "file": "published" if card.get("checkpoint") and not card.get("evidence") else _own_file(card),
            "licence": card.get("licence", ""),
            "source": card.get("source", ""),
            "parity": _plain(card.get("parity", "unknown")) if card.get("supported", True) else _not_supported(card),
        }


def _plain(text: object) -> str:
    return " ".join(str(text).split())


def _not_supported(card: dict[str, object]) -> str:
    return f"not supported: {_plain(card.get('unsupported_reason', 'the card does not say why'))}"


def _own_file(card: dict[str, object]) -> str:
    return f"own ({', '.join(map(str, card['evidence']))})" if card.get("evidence") else "none"  # type: ignore[call-overload]


def _datasets(arguments: argparse.Namespace) -> Iterable[Row]:
    for entry in index("dataset", arguments.cards).values():
        card = entry.content
        yield {
            "dataset": entry.id,
            "modality": "+".join(card.get("modality", [])),
            "cases": card.get("num_cases", ""),
            "classes": len(card.get("regions") or {}) or max(len(card.get("labels") or {}) - 1, 0),
            "here": "bundled" if card.get("bundled") else "to be added",
            "title": card.get("title", ""),
        }


def _configs(group: str) -> Callable[[argparse.Namespace], Iterable[Row]]:
    def rows(arguments: argparse.Namespace) -> Iterable[Row]:
        del arguments
        for path in sorted((shipped("configs") / group).glob("*.yaml")):
            content = read_yaml(path)
            said = content.get("title") or (content.get("registered") or {}).get("title", "")
            yield {group: path.stem, "title": " ".join(str(said).split())}

    return rows


def _claims(arguments: argparse.Namespace) -> Iterable[Row]:
    del arguments
    content = json.loads((shipped("claims") / "reported.json").read_text(encoding="utf-8"))
    for claim in content["results"]:
        yield {
            "claim": claim["id"],
            "model": claim["model"],
            "variant": claim["variant"],
            "dataset": claim["dataset"],
            "metric": claim["metric"],
            "reported": f"{claim['value']} {claim['unit']}",
            "confidence": claim["confidence"],
        }


def _runs(arguments: argparse.Namespace) -> Iterable[Row]:
    from harness.records.runfolder import RunFolder, planning_folder

    found = {path.parent for path in arguments.runs.rglob("run.json")}
    planned = {arguments.runs / path.stem for path in planning_folder(arguments.runs).glob("*.json")}
    for path in sorted(found | planned):
        folder = RunFolder(path)
        yield {"run": path.name, "state": folder.state, "where": str(path), "error": folder.error or ""}


_LISTS: dict[str, Callable[[argparse.Namespace], Iterable[Row]]] = {
    "models": _models,
    "datasets": _datasets,
    "protocols": _configs("protocol"),
    "experiments": _configs("experiment"),
    "claims": _claims,
    "runs": _runs,
}


def _table(rows: list[Row]) -> str:
    heads = list(rows[0])
    widths = {head: max(len(head), *(len(str(row[head])) for row in rows)) for head in heads}
    widths[heads[-1]] = 0  # the last column runs free
    lines = ["  ".join(f"{head:<{widths[head]}}" for head in heads)]
    lines += ["  ".join(f"{row[head]!s:<{widths[head]}}" for head in heads) for row in rows]
    return "\n".join(line.rstrip() for line in lines) + "\n"
