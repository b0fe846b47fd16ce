"""Every shipped input contract: a scan whose header says where left, front and head are reaches the network so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.dataset import DatasetCard
from harness.cards.library import all_model_cards, model_card
from harness.cards.model import InputContract, ModelCard
from harness.data.case import Case
from harness.data.check import check
from harness.data.contract import InputChoice, meet, padded
from harness.data.patches import PatchSource
from harness.data.placement import placed
from harness.data.preprocessing import prepare
from harness.data.settings import Augmentation, Patches
from harness.errors import UserError
from harness.inference.settings import Inference
from harness.inference.sliding_window import predict_logits

SIDE = 36
WORLD = np.full((SIDE, SIDE + 4, SIDE + 8), 0.2)  # index i, j, k lies at i mm right, j mm front, k mm up
WORLD[4:9, 18:23, 20:25] = 0.45  # left
WORLD[16:21, 31:36, 20:25] = 0.7  # front
WORLD[16:21, 18:23, 35:40] = 1.0  # head
MARKS = {"R": (0.45, -1), "A": (0.7, 1), "S": (1.0, 1)}
"""Per direction: the brightness of its mark, and whether the mark lies towards that direction or away from it."""


def tilted(degrees: float) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    lean = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    return turn @ lean


def scan(kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the same body as stored in one orientation: voxels, and the affine that says where they lie."""
    if kind == "oblique":
        turn, centre = tilted(12) @ np.diag([-1.0, 1, 1]), (np.array(WORLD.shape) - 1) / 2
        index = np.stack(np.meshgrid(*[np.arange(n) for n in WORLD.shape], indexing="ij"), -1)
        place = np.rint((index - centre) @ turn.T + centre).astype(int)
        inside = ((place >= 0) & (place < WORLD.shape)).all(-1)
        place = np.clip(place, 0, np.array(WORLD.shape) - 1)
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = turn, centre - turn @ centre
        return np.where(inside, WORLD[tuple(place.transpose(3, 0, 1, 2))], 0.2), affine
    affine, data = np.eye(4), WORLD
    for axis, letter in enumerate(kind):
        if letter != "RAS"[axis]:
            data = np.flip(data, axis)
            affine[axis, axis], affine[axis, 3] = -1, WORLD.shape[axis] - 1
    return data, affine


def contracts() -> list[tuple[str, InputContract]]:
    """Return every different contract of the shipped cards, under the name of the first card that has it."""
    found: dict[str, tuple[str, InputContract]] = {}
    for card in all_model_cards():
        facts = card.contract.model_dump(
            mode="json", include={"axes", "orientation", "spacing", "intensity", "channels"}
        )
        found.setdefault(json.dumps(facts), (card.id, card.contract))
    return list(found.values())


def data_card(contract: InputContract, channels: Sequence[str] | None = None) -> DatasetCard:
    return DatasetCard(
        id="marked",
        title="marked",
        version="1",
        task="segmentation",
        modality=contract.modality,
        body="none",
        channels=tuple(channels or contract.channels),
        labels={0: "background", 1: "mark"},
        layout={"kind": "pairs"},
        terms={"licence": "none", "attribution": "none", "how_to_get": "made by a test", "redistribution": True},
        citation="none",
    )


def write(folder: Path, contract: InputContract, kind: str, scales: Sequence[float]) -> Case:
    data, affine = scan(kind)
    low, high = contract.intensity.window or (0.0, 1000.0)
    files = []
    for number, scale in enumerate(scales):
        files.append(folder / f"scan_{number}.nii.gz")
        values = low + (high - low) * np.minimum(data * scale, 1)
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), files[-1])
    label = folder / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image((data > 0.3).astype(np.uint8), affine), label)
    return Case("one", tuple(files), label)


