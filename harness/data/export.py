"""A data set as the raw folder of nnU-Net v2, with the same split, so that nnU-Net can be run beside us."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards.dataset import DatasetCard
from harness.data.case import Case
from harness.data.check import check
from harness.data.folders import new_folder
from harness.data.nifti_writing import write_volume
from harness.data.reading import read
from harness.data.reference import read_reference
from harness.data.roots import SYNTHETIC_MARK
from harness.data.splits import ResolvedSplit, resolve
from harness.errors import UserError
from harness.files import write_json
from harness.progress import track

__all__ = ["Exported", "export_nnunet"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    train, test : tuple of str
        Ids in ``imagesTr`` (training and validation cases of every fold) and in ``imagesTs``.
    folds : int
        Entries of ``splits_final.json``; 0: no such file, since the split has no validation cases.
    ignored : tuple of str
        Cases in which somebody left a structure undrawn: their background has nnU-Net's label ``ignore``.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    folds: int
    ignored: tuple[str, ...]


def export_nnunet(
    card: DatasetCard,
    cases: Mapping[str, Case],
    out: Path,
    *,
    split: str | None = None,
    label_fraction: float = 1.0,
    subset_seed: int = 0,
    workers: int = 1,
    cache: Path | None = None,
) -> Exported:
    """Write ``dataset.json``, ``imagesTr``, ``labelsTr``, ``imagesTs``, ``labelsTs`` and ``splits_final.json``.

    nnU-Net wants labels without gaps, so they are numbered by their order on the card; ``dataset.json`` keeps the
    card's own values under ``harness``. It looks for ``splits_final.json`` in its folder of preprocessed data.

    Parameters
    ----------
    card : DatasetCard
        A labelled set.
    cases : mapping of str to Case
        From `harness.data.layouts.find_cases`.
    out : Path
        New or empty folder.
    split : str, optional
        Of the card; the first by default.
    label_fraction, subset_seed : float, int
        Share of the training cases, as for a run.
    workers : int
        Cases at once, in threads.
    cache : Path, optional
        As for `harness.data.check.check`.

    Raises
    ------
    UserError
        The set has no labels or split, a case is missing or wrong, or the folder is not empty.
    """
    if card.task != "segmentation":
        raise UserError(f"{card.id} has no label maps ({card.task}), so nnU-Net cannot be trained on it.")
    folds = _folds(card, cases, split, label_fraction, subset_seed)
    test = tuple(folds[0].test)
    train = tuple(sorted({case for fold in folds for case in (*fold.train, *fold.val)}))
    report = check(card, cases, needed={*train, *test}, workers=workers, cache=cache)
    report.refuse()
    ignored = tuple(case for case in (*train, *test) if report.facts[case].not_annotated)
    with new_folder(out) as folder:
        places = [(case, "Tr") for case in train] + [(case, "Ts") for case in test]
        with ThreadPoolExecutor(max(1, workers)) as pool:
            done = pool.map(lambda place: _write(card, cases[place[0]], folder, place[1], bool(ignored)), places)
            for _ in track(done, f"export {card.id}", len(places)):
                pass
        write_json(folder / "dataset.json", _description(card, folds[0], len(train), bool(ignored)))
        splits = [{"train": list(fold.train), "val": list(fold.val)} for fold in folds if fold.val]
        if splits:
            write_json(folder / "splits_final.json", splits)
        if "synthetic_data" in card.evidence:
            write_json(folder / SYNTHETIC_MARK, {"synthetic": True, "dataset": card.id, "made_by": "export"})
    return Exported(train, test, len(splits), ignored)


def _folds(
    card: DatasetCard, cases: Mapping[str, Case], split: str | None, fraction: float, seed: int
) -> list[ResolvedSplit]:
    first = resolve(card, split, 0, fraction, seed, ids=cases)
    return [first, *(resolve(card, split, fold, fraction, seed, ids=cases) for fold in range(1, first.n_folds))]


def _write(card: DatasetCard, case: Case, folder: Path, part: str, ignoring: bool) -> None:
    """Write the channels and the labels of one case on one grid."""
    volumes = [read(path) for path in case.images]
    grid = volumes[0].grid
    channels = [part_ for volume in volumes for part_ in _channels(volume.data)]
    for number, channel in enumerate(channels):
        # where the header scales the values they were read as float64, which no program needs of a scan
        stored = channel.astype(np.float32) if channel.dtype == np.float64 else channel
        write_volume(folder / f"images{part}" / f"{case.id}_{number:04d}.nii.gz", stored, grid)
    reference = read_reference(case)
    values = sorted(card.labels)
    numbers = np.searchsorted(values, reference.labels).astype(np.uint8 if len(values) < 256 else np.uint16)
    if ignoring and reference.not_annotated:
        numbers[numbers == 0] = len(values)  # what looks like background may be what nobody drew
    write_volume(folder / f"labels{part}" / f"{case.id}.nii.gz", numbers, grid)


def _channels(data: NDArray[Any]) -> list[NDArray[Any]]:
    return [data] if data.ndim == 3 else [data[..., index] for index in range(data.shape[3])]


def _description(card: DatasetCard, split: ResolvedSplit, train: int, ignoring: bool) -> dict[str, Any]:
    values = sorted(card.labels)
    labels = {"background" if value == 0 else card.labels[value]: number for number, value in enumerate(values)}
    if ignoring:
        labels["ignore"] = len(values)  # nnU-Net wants it to be the last
    return {
        "name": card.id,
        "description": card.title,
        "reference": card.citation,
        "licence": card.terms.licence,
        "channel_names": {str(number): name for number, name in enumerate(card.channels)},
        "labels": labels,
        "numTraining": train,
        "file_ending": ".nii.gz",
        "harness": {
            "dataset": card.id,
            "version": card.version,
            "label_values": values,
            "regions": {name: list(part) for name, part in card.regions.items()},
            "split": split.id,
            "split_sha256": split.sha256,
            "label_fraction": split.label_fraction,
            "subset_seed": split.subset_seed,
            "evidence": list(card.evidence),
        },
    }
