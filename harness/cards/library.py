"""Finding and reading cards: the shipped ones, and those in the folders a user names with ``--cards``.

`index` reads names without validating (fast enough for ``harness list``); `model_card`, `dataset_card` and
`claims` read one kind strictly.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import UserError, unknown_name
from harness.resources import shipped

if TYPE_CHECKING:
    from harness.cards.claim import ClaimFile
    from harness.cards.dataset import DatasetCard
    from harness.cards.model import ModelCard

__all__ = [
    "Entry",
    "all_dataset_cards",
    "all_model_cards",
    "claims",
    "dataset_card",
    "index",
    "model_card",
    "read_yaml",
]

CardKind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Entry:
    """A card as found on disk: its id, its file, and the parsed YAML before validation."""

    id: str
    path: Path
    content: dict[str, Any]


def read_yaml(path: Path) -> Any:
    """Read one YAML file; UserError with file, line and column where it does not parse."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - both are safe loaders
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}. Mend that line.") from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}. Check the path.") from error


def index(kind: CardKind, folders: Iterable[Path] = ()) -> dict[str, Entry]:
    """Find every card of a kind.

    Parameters
    ----------
    kind : {"model", "dataset"}
        Which cards.
    folders : iterable of Path
        The user's own folders, searched after the shipped cards. A model card is a YAML file with a
        ``adapter``, a data set card is ``<id>/card.yaml`` or a YAML file with a ``layout``.

    Returns
    -------
    dict of str to Entry
        By id, sorted.

    Raises
    ------
    UserError
        A named folder does not exist, or two cards have one id.
    """
    found: dict[str, Entry] = {}
    for path in _card_files(kind, tuple(folders)):
        content = read_yaml(path)
        if not isinstance(content, dict) or "id" not in content or _KEY_OF[kind] not in content:
            continue
        entry = Entry(str(content["id"]), path, content)
        if entry.id in found:
            raise UserError(
                f"Two {kind} cards are called {entry.id!r}: {found[entry.id].path} and {path}. Rename one of them."
            )
        found[entry.id] = entry
    return dict(sorted(found.items()))


_KEY_OF: dict[CardKind, str] = {"model": "adapter", "dataset": "layout"}


def _card_files(kind: CardKind, folders: tuple[Path, ...]) -> list[Path]:
    home = shipped("model_cards") if kind == "model" else shipped("datasets")
    files = sorted(home.glob("*.yaml" if kind == "model" else "*/card.yaml"))
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"There is no folder of cards at {folder}. Check the path given with --cards.")
        files += sorted(folder.glob("*.yaml")) + sorted(folder.glob("*/card.yaml"))
    return list({file.resolve(): file for file in files}.values())  # a folder named twice holds its cards once


def model_card(name: str, folders: Iterable[Path] = ()) -> tuple[ModelCard, Path]:
    """Read the model card called ``name`` (an id or an alias).

    Returns
    -------
    ModelCard
        Validated and immutable.
    Path
        The folder the card lies in, to which a place ``beside_card`` is relative.
    """
    from harness.cards.base import parse
    from harness.cards.model import ModelCard

    entries = index("model", folders)
    by_alias = {alias: entry for entry in entries.values() for alias in entry.content.get("aliases", ())}
    entry = entries.get(name) or by_alias.get(name)
    if entry is None:
        raise unknown_name("model", name, entries, "`harness list models` shows them all.")
    return parse(ModelCard, entry.content, entry.path), entry.path.parent


def dataset_card(name: str, folders: Iterable[Path] = ()) -> tuple[DatasetCard, Path]:
    """Read the data set card called ``name``; returns the card and the folder it lies in."""
    entries = index("dataset", folders)
    if name not in entries:
        raise unknown_name("data set", name, entries, "`harness list datasets` shows them all.")
    return _parse_dataset(entries[name]), entries[name].path.parent


def _parse_dataset(entry: Entry) -> DatasetCard:
    from harness.cards.base import parse
    from harness.cards.dataset import DatasetCard

    content = dict(entry.content)
    splits = entry.path.parent / "splits.yaml"
    if splits.is_file():
        content["splits"] = read_yaml(splits)
    return parse(DatasetCard, content, entry.path)


def all_model_cards(folders: Iterable[Path] = ()) -> list[ModelCard]:
    """Read every model card once, sorted by id."""
    from harness.cards.base import parse
    from harness.cards.model import ModelCard

    return [parse(ModelCard, entry.content, entry.path) for entry in index("model", folders).values()]


def all_dataset_cards(folders: Iterable[Path] = ()) -> list[DatasetCard]:
    """Read every data set card once, sorted by id."""
    return [_parse_dataset(entry) for entry in index("dataset", folders).values()]


@functools.cache
def claims() -> ClaimFile:
    """Read what is claimed, each claim with what the ledger knows about it."""
    import json

    from harness.cards.base import parse
    from harness.cards.claim import ClaimFile, Ledger, annotate

    path, known = shipped("claims") / "reported.json", shipped("claims") / "ledger.yaml"
    printed = parse(ClaimFile, json.loads(path.read_text(encoding="utf-8")), path)
    ledger = parse(Ledger, read_yaml(known), known)
    return printed.model_copy(update={"results": annotate(printed.results, ledger)})
