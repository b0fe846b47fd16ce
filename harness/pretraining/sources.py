"""The data sets that a pretraining run reads: which cases it learns from, which it holds out, how they are prepared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cards.dataset import DatasetCard
from harness.cards.model import ModelCard
from harness.data.cache import Cache
from harness.data.check import CaseFacts, CheckReport, check
from harness.data.contract import InputChoice, Meeting, meet
from harness.data.layouts import locate_set
from harness.data.opening import prepare_checked
from harness.data.splits import ResolvedSplit, resolve
from harness.errors import UserError, unknown_name
from harness.pretraining.seen import Seen
from harness.pretraining.task import PretextTask
from harness.pretraining.volumes import CachedVolumes, Together, Volumes

__all__ = ["Choice", "Source", "Sources", "fitted", "open_sources"]


@dataclass(frozen=True)
class Choice:
    """Which cases are used.

    Attributes
    ----------
    held_out : tuple of str
        Ids that are only evaluated on; ``dataset/case`` where there are several data sets.
    split : str, optional
        A split of the data set; by default its first.
    fold : int, optional
        Given: only the training cases of this fold are learned from, and its validation cases are held out. The test
        cases are not opened.
    """

    held_out: tuple[str, ...] = ()
    split: str | None = None
    fold: int | None = None


@dataclass(frozen=True)
class Source:
    """One data set, checked and prepared.

    Attributes
    ----------
    train, held_out : tuple of str
        Its own ids.
    split : ResolvedSplit or None
        Where a fold was chosen.
    seconds : float
        Wall time of preparing.
    """

    card: DatasetCard
    report: CheckReport
    meeting: Meeting
    cache: Cache
    train: tuple[str, ...]
    held_out: tuple[str, ...]
    split: ResolvedSplit | None
    seconds: float

    @property
    def images(self) -> dict[str, str]:
        """Id to the hash of the decoded image."""
        return {case: found.image_sha256 for case, found in self.report.facts.items()}


class Sources:
    """All data sets of a run side by side.

    Parameters
    ----------
    parts : sequence of Source
        One or more.
    by_dataset : bool
        Whether cases are called ``dataset/case`` although there is one data set only.
    """

    def __init__(self, parts: Sequence[Source], by_dataset: bool) -> None:
        self.parts = tuple(parts)
        self._by_dataset = by_dataset or len(parts) > 1

    @property
    def volumes(self) -> Volumes:
        """The prepared volumes by the names that the task uses."""
        alone = {part.card.id: CachedVolumes(part.cache, (*part.train, *part.held_out)) for part in self.parts}
        return Together(alone) if self._by_dataset else alone[self.parts[0].card.id]

    @property
    def train(self) -> tuple[str, ...]:
        """Names to learn from."""
        return tuple(self._name(part, case) for part in self.parts for case in part.train)

    @property
    def held_out(self) -> tuple[str, ...]:
        """Names to evaluate on."""
        return tuple(self._name(part, case) for part in self.parts for case in part.held_out)

    @property
    def seen(self) -> list[Seen]:
        """What the card of the weights must list."""
        return [Seen(part.card, part.images, part.held_out, part.split) for part in self.parts]

    @property
    def dataset_id(self) -> str:
        """The ids joined by ``+``."""
        return "+".join(part.card.id for part in self.parts)

    @property
    def facts(self) -> dict[str, CaseFacts]:
        """What the check found out about every case in use, under the names that the task uses."""
        return {self._name(part, case): found for part in self.parts for case, found in part.report.facts.items()}

    def _name(self, part: Source, case: str) -> str:
        return f"{part.card.id}/{case}" if self._by_dataset else case


def fitted(base: ModelCard, cards: Iterable[DatasetCard], task: type[PretextTask]) -> ModelCard:
    """Give a card the image channels of the data, where the recipe knows what to do with more than one.

    Raises
    ------
    UserError
        The data sets differ in their number of channels, or the recipe takes another number.
    """
    cards = list(cards)
    counts = {card.id: len(card.channels) for card in cards}
    channels = cards[0].channels
    if len(set(counts.values())) > 1:
        raise UserError(f"The data sets differ in their number of channels ({counts}), and one network reads them all.")
    if len(channels) == len(base.contract.channels):
        return base
    if not task.multichannel:
        raise UserError(
            f"{cards[0].id} has {len(channels)} channels ({', '.join(channels)}), and recipe {task.name} takes "
            f"{len(base.contract.channels)}. Name a data set with one; a card of your own in a folder given with "
            "--cards may describe one channel of these files."
        )
    architecture = {**base.architecture, "in_channels": len(channels)}
    contract = base.contract.model_copy(update={"channels": channels})
    return base.model_copy(update={"architecture": architecture, "contract": contract, "parameters": None})


def open_sources(
    cards: Sequence[tuple[DatasetCard, Path]],
    base: ModelCard,
    task: type[PretextTask],
    choice: Choice,
    input_choice: InputChoice,
    *,
    root: Path | None,
    cache: Path,
    workers: int,
) -> Sources:
    """Find, check and prepare every data set.

    Parameters
    ----------
    cards : sequence of (DatasetCard, Path)
        With the folder that each lies in.
    base : ModelCard
        Whose contract the volumes must meet.
    task : type of PretextTask
        The recipe, which may have its own rule of preparing.
    choice : Choice
        Which cases.
    input_choice : InputChoice
        What the configuration says about the input.
    root : Path, optional
        Where the only data set lies, if the user said so.
    cache : Path
        Folder of all caches.
    workers : int
        Cases at a time.

    Raises
    ------
    UserError
        A case, split or fold does not exist, the data are wrong, or they do not serve the network.
    """
    if root is not None and len(cards) > 1:
        raise UserError(
            "data_root names the place of one data set, and several are given. Say where each lies with "
            "`harness data add ID PATH`."
        )
    held = _held_out(choice.held_out, [card.id for card, _ in cards])
    parts = []
    for found, folder in cards:
        card, cases = locate_set(found, folder, root)
        for case in held[card.id]:
            if case not in cases:
                raise unknown_name(f"case of {card.id}", case, cases, "held_out names the volumes to measure on.")
        split = None
        train, held_out = tuple(sorted(set(cases) - set(held[card.id]))), held[card.id]
        if choice.fold is not None:
            split = resolve(card, choice.split, choice.fold, ids=cases)
            train, held_out = split.train, split.val
        used = {case: cases[case] for case in sorted({*train, *held_out}) if case in cases}
        report = check(card, used, needed=(*train, *held_out), workers=workers, cache=cache)
        report.refuse()
        meeting = meet(base.contract, card, task.input_choice(input_choice, list(report.facts.values())))
        prepared, rules, seconds = prepare_checked(
            card, used, report, meeting, input_choice, cache=cache, workers=workers
        )
        meeting = replace(meeting, rules=rules)
        parts.append(Source(card, report, meeting, prepared, train, held_out, split, seconds))
    return Sources(parts, by_dataset=task.labelled)


def _held_out(names: Iterable[str], datasets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Sort the names of held-out cases by data set."""
    found: dict[str, list[str]] = {dataset: [] for dataset in datasets}
    for name in names:
        dataset, slash, case = name.rpartition("/")
        if not slash:
            if len(datasets) > 1:
                raise UserError(f"held_out names {name!r}; with several data sets write {datasets[0]}/{name}.")
            dataset = datasets[0]
        if dataset not in found:
            raise unknown_name("data set", dataset, found, f"held_out names {name!r}.")
        found[dataset].append(case)
    return {dataset: tuple(sorted(cases)) for dataset, cases in found.items()}
