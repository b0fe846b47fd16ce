"""The Keras layout of Models Genesis: a forged HDF5 file, read without TensorFlow, computes what Keras computes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

from harness.adapters.build import build
from harness.adapters.forward import forward
from harness.adapters.interface import Task
from harness.cards.library import model_card
from harness.errors import UserError

MODEL = "genesis-chest-ct-keras"


@pytest.fixture(scope="module")
def forged(forge: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "Genesis_Chest_CT.h5"
    content = forge.manifest(MODEL)
    values = forge.checkpoint(content)
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.2.4"
        for entry in content["entries"]:
            file[entry["h5_path"]] = values[entry["name"]]
        file["optimizer_weights/SGD/iterations:0"] = np.int64(7)
    return path


def test_every_stage_is_the_authors(forge: ModuleType, forged: Path) -> None:
    stored = forge.golden(MODEL)
    found = forward(MODEL, forged, forge.input_volume(tuple(stored["input_shape"])))
    assert set(found) == {"out", *(f"depth_{layer}_relu" for layer in range(1, 14, 2))}
    for name, value in found.items():
        forge.compare(stored, name, value, forge.manifest(MODEL)["tolerance"])


def test_the_report_accounts_for_every_array(forged: Path) -> None:
    report = build(model_card(MODEL)[0], Task("segmentation", out_channels=3), {}, forged).report
    assert report is not None
    counts = report.counts
    assert (counts["loaded"], counts["adapted"], counts["missing"], counts["unused"]) == (70, 14, 0, 0)
    assert counts["skipped"] == 3  # two of the head, one of the optimiser
    assert report.encoder.value == pytest.approx(1.0, abs=1e-5)


def test_a_missing_array_is_refused(forged: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.h5"
    path.write_bytes(forged.read_bytes())
    with h5py.File(path, "a") as file:
        del file["model_weights/depth_3_conv"]
    with pytest.raises(UserError, match=r"down_tr128.ops.1.conv1.weight: not in the file"):
        build(model_card(MODEL)[0], Task("published"), {}, path)
