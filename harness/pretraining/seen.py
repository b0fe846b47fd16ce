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
    """

    dataset: DatasetCard
    images: Mapping[str, str]
    held_out: tuple[str, ...] = ()

    @property
    def trained(self) -> dict[str, str]:
        """Id to hash of what was learned from."""
        return {case: digest for case, digest in sorted(self.images.items()) if case not in self.held_out}


def combined_fingerprint(seen: Iterable[Seen]) -> str:
    """Hash the contents of everything that was learned from; ids and order do not matter."""
    return sha256_hex("\n".join(sorted({digest for part in seen for digest in part.trained.values()})))


def write_seen(folder: Path, seen: Iterable[Seen], labelled: bool) -> Path:
    """Write ``volumes.json`` and return its path."""
    path = folder / FILE_NAME
    sets = [{"dataset": part.dataset.id, "version": part.dataset.version, "trained": part.trained} for part in seen]
    write_json(path, {"schema_version": "1.0", "labelled": labelled, "datasets": sets})
    return path


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


def contamination(card_folder: Path, dataset: str, images: Mapping[str, str], scored: Iterable[str]) -> Contamination:
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

    Returns
    -------
    Contamination
        ``test_overlap`` where a scored volume was seen with labels, ``unlabeled_overlap`` where one was seen without,
        ``train_overlap`` where only other volumes of the run were seen with labels, ``none`` where nothing that
        matters was, ``unknown`` where the card does not say what was seen.
    """
    content = read_seen(card_folder)
    if content is None:
        return Contamination(dataset=dataset, status="unknown", evidence="the weights come without a list of volumes")
    seen = {digest for part in content["datasets"] for digest in part["trained"].values()}
    scored = set(scored)
    touched = sorted(case for case in scored if images[case] in seen)
    others = sorted(case for case in images if case not in scored and images[case] in seen)
    how = "with labels" if content["labelled"] else "without labels"
    if touched:
        status = "test_overlap" if content["labelled"] else "unlabeled_overlap"
        evidence = f"{len(touched)} of {len(scored)} scored volumes were seen in pretraining {how}: {_some(touched)}"
    elif others:
        status = "train_overlap" if content["labelled"] else "none"
        evidence = (
            f"no scored volume was seen in pretraining; {len(others)} other volumes of this run were, {how}: "
            f"{_some(others)}"
        )
    else:
        status, evidence = "none", f"none of the {len(images)} volumes of this run was seen in pretraining"
    return Contamination.model_validate({"dataset": dataset, "status": status, "evidence": f"{evidence} (by content)"})


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
