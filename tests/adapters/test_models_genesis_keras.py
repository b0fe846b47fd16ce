"""The Keras layout of Models Genesis: no fault of an HDF5 file passes in silence."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from harness.adapters.build import Built, build
from harness.adapters.conformance_forge import forge
from harness.adapters.interface import Task
from harness.adapters.models_genesis_keras import ADAPTER
from harness.cards.library import model_card
from harness.cards.model import ModelCard
from harness.errors import UserError

SEGMENTATION = Task("segmentation", in_channels=1, out_channels=3)
NAME = "model_weights/depth_3_conv/depth_3_conv/kernel:0"
Arrays = dict[str, Tensor]


@functools.cache
def card() -> ModelCard:
    published = model_card("models_genesis.chest_ct_keras")[0]
    return published.model_copy(update={"architecture": published.architecture | {"base_width": 2}})


@functools.cache
def _forge() -> Arrays:
    torch.manual_seed(7)
    network = build(card(), Task("published"), {}, None).network
    arrays = ADAPTER.published_tensors(card(), network)
    return {path: array.detach().contiguous() + torch.rand(array.shape) for path, array in arrays.items()}


@pytest.fixture
def arrays() -> Arrays:
    return {path: array.clone() for path, array in _forge().items()}


def load(arrays: Arrays, folder: Path, task: Task = SEGMENTATION) -> Built:
    forge(card(), arrays, folder / "w.h5")
    return build(card(), task, {}, folder / "w.h5")


def lines_of(built: Built) -> dict[str, tuple[str, str | None]]:
    assert built.report is not None
    return {line.name: (line.state, line.reason) for line in built.report.lines}


def drop_one(arrays: Arrays) -> None:
    del arrays[NAME]


def rename_one(arrays: Arrays) -> None:
    arrays[NAME.replace("kernel", "kernels")] = arrays.pop(NAME)


def rename_a_layer(arrays: Arrays) -> None:
    arrays["model_weights/depth_3_conv_1/depth_3_conv_1/kernel:0"] = arrays.pop(NAME)


def reshape_one(arrays: Arrays) -> None:
    arrays[NAME] = arrays[NAME][:, :, :1].clone()


def torch_order(arrays: Arrays) -> None:
    arrays[NAME] = arrays[NAME].permute(4, 3, 0, 1, 2).contiguous()


def other_prefix(arrays: Arrays) -> None:
    arrays[NAME.replace("model_weights", "weights")] = arrays.pop(NAME)


def without_prefix(arrays: Arrays) -> None:
    for path in list(arrays):
        arrays[path.removeprefix("model_weights/")] = arrays.pop(path)


def other_type(arrays: Arrays) -> None:
    arrays[NAME] = arrays[NAME].int()


def not_a_number(arrays: Arrays) -> None:
    arrays[NAME].view(-1)[3] = float("nan")


def another_family(arrays: Arrays) -> None:
    arrays.clear()
    arrays["model_weights/block1_conv1/block1_conv1/kernel:0"] = torch.zeros(3, 3, 3, 1, 4)


@pytest.mark.parametrize("task", [SEGMENTATION, Task("published"), Task("classification", out_channels=2)])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (drop_one, "1 tensors missing .*down_tr128.ops.1.conv1.weight: not in the file"),
        (rename_one, "1 entries of the file unused .*kernels:0"),
        (rename_a_layer, "1 entries of the file unused .*depth_3_conv_1"),
        (reshape_one, r"shape \(8, 4, 3, 3, 1\) in the file, \(8, 4, 3, 3, 3\) in the network"),
        (torch_order, r"down_tr128.ops.1.conv1.weight: shape \(3, 3, 8, 4, 3\) in the file"),
        (other_prefix, "1 tensors missing .*down_tr128.ops.1.conv1.weight: not in the file"),
        (without_prefix, "No array of the file lies where"),
        (other_type, "type torch.int32 in the file"),
        (not_a_number, "holds NaN"),
        (another_family, "No array of the file lies where"),
    ],
)
def test_no_fault_passes_in_silence(
    arrays: Arrays, tmp_path: Path, spoil: Callable[[Arrays], None], says: str, task: Task
) -> None:
    spoil(arrays)
    with pytest.raises(UserError, match=says):
        load(arrays, tmp_path, task)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_refused(arrays: Arrays, tmp_path: Path, share: float) -> None:
    forge(card(), arrays, tmp_path / "w.h5")
    content = (tmp_path / "w.h5").read_bytes()
    (tmp_path / "w.h5").write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"is not a readable HDF5 file|cannot be read as a checkpoint|not a file of"):
        build(card(), SEGMENTATION, {}, tmp_path / "w.h5")


def test_a_cast_and_an_extra_array_are_reported(arrays: Arrays, tmp_path: Path) -> None:
    bias = NAME.replace("kernel", "bias")
    arrays[bias] = arrays[bias].half()
    arrays["model_weights/extra/extra/kernel:0"] = torch.zeros(3)
    lines = lines_of(load(arrays, tmp_path))
    assert lines["down_tr128.ops.1.conv1.bias"] == ("adapted", "cast from torch.float16")
    assert lines["model_weights/extra/extra/kernel:0"] == ("unused", "no place in the network")


def test_a_value_that_is_no_number_is_as_good_as_missing(arrays: Arrays, tmp_path: Path) -> None:
    forge(card(), arrays, tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "a") as file:
        del file[NAME]
        file[NAME] = np.bytes_("not an array")
    with pytest.raises(UserError, match=r"down_tr128.ops.1.conv1.weight: not in the file"):
        build(card(), SEGMENTATION, {}, tmp_path / "w.h5")
