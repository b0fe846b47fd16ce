"""Scoring what anything predicted: a folder of label maps against a folder of references, case by case.

Nothing is resampled and no case is guessed: ids are matched, geometry is compared, and what is missing or too many is
refused unless the caller says what it counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.cards.dataset import DatasetCard
from harness.data.case import Case
from harness.data.fingerprint import label_map_sha256
from harness.data.layouts import find_cases
from harness.data.reading import as_labels, read
from harness.data.reference import Reference, read_reference
from harness.errors import UserError
from harness.files import write_json, write_text
from harness.progress import track
from harness.records.cases import CaseRow, case_rows, to_csv
from harness.records.sums import kept_sums
from harness.scoring import score
from harness.scoring.definitions import definition
from harness.scoring.soft import SOFT_METRICS, SoftStatistics, score_soft
from harness.scoring.summary import Summary, summarise

__all__ = [
    "FolderScores",
    "Missing",
    "class_numbers",
    "label_files",
    "reference_cases",
    "score_folders",
    "write_scores",
]

Missing = Literal["refuse", "skip", "empty"]
_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
_TOLERANCE_MM = 1e-3  # how far the corners of prediction and reference may lie apart
_SHOWN = 8


@dataclass(frozen=True)
class FolderScores:
    """Scores of a folder.

    Attributes
    ----------
    rows : list of dict
        Raw rows of `harness.scoring.score`, with ``case_id`` and ``spacing``.
    hashes : dict of str to str
        Case id to the hash of its predicted label map.
    summary : Summary
        Means under the policy.
    skipped : tuple of str
        Cases without a prediction that were left out because the caller said so.
    """

    rows: list[dict[str, Any]]
    hashes: dict[str, str]
    summary: Summary
    skipped: tuple[str, ...]


def label_files(folder: Path) -> dict[str, Path]:
    """Return the volumes of a folder by case id: the file's name without its ending.

    Raises
    ------
    UserError
        The folder does not exist, holds no volume, or holds two for one case.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}. Name a folder with one label map per case.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((ending for ending in _SUFFIXES if path.name.lower().endswith(ending)), None)
        if suffix is None or path.name.startswith("."):
            continue
        case = path.name[: -len(suffix)]
        if case in found:
            raise UserError(f"Case {case!r} has two files, {found[case].name} and {path.name}. Move one of them away.")
        found[case] = path
    if not found:
        raise UserError(f"No volume ({', '.join(_SUFFIXES)}) lies in {folder}.")
    return found


def reference_cases(folder: Path, card: DatasetCard | None) -> dict[str, Case]:
    """Return the references by case id: in the data set's own layout where the folder has it, else file by file."""
    if card is not None:
        try:
            cases = find_cases(card, folder)
        except UserError:
            cases = {}
        labelled = {case: files for case, files in cases.items() if files.label is not None or files.structures}
        if labelled:
            return labelled
    return {case: Case(case, (), path) for case, path in label_files(folder).items()}


def score_folders(
    predictions: Mapping[str, Path],
    references: Mapping[str, Case],
    classes: Mapping[str, Sequence[int]],
    metrics: Sequence[str],
    *,
    policy: str = "adopted",
    missing: Missing = "refuse",
    ignore_extra: bool = False,
    workers: int = 1,
    sums: Path | None = None,
) -> FolderScores:
    """Score every reference case.

    Parameters
    ----------
    predictions : mapping of str to Path
        By case id.
    references : mapping of str to Case
        By case id; what nobody drew in a case is not scored there.
    classes : mapping of str to sequence of int
        What is scored, and the label values that make it up.
    metrics : sequence of str
        Such as ``dice``, ``hd95``, ``nsd@2``.
    policy : str
        What empty masks count.
    missing : {"refuse", "skip", "empty"}
        What a reference without a prediction means: an error, a case left out (and listed), or an empty prediction.
    ignore_extra : bool
        Whether predictions without a reference are left alone.
    workers : int
        Cases scored at the same time, in threads.
    sums : Path, optional
        Folder with ``<case>.json`` of sums over probabilities, for the metrics that label maps cannot give.

    Raises
    ------
    UserError
        Ids do not match, a grid differs, a file cannot be read, or a prediction holds a label that is no class.
    """
    for metric in metrics:
        definition(metric)
    hard = [metric for metric in metrics if metric not in SOFT_METRICS]
    soft = [metric for metric in metrics if metric in SOFT_METRICS]
    absent, extra = sorted(set(references) - set(predictions)), sorted(set(predictions) - set(references))
    if absent and missing == "refuse":
        raise UserError(
            f"{len(absent)} of {len(references)} cases have no prediction: {_some(absent)}. Complete the folder or say "
            "what they count with --missing skip or --missing empty."
        )
    if extra and not ignore_extra:
        raise UserError(
            f"{len(extra)} predictions have no reference: {_some(extra)}. Remove them, or say --ignore-extra."
        )
    if not set(references) & set(predictions):
        raise UserError("No case has both a prediction and a reference, so there is nothing to score.")
    scored = [case for case in sorted(references) if case in predictions or missing == "empty"]

    def one(case: str) -> tuple[list[dict[str, Any]], str]:
        rows, digest = _score_case(case, predictions.get(case), references[case], classes, hard or ["dice"])
        place = {"case_id": case, "spacing": rows[0]["spacing"]}
        kept = _read_sums(sums, case, soft) if soft else {}
        undrawn = {str(row["class"]) for row in rows if row["state"] == "not_annotated"}
        softly = [{**row, **place} for row in score_soft(kept, soft, not_annotated=undrawn)]
        return (rows if hard else []) + softly, digest

    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = list(track(pool.map(one, scored), "scoring", total=len(scored)))
    rows = [row for found, _ in results for row in found]
    hashes = {case: digest for case, (_, digest) in zip(scored, results, strict=True)}
    skipped = tuple(case for case in absent if missing == "skip")
    return FolderScores(rows, hashes, summarise(rows, policy), skipped)


