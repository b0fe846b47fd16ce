"""Which volumes a pretraining has seen, by content, so that scoring on them is noticed by itself.

The list lies beside the generated card as ``volumes.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cards.dataset import DatasetCard
from harness.cards.model import Contamination
from harness.data.splits import ResolvedSplit
from harness.errors import UserError
from harness.files import canonical_json, sha256_hex, write_json

__all__ = ["FILE_NAME", "Seen", "combined_fingerprint", "contamination", "read_seen", "write_seen"]

FILE_NAME = "volumes.json"


@dataclass(frozen=True)
class Seen:
    """Volumes of one data set as pretraining used them.

    Attributes
    ----------
    dataset : DatasetCard
        Its card.
    images : mapping of str to str
        Case id to the hash of its decoded image, as `harness.data.check` reports it.
    held_out : tuple of str
        Ids that were only evaluated on; nothing was learned from them.
    split : ResolvedSplit, optional
        Where only the training cases of one fold were used.
    """

    dataset: DatasetCard
    images: Mapping[str, str]
    held_out: tuple[str, ...] = ()
    split: ResolvedSplit | None = None

    @property
    def trained(self) -> dict[str, str]:
        """Id to hash of what was learned from."""
        return {case: digest for case, digest in sorted(self.images.items()) if case not in self.held_out}


def combined_fingerprint(seen: Iterable[Seen]) -> str:
    """Hash the contents of everything that was learned from; ids and order do not matter."""
    return sha256_hex("\n".join(sorted({digest for part in seen for digest in part.trained.values()})))


def write_seen(folder: Path, seen: Iterable[Seen], labelled: bool, parent: Path | None = None) -> Path:
    """Write ``volumes.json`` and return its path.

    Parameters
    ----------
    folder : Path
        Of the new card.
    seen : iterable of Seen
        What this pretraining learned from.
    labelled : bool
        Whether it read labels.
    parent : Path, optional
        Folder of the card of the weights it started from: what they had seen is seen too. Where they come without a
        list, the new one says that it is not complete.
    """
    path = folder / FILE_NAME
    sets = [_entry(part, labelled) for part in seen]
    before = read_seen(parent) if parent is not None else None
    if before is not None:
        sets += [{"labelled": before["labelled"], **entry} for entry in before["datasets"]]
    complete = parent is None or (before is not None and before.get("complete", True))
    write_json(path, {"schema_version": "1.0", "labelled": labelled, "complete": complete, "datasets": sets})
    return path


def _entry(part: Seen, labelled: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"dataset": part.dataset.id, "version": part.dataset.version, "labelled": labelled}
    if part.split is not None:
        entry["split"] = {"id": part.split.id, "sha256": part.split.sha256, "fold": part.split.fold}
    return {**entry, "trained": part.trained}


def read_seen(folder: Path) -> dict[str, Any] | None:
    """Read ``volumes.json`` of a card's folder; None where there is none (weights that others published).

    Raises
    ------
    UserError
        The file is there and cannot be understood.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema_version"] != "1.0":
            raise ValueError(f"schema_version {content['schema_version']!r} is not known")
        canonical_json([part["trained"] for part in content["datasets"]])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a list of seen volumes: {error}. Pretrain again, or remove the file; without it "
            "contamination is unknown."
        ) from error
    return dict(content)


def contamination(
    card_folder: Path,
    dataset: str,
    images: Mapping[str, str],
    scored: Iterable[str],
    split: ResolvedSplit | None = None,
) -> Contamination:
    """Say whether the volumes of a run were seen in pretraining, comparing contents and not names.

    Parameters
    ----------
    card_folder : Path
        Where the model card lies.
    dataset : str
        Id of the data set of the run.
    images : mapping of str to str
        Case id to the hash of its decoded image, for every case of the run.
    scored : iterable of str
        Ids that are scored.
    split : ResolvedSplit, optional
        Of the run; another fold of a split than the weights were made for is said.

    Returns
    -------
    Contamination
        ``test_overlap`` where a scored volume was seen with labels, ``unlabeled_overlap`` where one was seen without,
        ``train_overlap`` where only other volumes of the run were seen with labels, ``none`` where nothing that
        matters was, ``unknown`` where the card does not say (all) that was seen.
    """
    content = read_seen(card_folder)
    if content is None:
        return Contamination(dataset=dataset, status="unknown", evidence="the weights come without a list of volumes")
    labelled, all_seen = _digests(content, labelled_only=True), _digests(content, labelled_only=False)
    scored = set(scored)
    touched = sorted(case for case in scored if images[case] in all_seen)
    others = sorted(case for case in images if case not in scored and images[case] in all_seen)
    with_labels = [case for case in touched if images[case] in labelled]
    if touched:
        status = "test_overlap" if with_labels else "unlabeled_overlap"
        evidence = (
            f"{len(touched)} of {len(scored)} scored volumes were seen in pretraining, {len(with_labels)} of them with "
            f"labels: {_some(with_labels or touched)}"
        )
    elif others:
        known = [case for case in others if images[case] in labelled]
        status = "train_overlap" if known else "none"
        evidence = (
            f"no scored volume was seen in pretraining; {len(others)} other volumes of this run were, {len(known)} of "
            f"them with labels: {_some(others)}"
        )
    else:
        status, evidence = "none", f"none of the {len(images)} volumes of this run was seen in pretraining"
    if status == "none" and not content.get("complete", True):
        status, evidence = "unknown", f"{evidence}, as far as its volumes are listed: the first weights come without"
    evidence = f"{evidence} (by content)"
    if folds := _other_folds(content, dataset, split):
        evidence = f"{folds}; {evidence}"
    return Contamination.model_validate({"dataset": dataset, "status": status, "evidence": evidence})


def _digests(content: Mapping[str, Any], *, labelled_only: bool) -> set[str]:
    return {
        digest
        for part in content["datasets"]
        if not labelled_only or part.get("labelled", content["labelled"])
        for digest in part["trained"].values()
    }


def _other_folds(content: Mapping[str, Any], dataset: str, split: ResolvedSplit | None) -> str:
    """Say that the weights were made for another fold than the run's, or for another split."""
    for part in content["datasets"]:
        made = part.get("split")
        if made is None or split is None or part["dataset"] != dataset:
            continue
        if made["sha256"] != split.sha256:
            return f"pretrained on fold {made['fold']} of another split ({made['id']}) than this run's ({split.id})"
        if made["fold"] != split.fold:
            return f"pretrained for fold {made['fold']} of the split {split.id}, and this run is fold {split.fold}"
    return ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
