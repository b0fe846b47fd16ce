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
from torch import Tensor, nn

from harness.data.cache import Cache, PreparedCase
from harness.data.fingerprint import label_map_sha256
from harness.data.layouts import Case
from harness.data.reading import write_labels
from harness.data.reference import read_reference
from harness.files import write_json
from harness.inference.native import restore, restore_logits, to_labels
from harness.inference.settings import Inference
from harness.inference.sliding_window import predict_logits, predict_native
from harness.progress import track
from harness.scoring import score
from harness.scoring.soft import SOFT_METRICS, SoftStatistics, score_soft, sufficient_statistics
from harness.training.distributed import World, current
from harness.training.regions import Regions

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
        prepared, volume = self._volume(case)
        found = predict_native(
            network,
            volume,
            prepared.spec,
            self.settings,
            self.patch,
            self.device,
            values=self.cache.label_values,
            fill=prepared.fill,
        )
        return self._one_map(found)

    def _one_map(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Paint the masks of overlapping regions into one label map; a label map stays as it is."""
        if self.settings.activation == "softmax":
            return labels
        return Regions.of(self.classes, self.cache.label_values).paint(labels)

    def predict_with_sums(
        self, network: nn.Module, case: str
    ) -> tuple[NDArray[np.integer[Any]], dict[str, SoftStatistics]]:
        """Return the label map and, per class, the sums over probabilities that soft metrics are computed from.

        Probabilities are brought to the scan's own grid by linear interpolation. This holds all logits of the scan,
        which `predict` never does.
        """
        prepared, volume = self._volume(case)
        activation, values = self.settings.activation, self.cache.label_values
        logits = predict_logits(network, volume, self.settings, self.patch, self.device, fill=prepared.fill)
        if self.settings.restoration == "logits":
            labels = restore_logits(logits, prepared.spec, activation, values)
        else:
            labels = restore(to_labels(logits, activation, values), prepared.spec)
        reference = read_reference(self.cases[case]).labels
        sums = {}
        for number, (name, members) in enumerate(self.classes.items()):
            if activation == "softmax":
                channels = [values.index(value) for value in members]
                probability = logits.softmax(dim=0)[channels].sum(dim=0)
            else:
                probability = logits[number].sigmoid()
            native = prepared.spec.restore(probability.numpy(), order="linear", fill=0.0)
            sums[name] = sufficient_statistics(np.clip(native, 0.0, 1.0), np.isin(reference, members))
        return self._one_map(labels), sums

    def _volume(self, case: str) -> tuple[PreparedCase, Tensor]:
        prepared = self.cache.case(case)
        return prepared, torch.from_numpy(np.asarray(prepared.image, dtype=np.float32))

    def score(self, prediction: NDArray[np.integer[Any]], case: str, metrics: Sequence[str]) -> list[Row]:
        """Return one row per class and metric, as `harness.scoring.score` gives them, with the case's id."""
        reference = read_reference(self.cases[case])
        classes = {name: list(values) for name, values in self.classes.items()}
        undrawn = [name for name, values in classes.items() if reference.not_annotated.intersection(values)]
        spacing = reference.grid.spacing
        rows = score(prediction, reference.labels, spacing, classes, list(metrics), not_annotated=undrawn)
        return [{**row, "case_id": case, "spacing": spacing} for row in rows]

    def mean_dice(self, network: nn.Module, cases: Sequence[str]) -> float:
        """Return the mean over cases of the mean Dice over classes; what is empty in both counts nowhere.

        The cases are shared out over the ranks, and every rank gets the mean over all of them.
        """
        found: dict[str, float] = {}
        for case in current().share(cases):
            values = [float(row["value"]) for row in self.score(self.predict(network, case), case, ["dice"])]
            defined = [value for value in values if not math.isnan(value)]
            if defined:
                found[case] = sum(defined) / len(defined)
        everywhere = {case: value for part in current().gather(found) for case, value in part.items()}
        means = [everywhere[case] for case in cases if case in everywhere]
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
    evaluator: Evaluator,
    network: nn.Module,
    cases: Sequence[str],
    metrics: Sequence[str],
    folder: Path,
    sums: Path | None = None,
) -> Scored:
    """Predict and score every case, and keep what later scoring needs.

    The cases are shared out over the ranks; each is scored once, and every rank gets all that was found.

    Parameters
    ----------
    evaluator : Evaluator
        Predicts and scores one case.
    network : nn.Module
        With the weights to be scored.
    cases, metrics : sequence of str
        What is scored, and by what. Metrics of probabilities need ``sums``.
    folder : Path
        Gets each prediction as ``<case>.nii.gz`` with the affine of the case's own image, whole or not at all.
    sums : Path, optional
        Gets per case and class the sums over probabilities, as ``<case>.json``; they are formed only if it is given.
    """
    hard = [metric for metric in metrics if metric not in SOFT_METRICS]
    soft = [metric for metric in metrics if metric in SOFT_METRICS]
    rows: list[Row] = []
    hashes: dict[str, str] = {}
    case_seconds: dict[str, float] = {}
    score_seconds = 0.0
    world = current()
    mine = world.share(cases)
    for case in track(mine, "predicting and scoring") if world.is_main else mine:
        begin = time.perf_counter()
        statistics: dict[str, SoftStatistics] = {}
        if sums is None:
            prediction = evaluator.predict(network, case)
        else:
            prediction, statistics = evaluator.predict_with_sums(network, case)
            write_json(sums / f"{case}.json", {name: found.to_json() for name, found in statistics.items()})
        case_seconds[case] = time.perf_counter() - begin
        write_labels(folder / f"{case}.nii.gz", prediction, evaluator.cases[case].images[0])
        hashes[case] = label_map_sha256(prediction)
        begin = time.perf_counter()
        scored = evaluator.score(prediction, case, hard or ["dice"])  # what was drawn, and where, is in these rows
        place = {"case_id": case, "spacing": scored[0]["spacing"]}
        undrawn = {str(row["class"]) for row in scored if row["state"] == "not_annotated"}
        rows += scored if hard else []
        rows += [{**row, **place} for row in score_soft(statistics, soft, not_annotated=undrawn)]
        score_seconds += time.perf_counter() - begin
    return _together(Scored(rows, hashes, case_seconds, score_seconds), cases, world)


def _together(mine: Scored, cases: Sequence[str], world: World) -> Scored:
    """Put what all ranks found into the order of the cases."""
    parts = world.gather(mine)
    rows = [row for part in parts for row in part.rows]
    place = {case: number for number, case in enumerate(cases)}
    hashes = {case: value for part in parts for case, value in part.hashes.items()}
    seconds = {case: value for part in parts for case, value in part.case_seconds.items()}
    return Scored(
        sorted(rows, key=lambda row: place[row["case_id"]]),  # stable: within a case as they were scored
        {case: hashes[case] for case in cases},
        {case: seconds[case] for case in cases},
        sum(part.score_seconds for part in parts),
    )