def _score_case(
    case: str, prediction: Path | None, reference: Case, classes: Mapping[str, Sequence[int]], metrics: Sequence[str]
) -> tuple[list[dict[str, Any]], str]:
    truth = read_reference(reference)
    labels = np.zeros(truth.labels.shape, np.uint8) if prediction is None else _read_prediction(prediction, case, truth)
    known = {0, *(value for values in classes.values() for value in values)}
    unknown = sorted(set(np.unique(labels).tolist()) - known - set(np.unique(truth.labels).tolist()))
    if unknown:
        raise UserError(
            f"Case {case!r}: the prediction holds the labels {unknown}, which are no class here ({sorted(known)}). "
            "Map them, or name the classes with --labels."
        )
    plain = {name: list(values) for name, values in classes.items()}
    undrawn = [name for name, values in classes.items() if truth.not_annotated.intersection(values)]
    rows = score(labels, truth.labels, truth.grid.spacing, plain, metrics, not_annotated=undrawn)
    return [{**row, "case_id": case, "spacing": truth.grid.spacing} for row in rows], label_map_sha256(labels)


def _read_sums(folder: Path | None, case: str, metrics: Sequence[str]) -> dict[str, SoftStatistics]:
    if folder is None:
        raise UserError(
            f"{', '.join(metrics)} cannot be computed from label maps, and no sums of probabilities were given. A run "
            "with protocol.scoring.sums=true keeps them; `harness rescore` reads them."
        )
    return kept_sums(folder, case)


def _read_prediction(path: Path, case: str, truth: Reference) -> NDArray[Any]:
    volume = read(path)
    apart = truth.grid.difference(volume.grid)
    if apart > _TOLERANCE_MM:
        raise UserError(
            f"Case {case!r}: prediction and reference do not lie on one grid ({volume.grid.shape} and "
            f"{truth.grid.shape} voxels, corners {apart:.3g} mm apart). Resample it to the grid of the reference "
            "yourself, so that how it was done is known."
        )
    return as_labels(volume)


def class_numbers(classes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Give a number to what is scored: labels by their value; where any class is a region, all from 1 by name."""
    if all(len(values) == 1 for values in classes.values()):
        return {name: values[0] for name, values in classes.items()}
    return {name: number for number, name in enumerate(sorted(classes), start=1)}


def write_scores(
    scores: FolderScores, classes: Mapping[str, Sequence[int]], policy: str, out: Path
) -> tuple[Path, Path]:
    """Write ``cases.csv`` and ``summary.json``; return both paths."""
    rows: list[CaseRow] = case_rows(scores.rows, class_numbers(classes), policy=policy, predictions=scores.hashes)
    write_text(out / "cases.csv", to_csv(rows))
    metrics = {
        name: {**_finite(asdict(found)), "definition_sha256": definition(name).sha256, "unit": definition(name).unit}
        for name, found in scores.summary.metrics.items()
    }
    content = {
        "policy": scores.summary.policy,
        "n_cases": scores.summary.n_cases,
        "skipped": list(scores.skipped),
        "metrics": metrics,
    }
    write_json(out / "summary.json", content)
    return out / "cases.csv", out / "summary.json"


def _finite(value: Any) -> Any:
    """Replace what JSON has no word for (the interval of a single case) by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
