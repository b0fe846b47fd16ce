"""An nnU-Net results folder as a scored record, marked with everything that is not known about it.

nnU-Net v2 leaves, for each fold, the predictions of its validation cases with a ``summary.json``, and ``plans.json``
above. The predictions are scored here again with our definitions; its own Dice must agree with ours.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness.cards.dataset import DatasetCard
from harness.cards.library import dataset_card
from harness.data.check import check
from harness.data.fingerprint import fingerprint
from harness.data.layouts import locate_set
from harness.data.reading import as_labels, read, write_labels
from harness.errors import UserError
from harness.records import fields
from harness.records.build import assemble
from harness.records.cases import case_rows
from harness.records.environment import Environment, describe
from harness.records.store import write
from harness.score import class_numbers, label_files, score_folders
from harness.scoring.definitions import definition

__all__ = ["import_nnunet"]

_NOT_SAID = "nnU-Net's results folder does not say"
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class _Results:
    """What could be read from one fold's folder."""

    folder: Path
    fold: int
    configuration: str
    plans: dict[str, Any]
    dice: dict[str, dict[int, float]]
    values: list[int] | None


def import_nnunet(
    folder: Path,
    dataset: str,
    out: Path,
    *,
    metrics: tuple[str, ...] = ("dice", "hd95"),
    cards: tuple[Path, ...] = (),
    root: Path | None = None,
    workers: int = 1,
) -> Path:
    """Score the validation predictions of one nnU-Net fold and write a record.

    Parameters
    ----------
    folder : Path
        ``…/<trainer>__<plans>__<configuration>/fold_K``, with ``validation/`` in it.
    dataset : str
        Id of the data set card whose references and case ids the predictions have.
    out : Path
        Folder of the new record.
    metrics : tuple of str
        What to score; Dice is compared with nnU-Net's own.
    cards, root, workers
        Own cards, where the data set lies, cases at once.

    Returns
    -------
    Path
        The record's folder.

    Raises
    ------
    UserError
        A part of the folder is missing, ids do not match, or nnU-Net's Dice differs from ours.
    """
    results = _read_results(folder)
    card, card_folder = dataset_card(dataset, cards)
    card, cases = locate_set(card, card_folder, root)
    predictions = label_files(folder / "validation")
    stray = sorted(set(predictions) - set(cases))
    if stray:
        raise UserError(f"{len(stray)} predictions are no case of {card.id}: {', '.join(stray[:8])}.")
    wanted = {case: cases[case] for case in predictions}
    report = check(card, wanted, workers=workers)
    report.refuse()
    with tempfile.TemporaryDirectory() as temporary:
        predictions = _renumbered(predictions, results.values, Path(temporary))
        scores = score_folders(predictions, wanted, card.classes, metrics, workers=workers)
    _compare(scores.rows, results.dice, card)

    rows = case_rows(scores.rows, class_numbers(card.classes), predictions=scores.hashes)
    environment = _unknown_environment()
    config = {
        "imported_from": "nnunetv2",
        "configuration": results.configuration,
        "fold": results.fold,
        "plans": results.plans,
    }
    config_yaml = yaml.safe_dump(config, sort_keys=True)
    hashes = fields.Fingerprint(all=None, scored=fingerprint(report.facts))
    parts = _parts(results, card, len(predictions), hashes)
    unknown = _reasons({**parts, "env": environment.env, "hardware": environment.hardware})
    record = assemble(
        kind="fine_tune",
        environment=environment,
        cases=rows,
        config_yaml=config_yaml,
        loading=None,
        log_path=None,
        predictions=scores.hashes,
        evidence=card.evidence,
        metric_order=[definition(metric).record_id for metric in metrics],
        reasons=unknown,
        **parts,
    )
    write(out, record, rows, config_yaml, None, None, scores.hashes)
    return out


def _read_results(folder: Path) -> _Results:
    match = folder.name.removeprefix("fold_")
    top = folder.parent
    if not match.isdigit() or top.name.count("__") != 2:
        raise UserError(
            f"{folder} is no fold of an nnU-Net v2 results folder; name …/<trainer>__<plans>__<configuration>/fold_0."
        )
    configuration = top.name.split("__")[2]
    plans = _json(top / "plans.json")
    chosen = plans.get("configurations", {}).get(configuration, {})
    kept = {name: chosen.get(name) for name in ("patch_size", "batch_size", "spacing", "normalization_schemes")}
    summary = _json(folder / "validation" / "summary.json")
    dice: dict[str, dict[int, float]] = {}
    for entry in summary.get("metric_per_case", []):
        case = Path(entry["prediction_file"]).name.split(".")[0]
        dice[case] = {int(label): float(found["Dice"]) for label, found in entry["metrics"].items() if label.isdigit()}
    values = _label_values(top / "dataset.json")
    if values is not None:
        dice = {
            case: {values[label]: value for label, value in found.items() if label < len(values)}
            for case, found in dice.items()
        }
    return _Results(folder, int(match), configuration, {"name": plans.get("plans_name"), **kept}, dice, values)


