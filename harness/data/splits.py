"""Which cases train, validate and test: a split of the card, a fold of it, and nested shares of its training cases."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from harness.cards.dataset import DatasetCard, MadeFolds, Split, ids_sha256
from harness.errors import UserError, unknown_name
from harness.files import canonical_json, sha256_hex

__all__ = ["ResolvedSplit", "make_folds", "resolve", "subset"]

ScoredRole = Literal["test", "val_independent", "val_used_for_selection"]


@dataclass(frozen=True)
class ResolvedSplit:
    """The cases of one run.

    Attributes
    ----------
    id : str
        Of the split.
    sha256 : str
        Of the whole split (every part, before a share of the training cases was taken).
    fold, n_folds : int
        Which fold validates, of how many; 0 of 1 for a fixed split.
    train, val, test : tuple of str
        Case ids, sorted.
    scored : tuple of str
        The cases whose scores are recorded: the test cases, or the validation cases where there is no test.
    scored_role : {"test", "val_independent", "val_used_for_selection"}
        ``val_used_for_selection`` wherever validation cases are scored; who selects nothing by them may weaken it.
    label_fraction : float
        Share of the training cases that is used, above 0 and at most 1.
    subset_seed : int
        Which share.
    """

    id: str
    sha256: str
    fold: int
    n_folds: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    scored: tuple[str, ...]
    scored_role: ScoredRole
    label_fraction: float
    subset_seed: int


def resolve(
    card: DatasetCard,
    split_id: str | None = None,
    fold: int = 0,
    label_fraction: float = 1.0,
    seed: int = 0,
    *,
    ids: Iterable[str] | None = None,
) -> ResolvedSplit:
    """Choose the cases of a run.

    Parameters
    ----------
    card : DatasetCard
        With its splits.
    split_id : str, optional
        The first split of the card by default.
    fold : int
        Which fold validates; 0 for a split without folds.
    label_fraction : float
        Share of the training cases to use. Shares with one seed are nested: 0.1 is a part of 0.25.
    seed : int
        Which draw of the share.
    ids : iterable of str, optional
        The cases on disk; only a split that is made from them needs them. A split by folder needs the mapping of
        `harness.data.layouts.find_cases`.

    Raises
    ------
    UserError
        The card has no such split or fold, the share is not above 0 and at most 1, or the ids for a made split are
        missing or too few.
    """
    if not card.splits:
        raise UserError(f"The data set {card.id!r} has no split. Add one to splits.yaml beside its card.")
    splits = {split.id: split for split in card.splits}
    if split_id is not None and split_id not in splits:
        raise unknown_name("split", split_id, splits, f"They belong to the data set {card.id!r}.")
    split = _with_parts(splits[split_id] if split_id is not None else card.splits[0], card, ids)
    if not 0 < label_fraction <= 1:
        raise UserError(f"The label fraction must be above 0 and at most 1; found {label_fraction}.")
    folds = _folds(split)
    if not 0 <= fold < max(1, len(folds)):
        raise UserError(f"The split {split.id!r} has the folds 0 to {max(1, len(folds)) - 1}; found fold={fold}.")
    if folds:
        val = folds[fold]
        train = tuple(case for number, ids in enumerate(folds) if number != fold for case in ids)
    else:
        train, val = _part(split, "train"), _part(split, "val")
    test = _part(split, "test")
    return ResolvedSplit(
        id=split.id,
        sha256=split_sha256(split),
        fold=fold,
        n_folds=max(1, len(folds)),
        train=subset(train, label_fraction, seed, f"{card.id}/{split.id}/{fold}"),
        val=tuple(sorted(val)),
        test=tuple(sorted(test)),
        scored=tuple(sorted(test or val)),
        scored_role="test" if test else "val_used_for_selection",
        label_fraction=label_fraction,
        subset_seed=seed,
    )


def subset(ids: Iterable[str], fraction: float, seed: int, name: str) -> tuple[str, ...]:
    """Return a share of the ids, sorted, never less than one.

    The ids are put in the order of SHA-256 of ``name/seed/id`` and the first are taken, so that shares are nested,
    the same everywhere, and do not depend on any random generator.
    """
    order = sorted(ids, key=lambda case: sha256_hex(f"{name}/{seed}/{case}"))
    # The small slack keeps 0.07 * 100 = 7.000000000000001 from being eight cases.
    return tuple(sorted(order[: math.ceil(fraction * len(order) - 1e-9)]))


def split_sha256(split: Split) -> str:
    """Return the hash of a split: of the hashes of its parts by name, so that the order of ids does not matter."""
    return sha256_hex(canonical_json({part: ids_sha256(ids) for part, ids in split.parts.items()}))


def make_folds(ids: Iterable[str], made: MadeFolds, name: str) -> dict[str, tuple[str, ...]]:
    """Divide cases into folds of nearly equal size, for data that come without a split.

    Parameters
    ----------
    ids : iterable of str
        The cases on disk.
    made : MadeFolds
        How many folds, which draw, and which cases must stay together.
    name : str
        Of data set and split; a part of the draw.

    Returns
    -------
    dict of str to tuple of str
        ``fold0`` … to sorted ids. Groups are put in the order of SHA-256 of ``name/seed/group`` and go, one after the
        other, to the fold with the fewest cases so far (the first such).

    Raises
    ------
    UserError
        There are fewer groups than folds, or an id does not match the pattern of groups.
    """
    groups: dict[str, list[str]] = {}
    for case in sorted(set(ids)):
        groups.setdefault(_group(case, made.group), []).append(case)
    if len(groups) < made.folds:
        raise UserError(f"{len(groups)} independent cases cannot make {made.folds} folds (split {name!r}).")
    folds: list[list[str]] = [[] for _ in range(made.folds)]
    for group in sorted(groups, key=lambda group: sha256_hex(f"{name}/{made.seed}/{group}")):
        min(folds, key=len).extend(groups[group])
    return {f"fold{number}": tuple(sorted(cases)) for number, cases in enumerate(folds)}


def _group(case: str, pattern: str | None) -> str:
    if pattern is None:
        return case
    match = re.fullmatch(pattern, case)
    if match is None:
        raise UserError(f"The id {case!r} does not have the form {pattern!r} that says which cases belong together.")
    return match[1]


def _with_parts(split: Split, card: DatasetCard, ids: Iterable[str] | None) -> Split:
    """Return the split itself, or one with the parts made from the cases on disk."""
    if not split.follows_disk:
        return split
    if ids is None:
        raise UserError(
            f"The parts of the split {split.id!r} are made from the cases on disk, which are not known here."
        )
    made = split.made
    parts = _by_folder(split, ids) if made is None else make_folds(ids, made, f"{card.id}/{split.id}")
    hashes = {part: ids_sha256(cases) for part, cases in parts.items()}
    return split.model_copy(update={"parts": parts, "sha256": hashes, "made": None, "folders": {}})


def _by_folder(split: Split, cases: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Give every part the cases whose first image lies in one of its folders."""
    if not isinstance(cases, Mapping):
        raise UserError(f"The split {split.id!r} is by folder, so it needs to know where the files of each case lie.")
    where = {case: files.images[0].parent.name for case, files in cases.items()}
    parts = {
        part: tuple(sorted(case for case, folder in where.items() if folder in folders))
        for part, folders in split.folders.items()
    }
    for part, found in parts.items():
        if not found:
            raise UserError(
                f"The split {split.id!r} takes its part {part!r} from the folders {', '.join(split.folders[part])}, "
                f"but no case lies there; cases lie in {', '.join(sorted(set(where.values()))[:8])}. "
                "Complete the data set."
            )
    return parts


def _part(split: Split, name: str) -> tuple[str, ...]:
    """Return the ids of a part and of its further pieces: test and test_onsite are test."""
    return tuple(
        case for part, ids in split.parts.items() if part == name or part.startswith(f"{name}_") for case in ids
    )


def _folds(split: Split) -> list[tuple[str, ...]]:
    """Return the parts fold0 … foldN in order, or none for a fixed split; UserError where one is missing."""
    named = [part for part in split.parts if part.startswith("fold")]
    expected = [f"fold{number}" for number in range(len(named))]
    if sorted(named) != sorted(expected):
        raise UserError(f"The folds of the split {split.id!r} are {sorted(named)}; they must be numbered from fold0.")
    return [split.parts[part] for part in expected]