class Listener(nn.Module):
    """Stands where the network stands, and keeps what reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.heard.append(x.clone())
        return x[:, :1]


def reach(folder: Path, contract: InputContract, data: DatasetCard, case: Case) -> tuple[Tensor, Tensor]:
    """Send a case the whole way; return what training and inference give to the network."""
    meeting = meet(contract, data, InputChoice(dtype="float32"))
    facts = check(data, {"one": case}).facts
    cache = prepare(data, {"one": case}, facts, meeting.preprocessing, folder / "cache")
    first, second, third = (4 * -(-(n + 4) // 4) for n in cache.case("one").image.shape[1:])
    size = (first, second, third)  # larger than the volume: the whole of it is in every patch
    batch = PatchSource(cache, ["one"], Patches(size=size, batch=1), Augmentation(), seed=0).batch(0)
    listener = Listener()
    predict_logits(listener, cache.case("one").image, Inference(), size, "cpu", fill=cache.case("one").fill)
    return batch["image"][0], listener.heard[0][0]


def directions(volume: Tensor, background: float) -> str:
    """Read off the volume itself in which direction of the body each of its axes increases."""
    levels = (volume - background) / (volume.max() - background)
    found = ["?"] * 3
    for letter, (brightness, side) in MARKS.items():
        relative = (brightness - 0.2) / 0.8
        where = torch.nonzero((levels - relative).abs() < 0.1).float().mean(0) / torch.tensor(volume.shape)
        axis = int((where - 0.5).abs().argmax())
        towards = bool(where[axis] > 0.5) == (side > 0)
        found[axis] = letter if towards else {"R": "L", "A": "P", "S": "I"}[letter]
    return "".join(found)


@pytest.mark.parametrize("kind", ["RAS", "LPS", "LAS", "oblique"])
@pytest.mark.parametrize(("model", "contract"), contracts(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_scan_reaches_the_network_in_the_axes_of_its_contract(
    tmp_path: Path, model: str, contract: InputContract, kind: str
) -> None:
    case = write(tmp_path, contract, kind, [1.0] * len(contract.channels))
    orientation = contract.orientation or "RAS"
    by_axis = {"x": orientation[0], "y": orientation[1], "z": orientation[2]}
    for volume in reach(tmp_path, contract, data_card(contract), case):
        assert volume.shape[0] == len(contract.channels)
        for channel in volume:
            assert directions(channel, float(channel.median())) == "".join(by_axis[axis] for axis in contract.axes), (
                model
            )


def test_channels_are_put_in_the_order_of_the_weights(tmp_path: Path) -> None:
    card, _ = model_card("brainsegfounder.brats_tiny_fold0")
    data = data_card(card.contract, ["T1w", "T2w", "T1Gd", "flair"])
    meeting = meet(card.contract, data, InputChoice())
    assert any("flair put in the order of the weights, FLAIR, T1ce, T1, T2" in rule for rule in meeting.rules)
    plain = card.contract.model_copy(update={"intensity": card.contract.intensity.model_copy(update={"rule": "none"})})
    case = write(tmp_path, plain, "RAS", [0.1, 0.2, 0.3, 0.4])
    for volume in reach(tmp_path, plain, data, case):
        found = [float(channel.max()) for channel in volume]
        assert found == pytest.approx([400, 300, 100, 200])


def test_other_channels_are_refused_unless_that_is_meant() -> None:
    card, _ = model_card("brainsegfounder.brats_tiny_fold0")
    data = data_card(card.contract, ["FLAIR", "T1ce", "T1", "ADC"])
    with pytest.raises(UserError, match=r"FLAIR, T1ce, T1, T2; marked has as many, but others: FLAIR, T1ce, T1, ADC"):
        meet(card.contract, data, InputChoice())
    assert any("ADC" in rule for rule in meet(card.contract, data, InputChoice(allow_channel_mismatch=True)).rules)
    fewer = meet(card.contract, data_card(card.contract, ["T1"]), InputChoice())
    assert any("the weights have 4" in rule for rule in fewer.rules)


@pytest.mark.parametrize("fault", ["missing", "conflicting"])
def test_a_header_without_one_clear_orientation_is_refused(tmp_path: Path, fault: str) -> None:
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.float32).reshape(3, 4, 5), np.eye(4))
    image.set_sform(np.eye(4), 0 if fault == "missing" else 1)
    image.set_qform(np.diag([-1.0, 1, 1, 1]), 0 if fault == "missing" else 1)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(image, path)
    cases = {"one": Case("one", (path,), None)}
    said = "neither a qform nor an sform" if fault == "missing" else "RAS by its sform and LAS by its qform"
    with pytest.raises(UserError, match=said):
        placed(cases)
    (rule,) = placed(cases, allow=True)
    assert said in rule
    image.set_sform(np.eye(4), 1)
    image.set_qform(np.eye(4), 1)
    nibabel.save(image, path)
    assert placed(cases) == ()


def test_a_network_of_one_size_gets_that_size_and_it_is_said(tmp_path: Path) -> None:
    card, _ = model_card("mis_fm.pctnet_narrow8")
    size = (64, 128, 128)
    case = write(tmp_path, card.contract, "LPS", [1.0])
    data = data_card(card.contract)
    meeting = meet(card.contract, data, InputChoice())
    cache = prepare(data, {"one": case}, check(data, {"one": case}).facts, meeting.preprocessing, tmp_path / "cache")
    (rule,) = padded({"one": cache.case("one").image.shape[1:]}, size)
    assert "1 of 1 volumes are smaller than the input of 64 x 128 x 128 voxels" in rule
    listener = Listener()
    logits = predict_logits(listener, cache.case("one").image, Inference(), size, "cpu", fill=cache.case("one").fill)
    assert [tuple(heard.shape) for heard in listener.heard] == [(1, 1, *size)]
    assert tuple(logits.shape[1:]) == cache.case("one").image.shape[1:]
    batch = PatchSource(cache, ["one"], Patches(size=size, batch=2), Augmentation(), seed=0).batch(0)
    assert tuple(batch["image"].shape) == (2, 1, *size)
    assert padded({"one": (64, 130, 128)}, size) == ()


@pytest.mark.parametrize(
    ("model", "patch", "said"),
    [
        (
            "mis_fm.pctnet_narrow8",
            (64, 64, 64),
            r"takes patches of 16x32x32, 32x64x64, 64x128x128 voxels, not 64x64x64",
        ),
        ("mis_fm.fmunet_abk1k", (64, 128, 100), r"not 64x128x100. The nearest patches.size is \[64, 128, "),
        ("swin_unetr.btcv_tiny", (96, 96, 80), r"multiples of 32x32x32 \(x, y, z\), not 96x96x80"),
    ],
)
def test_a_patch_of_no_legal_size_is_refused(model: str, patch: tuple[int, int, int], said: str) -> None:
    card: ModelCard = model_card(model)[0]
    with pytest.raises(UserError, match=said):
        build(card, Task("segmentation", 1, 2, patch), {}, None)
