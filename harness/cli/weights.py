"""``harness weights``: the published files: which there are, fetched, verified, added, looked into, converted."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.adapters.weights import Standing
    from harness.cards.model import ModelCard

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="published files: size, hash, where they are, and whether they are here")
    listing.add_argument("model", metavar="MODEL", nargs="?", help="id or alias of a model card (default: all)")
    listing.add_argument("--json", action="store_true", help="machine-readable output")
    fetch = actions.add_parser("fetch", help="download; goes on where an earlier call stopped")
    verify = actions.add_parser("verify", help="compare size and hash of what is here; exit 1 if it is another file")
    add = actions.add_parser("add", help="put a file that you downloaded into the store, after checking it")
    for action in (fetch, verify, add):
        action.add_argument("model", metavar="MODEL", help="id or alias of a model card")
    add.add_argument("source", type=Path, metavar="FILE")
    add.add_argument("--link", action="store_true", help="link to FILE instead of copying it")
    for action in (fetch, add):
        action.add_argument("--file", metavar="NAME", help="which of the card's files (default: the first that fits)")
    for action in (listing, fetch, verify, add):
        action.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="own cards")
    inspect = actions.add_parser("inspect", help="list the tensors of a file")
    inspect.add_argument("file", type=Path)
    inspect.add_argument("--key", help="top-level entry that holds the tensors (default: found by looking)")
    inspect.add_argument("--json", action="store_true", help="machine-readable output")
    convert = actions.add_parser(
        "convert", help="a pickle that is refused, to safetensors; its code runs in a process without network"
    )
    convert.add_argument("file", type=Path)
    convert.add_argument("out", type=Path, metavar="OUT.safetensors")
    convert.add_argument("--key", help="top-level entry that holds the tensors (default: found by looking)")
    convert.add_argument("--prefix", default="", help="strip this from every name")
    convert.add_argument("--trust", action="store_true", help="also where the network cannot be taken away")


def execute(arguments: argparse.Namespace) -> int:
    """Run the action."""
    actions = {"list": _list, "fetch": _fetch, "verify": _verify, "add": _add, "inspect": _inspect, "convert": _convert}
    return actions[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    from harness.adapters.weights import standing
    from harness.cards.base import parse
    from harness.cards.library import index, model_card
    from harness.cards.model import ModelCard

    if arguments.model:
        cards = [model_card(arguments.model, arguments.cards)]
    else:
        entries = index("model", arguments.cards).values()
        cards = [(parse(ModelCard, entry.content, entry.path), entry.path.parent) for entry in entries]
    rows = [
        _row(card, one)
        for card, folder in cards
        if card.checkpoint is not None
        for one in standing(card, folder, check=False)
    ]
    if arguments.json:
        sys.stdout.write(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        return 0
    for row in rows:
        here = "here" if row["path"] else "not here"
        size = f"{row['bytes'] / 1e6:,.1f} MB" if row["bytes"] else "size not published"
        known = "hash published" if row["sha256"] else "hash recorded on first use"
        sys.stdout.write(f"{row['model']}  {row['file']}  {here}  {size}, {known}\n")
        sys.stdout.writelines(f"    {place}\n" for place in row["places"])
    return 0


def _row(card: ModelCard, one: Standing) -> dict[str, Any]:
    from harness.adapters.weights import spell

    return {
        "model": card.id,
        "file": one.file.name,
        "bytes": one.file.bytes,
        "sha256": one.file.sha256,
        "path": str(one.path) if one.path else None,
        "places": [spell(place) + ("" if place.official else " (not official)") for place in one.file.places],
        "licence": card.licence,
    }


def _fetch(arguments: argparse.Namespace) -> int:
    from harness.adapters.weights import fetch
    from harness.cards.library import model_card

    sys.stdout.write(f"{fetch(*model_card(arguments.model, arguments.cards), arguments.file)}\n")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from harness.adapters.weights import locate, standing
    from harness.cards.library import model_card

    card, folder = model_card(arguments.model, arguments.cards)
    rows = [one for one in standing(card, folder) if one.path is not None]
    if not rows:
        locate(card, folder)  # says what to get and where to put it
    for one in rows:
        sys.stdout.write(
            f"{'WRONG' if one.fault else 'valid':<6} {one.path}{f': it {one.fault}' if one.fault else ''}\n"
        )
        if not one.fault:
            sys.stdout.write(f"       {one.basis}\n")
    return 1 if any(one.fault for one in rows) else 0


def _add(arguments: argparse.Namespace) -> int:
    from harness.adapters.weights import add
    from harness.cards.library import model_card

    card, _ = model_card(arguments.model, arguments.cards)
    sys.stdout.write(f"{add(card, arguments.source, arguments.file, link=arguments.link)}\n")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from harness.checkpoints.convert import convert, provenance_path

    account = convert(arguments.file, arguments.out, arguments.key, arguments.prefix, trust=arguments.trust)
    sys.stdout.write(
        f"{arguments.out}: {account['tensors']} tensors; {provenance_path(arguments.out).name} says more\n"
    )
    sys.stdout.writelines(f"  dropped {name}: {reason}\n" for name, reason in list(account["dropped"].items())[:20])
    if not account["isolated"]:
        sys.stdout.write("  it was read WITHOUT isolation (--trust)\n")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
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
