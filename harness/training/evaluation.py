"""From a network to scored scans: predict, put back into the scan's own grid, compare with the reference there."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.data.cache import Cache
from harness.data.fingerprint import label_map_sha256
from harness.data.layouts import Case
from harness.data.reading import write_labels
from harness.data.reference import read_reference
from harness.inference.native import restore, to_labels
from harness.inference.settings import Inference
from harness.inference.sliding_window import predict_logits
from harness.progress import track
from harness.scoring import score

__all__ = ["Evaluator", "Scored", "predict_and_score"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluator:
    """Predicts and scores whole scans.

    Attributes
    ----------
    cache : Cache
        Prepared volumes and the way back to each scan's grid.
    cases : mapping of str to Case
        Where the references lie.
    classes : mapping of str to tuple of int
        Label values that make up each scored class.
    patch : tuple of int
        Size of the sliding window, in the network's axes.
    settings : Inference
        Overlap, blending, window batch, test-time flips.
    device : torch.device
        Where the network lives.
    """

    cache: Cache
    cases: Mapping[str, Case]
    classes: Mapping[str, tuple[int, ...]]
    patch: tuple[int, int, int]
    settings: Inference
    device: torch.device

    def predict(self, network: nn.Module, case: str) -> NDArray[np.integer[Any]]:
        """Return the label map of one scan, in its own grid and with the data set's label values."""
        prepared = self.cache.case(case)
        volume = torch.from_numpy(np.asarray(prepared.image, dtype=np.float32))
        logits = predict_logits(network, volume, self.settings, self.patch, self.device, fill=prepared.fill[0])
        return restore(to_labels(logits, self.settings.activation, self.cache.label_values), prepared.spec)

    def score(self, prediction: NDArray[np.integer[Any]], case: str, metrics: Sequence[str]) -> list[Row]:
        """Return one row per class and metric, as `harness.scoring.score` gives them, with the case's id."""
        reference = read_reference(self.cases[case])
        classes = {name: list(values) for name, values in self.classes.items()}
        undrawn = [name for name, values in classes.items() if reference.not_annotated.intersection(values)]
        spacing = reference.grid.spacing
        rows = score(prediction, reference.labels, spacing, classes, list(metrics), not_annotated=undrawn)
        return [{**row, "case_id": case, "spacing": spacing} for row in rows]

    def mean_dice(self, network: nn.Module, cases: Sequence[str]) -> float:
        """Return the mean over cases of the mean Dice over classes; what is empty in both counts nowhere."""
        means = []
        for case in cases:
            values = [float(row["value"]) for row in self.score(self.predict(network, case), case, ["dice"])]
            defined = [value for value in values if not math.isnan(value)]
            if defined:
                means.append(sum(defined) / len(defined))
        if not means:
            raise ValueError("no validation case has any class, so there is nothing to select by")
        return sum(means) / len(means)


@dataclass(frozen=True)
class Scored:
    """What `predict_and_score` found.

    Attributes
    ----------
    rows : list of dict
        One per case, class and metric.
    hashes : dict of str to str
        Per case the hash of the predicted label map.
    case_seconds : dict of str to float
        Seconds of inference per case.
    score_seconds : float
        Seconds of scoring, over all cases.
    """

    rows: list[Row]
    hashes: dict[str, str]
    case_seconds: dict[str, float]
    score_seconds: float


def predict_and_score(
    evaluator: Evaluator, network: nn.Module, cases: Sequence[str], metrics: Sequence[str], folder: Path
) -> Scored:
    """Predict and score every case, and keep each prediction as ``<folder>/<case>.nii.gz``.

    The file has the affine of the case's own image; it is written whole or not at all.
    """
    rows: list[Row] = []
    hashes: dict[str, str] = {}
    case_seconds: dict[str, float] = {}
    score_seconds = 0.0
    for case in track(cases, "predicting and scoring"):
        begin = time.perf_counter()
        prediction = evaluator.predict(network, case)
        case_seconds[case] = time.perf_counter() - begin
        write_labels(folder / f"{case}.nii.gz", prediction, evaluator.cases[case].images[0])
        hashes[case] = label_map_sha256(prediction)
        begin = time.perf_counter()
        rows += evaluator.score(prediction, case, metrics)
        score_seconds += time.perf_counter() - begin
    return Scored(rows, hashes, case_seconds, score_seconds)