def _label_values(path: Path) -> list[int] | None:
    """Return the card's value of each of nnU-Net's labels, where `harness data export` had to number them anew."""
    values = _json(path).get("harness", {}).get("label_values") if path.is_file() else None
    return None if values is None or values == list(range(len(values))) else [int(value) for value in values]


def _renumbered(predictions: Mapping[str, Path], values: list[int] | None, folder: Path) -> dict[str, Path]:
    """Write the predictions with the card's label values; nnU-Net's ``ignore`` is never predicted."""
    if values is None:
        return dict(predictions)
    found = {}
    for case, path in predictions.items():
        volume = read(path)
        labels = as_labels(volume)
        if int(labels.max()) >= len(values):
            raise UserError(f"{path} holds the label {int(labels.max())}; dataset.json lists {len(values)} labels.")
        found[case] = folder / f"{case}.nii.gz"
        write_labels(found[case], np.asarray(values)[labels], volume)
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read {path}, which belongs to an nnU-Net results folder: {error}.") from error
    return content


def _compare(rows: list[dict[str, Any]], dice: dict[str, dict[int, float]], card: DatasetCard) -> None:
    """Refuse predictions that are not those of the summary: same voxels must give the same Dice."""
    for row in rows:
        values = card.classes[row["class"]]
        stated = dice.get(row["case_id"], {}).get(values[0]) if len(values) == 1 else None
        if row["metric"] != "dice" or stated is None or (math.isnan(stated) and row["state"] == "both_empty"):
            continue
        if not abs(stated - float(row["value"])) <= _TOLERANCE:
            raise UserError(
                f"Case {row['case_id']!r}, {row['class']}: summary.json says Dice {stated:.6f}, the files give "
                f"{row['value']:.6f}. Predictions, references or label numbers are not those that nnU-Net scored."
            )


def _parts(results: _Results, card: DatasetCard, num_scored: int, hashes: fields.Fingerprint) -> dict[str, Any]:
    plans = results.plans
    spacing = plans.get("spacing")
    patch = plans.get("patch_size")
    return {
        "model": fields.Model(
            id="nnunet_v2",
            variant=results.configuration,
            adapter_version=None,
            parameters=fields.Parameters(total=None, trainable=None),
            init="scratch",
        ),
        "weights": fields.Weights(state_sha256=None, loaded_fraction=0.0, final_sha256=None),
        "dataset": fields.Dataset(
            id=card.id,
            card_version=card.version,
            fingerprint=hashes,
            n_cases=fields.CaseCounts(train=None, val=num_scored, test=0),
            label_map={str(value): name for value, name in card.labels.items()},
            regions=card.regions,
            excluded=(),
        ),
        "split": fields.Split(
            id=f"nnunet-fold{results.fold}", sha256=None, fold=results.fold, scored_role="val_independent"
        ),
        "protocol": fields.Protocol(
            id=f"nnunet_v2_{results.configuration}",
            spacing=tuple(spacing) if spacing and len(spacing) == 3 else None,
            orientation=None,
            intensity=None,
            patch=tuple(patch) if patch and len(patch) == 3 else None,
            batch=plans.get("batch_size"),
            patches_per_case=None,
            optimizer=None,
            lr=None,
            schedule=None,
            loss=None,
            steps=None,
            epochs=None,
            samples_seen=None,
            selection=None,
            inference=None,
        ),
        "seeds": fields.Seeds(python=None, numpy=None, torch=None, data=None, init=None),
        "deterministic": fields.Deterministic(cudnn_benchmark=None, algorithms=None, tf32=None, amp=None),
        "cost": fields.Cost(
            wall=None, gpu_hours=None, peak_gpu_memory=None, allocator=None, seconds_per_case=None, resumed=0
        ),
        "submitter": fields.Submitter(handle=None, affiliation=None, relation=None),
    }


def _unknown_environment() -> Environment:
    """Return our own code, which scored, and nothing about the machine that trained."""
    here = describe()
    env = fields.Env(python=None, torch=None, cuda=None, cudnn=None, monai=None, driver=None, lock_sha256=None)
    hardware = fields.Hardware(gpu=None, gpu_count=None, gpu_memory=None)
    return Environment(here.harness, env, hardware, {}, "")


def _reasons(parts: Mapping[str, Any]) -> dict[str, str]:
    """Give the reason for every field that is null."""
    found: dict[str, str] = {}
    for path, part in parts.items():
        if isinstance(part, fields.Part):
            found |= _reasons({f"{path}.{name}": getattr(part, name) for name in type(part).model_fields})
        elif part is None:
            found[path] = _NOT_SAID
    return found
