"""Reading checkpoints: what is harmless is read, what would run is refused without running."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.checkpoints.reading import read
from harness.errors import UserError

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(4)}


@pytest.mark.parametrize("zip_format", [True, False])
def test_torch_files_in_both_containers(tmp_path: Path, zip_format: bool) -> None:
    path = tmp_path / "w.pt"
    prefixed = {"module." + name: tensor for name, tensor in WEIGHTS.items()}
    torch.save({"epoch": 4, "state_dict": prefixed}, path, _use_new_zipfile_serialization=zip_format)
    raw = read(path, "state_dict", "module.")
    assert list(raw.tensors) == list(WEIGHTS)
    assert torch.equal(raw.tensors["a.weight"], WEIGHTS["a.weight"])
    assert raw.top_level == ("epoch", "state_dict")
    assert raw.extras == {"epoch": 4}


def test_safetensors(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "w.safetensors")
    assert torch.equal(read(tmp_path / "w.safetensors").tensors["b.bias"], WEIGHTS["b.bias"])


def test_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["model_weights/conv/conv/kernel:0"] = np.ones((3, 2), np.float32)
    assert read(tmp_path / "w.h5").tensors["model_weights/conv/conv/kernel:0"].shape == (3, 2)


@pytest.mark.parametrize("extra", [np.float32(0.5), np.float64(0.5), argparse.Namespace(lr=1)])
def test_known_harmless_objects_are_allowed_by_name(tmp_path: Path, extra: Any) -> None:
    torch.save({"state_dict": WEIGHTS, "valid_pred": extra}, tmp_path / "w.pt")
    assert set(read(tmp_path / "w.pt", "state_dict").tensors) == set(WEIGHTS)


class Marker:
    """Pickles into a call that leaves a file behind if anybody executes it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zip_format", [True, False])
def test_a_pickle_that_executes_code_is_refused_and_not_executed(tmp_path: Path, zip_format: bool) -> None:
    marker = tmp_path / "executed"
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": WEIGHTS, "x": Marker(str(marker))}, path, _use_new_zipfile_serialization=zip_format)
    with pytest.raises(UserError, match=r"refused and nothing in it was executed.*mkdir"):
        read(path, "state_dict")
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the marker works: only our refusal kept it from running
    assert marker.exists()


@pytest.mark.parametrize("zip_format", [True, False])
def test_a_file_that_is_cut_off(tmp_path: Path, zip_format: bool) -> None:
    path = tmp_path / "w.pt"
    torch.save({"state_dict": {"a": torch.zeros(5000)}}, path, _use_new_zipfile_serialization=zip_format)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UserError, match=r"9000 bytes.*cut off"):
        read(path, "state_dict")


def test_a_web_page_instead_of_weights(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_text("<!DOCTYPE html><html><title>Virus scan warning</title></html>", encoding="utf-8")
    with pytest.raises(UserError, match="is a web page"):
        read(tmp_path / "w.pt")


def test_other_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with pytest.raises(UserError, match="There is no checkpoint file"):
        read(path)
    torch.save({"model": WEIGHTS}, path)
    with pytest.raises(UserError, match=r"no entry 'state_dict'.*its top level is model"):
        read(path, "state_dict")
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="holds a list"):
        read(path)
    torch.save({"state_dict": {"epoch": 1}}, path)
    with pytest.raises(UserError, match="holds no tensors"):
        read(path, "state_dict")
    path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        read(path)
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 20)
    with pytest.raises(UserError, match="not a readable HDF5"):
        read(tmp_path / "w.h5")
    (tmp_path / "w.safetensors").write_bytes(b"\x09\0\0\0\0\0\0\0" + b'{"a":1}xx')
    with pytest.raises(UserError, match="not a readable safetensors"):
        read(tmp_path / "w.safetensors")
