"""What is known beyond a record: the cards. Read once per process, never trusted to have everything."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.cards.dataset import DatasetCard
from harness.cards.library import dataset_card, index, model_card
from harness.cards.model import ModelCard
from harness.data.splits import ResolvedSplit, resolve
from harness.errors import UserError
from harness.records.schema import Record

__all__ = ["Registry"]


@dataclass(frozen=True)
class Registry:
    """The shipped cards and those in a user's folders.

    Attributes
    ----------
    folders : tuple of Path
        As given with ``--cards``.
    """

    folders: tuple[Path, ...] = ()

    def dataset(self, record: Record) -> DatasetCard | None:
        """Return the card of the record's data set; None where nobody knows it."""
        found = _dataset(record.dataset.id, self.folders)
        return None if found is None else found[0]

    def sources(self, record: Record) -> dict[str, DatasetCard | None]:
        """Return the cards of the data sets that a record's volumes come from: a pretraining joins several by ``+``."""
        names = record.dataset.id.split("+") if record.kind == "pretrain" else [record.dataset.id]
        found = {name: _dataset(name, self.folders) for name in names}
        return {name: None if card is None else card[0] for name, card in found.items()}

    def dataset_folder(self, record: Record) -> Path | None:
        """Return the folder that the card lies in."""
        found = _dataset(record.dataset.id, self.folders)
        return None if found is None else found[1]

    def model(self, record: Record) -> ModelCard | None:
        """Return the card of the record's weight set; None where nobody knows it."""
        return _model(f"{record.model.id}.{record.model.variant}", self.folders)

    def is_model(self, name: str, record: Record) -> bool:
        """Whether a name, or an alias on a card, means the record's weight set."""
        wanted = f"{record.model.id}.{record.model.variant}"
        return name == wanted or name in _aliases(wanted, self.folders)

    def split(self, record: Record) -> ResolvedSplit | None:
        """Return the cases of the record's split and fold; None where the card or the split is not known."""
        card, split = self.dataset(record), record.split
        if card is None or split.id not in {known.id for known in card.splits}:
            return None
        fraction = 1.0 if split.label_fraction is None else split.label_fraction
        try:
            return resolve(card, split.id, split.fold or 0, fraction, split.subset_seed or 0)
        except UserError:
            return None


@functools.cache
def _dataset(name: str, folders: tuple[Path, ...]) -> tuple[DatasetCard, Path] | None:
    return dataset_card(name, folders) if name in _names("dataset", folders) else None


@functools.cache
def _aliases(name: str, folders: tuple[Path, ...]) -> tuple[str, ...]:
    card = _model(name, folders)
    return () if card is None else card.aliases


@functools.cache
def _model(name: str, folders: tuple[Path, ...]) -> ModelCard | None:
    return model_card(name, folders)[0] if name in _names("model", folders) else None


@functools.cache
def _names(kind: Literal["model", "dataset"], folders: tuple[Path, ...]) -> frozenset[str]:
    """Return the ids of all cards, found once: records name many weight sets that no card here knows."""
    return frozenset(index(kind, folders))
