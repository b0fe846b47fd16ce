"""Trained runs as a tool: label maps for a folder of scans that belong to no data set.

A network is taken from its run's checkpoint and must hash to what its record says was scored; the scans go through the
run's own preprocessing, and the label maps lie on the scans' own grids. Runs that differ in fold or seed answer as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.adapters.weights import locate
from harness.cards.dataset import DatasetCard
from harness.cards.library import dataset_card, model_card
from harness.checkpoints.hashing import state_sha256
from harness.config import RunConfig
from harness.data.contract import meet
from harness.data.layouts import Case
from harness.data.placement import placed
from harness.data.preprocessing import prepare_image
from harness.data.reading import read, write_labels
from harness.data.settings import Preprocessing
from harness.errors import HarnessError, UserError
from harness.files import write_json
from harness.inference.ensemble import Ensemble
from harness.inference.sliding_window import predict_native
from harness.progress import say, track
from harness.records.build import parse_config
from harness.records.runfolder import RunFolder
from harness.records.store import load
from harness.training.device import Numerics, choose_device, use_determinism
from harness.training.regions import Regions
from harness.training.session import Session

__all__ = ["Predictor", "ensemble", "find_scans", "predict", "trained"]

_VOLUME = re.compile(r"^(?P<stem>.+?)(\.nii\.gz|\.nii|\.mha|\.mhd|\.nrrd|\.nhdr)$", re.IGNORECASE)
_NUMBERED = re.compile(r"^(?P<case>.+)_(?P<number>\d{4})$")  # as nnU-Net names channels


@dataclass(frozen=True)
class Predictor:
    """A trained network with everything between a scan and its label map.

    Attributes
    ----------
    network : nn.Module
        On ``device``, in evaluation mode; one network, or an `Ensemble` of several.
    config : RunConfig
        Of the run, or the first of several, without its paths.
    data : DatasetCard
        Gives channels and label values.
    preprocessing : Preprocessing
        As the run's volumes were prepared.
    device : torch.device
        Where the network is.
    """

    network: nn.Module
    config: RunConfig
    data: DatasetCard
    preprocessing: Preprocessing
    device: torch.device

    def predict(self, images: Sequence[Path]) -> NDArray[np.integer[Any]]:
        """Return the label map of one scan on its own grid, with the data set's label values.

        Parameters
        ----------
        images : sequence of Path
            One file per channel in the order of the data set card, or one file with the channels on its last axis.

        Raises
        ------
        UserError
            A file cannot be read or does not say where it lies in the body, or the channels differ in number or grid.
        """
        volumes = [read(path) for path in images]
        for volume in volumes[1:]:
            if volume.grid.shape != volumes[0].grid.shape or not np.allclose(
                volume.grid.matrix, volumes[0].grid.matrix, atol=1e-3
            ):
                raise UserError(f"{volume.path} is on another grid than {volumes[0].path}; register and resample them.")
        allow = self.config.protocol.input.allow_unplaced
        for rule in placed({images[0].name: Case(images[0].name, tuple(images), None)}, allow=allow):
            say(rule)
        channels = [
            part
            for volume in volumes
            for part in ([volume.data] if volume.data.ndim == 3 else np.moveaxis(volume.data, -1, 0))
        ]
        if len(channels) != len(self.data.channels):
            raise UserError(
                f"{images[0]} has {len(channels)} channels, the network was trained on {len(self.data.channels)} "
                f"({', '.join(self.data.channels)})."
            )
        prepared = prepare_image(channels, volumes[0].grid, self.preprocessing)
        # through the type of the cache, so that a scan of the data set gets the very label map of the run
        stored = prepared.image.astype(self.preprocessing.dtype).astype(np.float32)
        protocol, values = self.config.protocol, tuple(sorted(self.data.labels))
        found = predict_native(
            self.network,
            torch.from_numpy(stored),
            prepared.spec,
            protocol.inference,
            protocol.patches.size,
            self.device,
            values=values,
            fill=prepared.fill,
        )
        if protocol.inference.activation == "softmax":
            return found
        return Regions.of(self.data.classes, values).paint(found)


def trained(run: Path, cards: Sequence[Path] = (), device_name: str = "auto", weights: Path | None = None) -> Predictor:
    """Take the network of a finished run.

    Parameters
    ----------
    run : Path
        Its folder (the one with ``run.json``), or the record's folder in it.
    cards : sequence of Path
        Folders of own cards that the run was started with.
    device_name : str
        auto, cpu, cuda or cuda:N.
    weights : Path, optional
        The released file, where the run scored one as it is and it is not in its usual place.

    Raises
    ------
    UserError
        It is no finished run, its checkpoint is gone, or a card is missing.
    HarnessError
        The checkpoint does not hash to the weights that the record says were scored.
    """
    folder = RunFolder(run.parent if run.name == "record" and (run / "record.json").is_file() else run)
    if not folder.is_complete:
        raise UserError(f"{run} holds no finished run: there is no record/record.json in it. `harness list runs`.")
    record = load(folder.record)
    science = parse_config((folder.record / "config.yaml").read_text(encoding="utf-8"))
    science.pop("input_rules", None)
    config = RunConfig.model_validate({**science, "cards": list(cards)})
    protocol = config.protocol
    model, model_folder = model_card(config.model, cards)
    model.refuse_unsupported()
    data, _ = dataset_card(config.dataset, cards)
    device = choose_device(device_name)
    use_determinism(protocol.training.deterministic, device)
    outputs = len(data.classes) if protocol.inference.activation == "sigmoid" else len(data.labels)
    released = config.init == "released"
    task = Task("published" if released else "segmentation", len(data.channels), outputs, protocol.patches.size)
    file = locate(model, model_folder, weights) if released else None
    built = build(model, task, protocol.network.get(model.adapter, {}), file)
    numerics = Numerics(protocol.training, device)
    if released:
        network = numerics.place(built.network).eval()
    else:
        if not any(folder.checkpoints.glob("*.pt")):
            raise UserError(
                f"The checkpoints of {folder.path} are gone, so its network cannot be restored. Run it again."
            )
        session = Session(built.network, protocol.training, folder.checkpoints, numerics, parts=built.parts)
        try:
            session.resume()
        except (KeyError, TypeError, RuntimeError, ValueError) as error:  # of another network or other settings
            raise HarnessError(f"The checkpoint in {folder.checkpoints} is not of this run: {error}") from error
        session.finish()
        network = session.network
    found = state_sha256(network.state_dict())
    if found != record.weights.final_sha256:
        raise HarnessError(
            f"The network restored from {folder.path} hashes to {found[:12]}…, the record says that "
            f"{str(record.weights.final_sha256)[:12]}… was scored. Its checkpoint is another run's or was changed."
        )
    meeting = meet(model.contract, data, protocol.input)
    return Predictor(network, config, data, meeting.preprocessing, device)


def ensemble(predictors: Sequence[Predictor]) -> Predictor:
    """Let several trained networks answer as one, by the mean of their probabilities.

    Parameters
    ----------
    predictors : sequence of Predictor
        From `trained`, on one device. One alone is returned as it is.

    Raises
    ------
    UserError
        They do not see a scan alike: another data set, preprocessing, patch or way of predicting.
    """
    first, *others = predictors
    for other in others:
        for name, mine, its in (
            ("data set", first.data, other.data),
            ("preprocessing", first.preprocessing, other.preprocessing),
            ("patch", first.config.protocol.patches.size, other.config.protocol.patches.size),
            ("inference", first.config.protocol.inference, other.config.protocol.inference),
        ):
            if mine != its:
                raise UserError(
                    f"{other.config.cell} differs from {first.config.cell} in its {name}, so they do not see a scan "
                    "alike. Put together only runs that differ in seed, fold or model."
                )
    if not others:
        return first
    return replace(
        first, network=Ensemble([one.network for one in predictors], first.config.protocol.inference.activation).eval()
    )


def find_scans(folder: Path, channels: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Find the scans of a folder.

    Parameters
    ----------
    folder : Path
        With one file per scan, or one per channel: ``<case>_<channel>.nii.gz`` by the names of the data set card
        (whatever their case), or ``<case>_0000.nii.gz`` by number. A folder inside it is one DICOM series.
    channels : sequence of str
        Names in the order of the card.

    Returns
    -------
    dict of str to tuple of Path
        Case to its files, sorted.

    Raises
    ------
    UserError
        The folder is not there or holds no scan, or a scan lacks a channel.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder of scans at {folder}.")
    names = [channel.lower() for channel in channels]
    parts: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or (path.is_file() and not _VOLUME.match(path.name)):
            continue
        match = _VOLUME.match(path.name)
        stem = match["stem"] if match and path.is_file() else path.name
        case, number = _place(stem, names)
        if number in parts.setdefault(case, {}):
            raise UserError(
                f"{path} and {parts[case][number]} are both channel {number} of {case}. Remove one of them."
            )
        parts[case][number] = path
    if not parts:
        raise UserError(f"No scan was found in {folder}: expected .nii.gz, .nii, .mha, .nrrd or folders of DICOM.")
    for case, files in parts.items():
        whole = set(files) == {0} or set(files) == set(range(len(channels)))  # one file may hold all channels
        if not whole:
            lacking = [channels[index] for index in range(len(channels)) if index not in files]
            raise UserError(
                f"The scan {case} in {folder} lacks {', '.join(lacking) or 'nothing, but has too many files'}."
            )
    return {case: tuple(files[number] for number in sorted(files)) for case, files in parts.items()}


def _place(stem: str, names: Sequence[str]) -> tuple[str, int]:
    """Divide a file's stem into its case and the number of its channel."""
    numbered = _NUMBERED.match(stem)
    if numbered and int(numbered["number"]) < len(names):
        return numbered["case"], int(numbered["number"])
    if len(names) > 1:
        # the longest name first: t1ce ends with no other name, but _t1 could end a name of its own
        for number, name in sorted(enumerate(names), key=lambda pair: -len(pair[1])):
            if stem.lower().endswith(f"_{name}") and len(stem) > len(name) + 1:
                return stem[: -len(name) - 1], number
    return stem, 0


def predict(
    predictor: Predictor, scans: Mapping[str, Sequence[Path]], out: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write the label map of every scan as ``<case>.nii.gz``, whole or not at all, with the scan's own geometry.

    Parameters
    ----------
    predictor : Predictor
        From `trained`.
    scans : mapping of str to sequence of Path
        From `find_scans`.
    out : Path
        The folder; ``labels.json`` in it says what the values mean.
    overwrite : bool
        Predict again what lies there; otherwise it is left alone, so that an interrupted call goes on.

    Returns
    -------
    list of Path
        The files, in the order of the scans.

    Raises
    ------
    UserError
        A scan cannot be read or does not suit the network; label maps written before it stay.
    """
    targets = {case: out / f"{case}.nii.gz" for case in scans}
    to_do = [case for case, target in targets.items() if overwrite or not target.is_file()]
    if len(to_do) < len(scans):
        say(f"{len(scans) - len(to_do)} label maps lie in {out} already and stay")
    write_json(out / "labels.json", {str(value): name for value, name in sorted(predictor.data.labels.items())})
    for case in track(to_do, "predicting"):
        write_labels(targets[case], predictor.predict(scans[case]), scans[case][0])
    return list(targets.values())
