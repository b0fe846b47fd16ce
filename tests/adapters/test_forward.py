"""``harness adapter forward``: every parity id, from a forged file to the authors' outputs, through the command."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import torch

from harness.cards.library import model_card
from harness.cli import main

PARITY = Path(__file__).parents[1] / "parity"
IDS = sorted(path.parent.name for path in PARITY.glob("*/manifest.json"))
QUICK = {"med3d-resnet10"}
APART = {"misfm-pctnet": {"block_e4_trans"}, "genesis-chest-ct": {"class_logit"}}  # other inputs, other parameters


@pytest.fixture(scope="module")
def forge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("forge", PARITY / "forge.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_published(forge: ModuleType, model: str, path: Path) -> Path:
    """Write the file as its manifest describes it: top level, prefix, names."""
    kind = "manifest_full" if (PARITY / model / "manifest_full.json").is_file() else "manifest"
    content = forge.manifest(model, kind)  # Med3D's "logits" come from the head that the authors' training script saves
    values = forge.checkpoint(content)
    if "root_attributes" in content:
        with h5py.File(path, "w") as file:
            for entry in content["entries"]:
                file[entry["h5_path"]] = values[entry["name"]]
        return path
    tensors = {content["prefix"] + name: torch.from_numpy(np.asarray(value)) for name, value in values.items()}
    torch.save({**dict.fromkeys(content["top_level"], 0), content["weights_key"]: tensors}, path)
    return path


@pytest.mark.parametrize("model", [pytest.param(m, marks=[] if m in QUICK else pytest.mark.slow) for m in IDS])
def test_the_command_writes_the_authors_outputs(forge: ModuleType, model: str, tmp_path: Path) -> None:
    stored = forge.golden(model)
    checkpoint = write_published(forge, model, tmp_path / "weights.bin")
    np.save(tmp_path / "x.npy", forge.input_volume(tuple(stored["input_shape"])))
    output = tmp_path / "y.npz"
    arguments = ["--checkpoint", str(checkpoint), "--input", str(tmp_path / "x.npy"), "--output", str(output)]
    assert main(["adapter", "forward", model, *arguments]) == 0
    with np.load(output) as found:
        wanted = {key.removesuffix("__shape") for key in stored if key.endswith("__shape")} - APART.get(model, set())
        wanted |= {"logits", "hidden4"} & set(stored)
        assert wanted <= set(found.files)
        for name in wanted:
            forge.compare(stored, name, found[name], forge.manifest(model)["tolerance"])


def test_every_parity_id_is_an_alias() -> None:
    assert len(IDS) >= 16
    assert all(model_card(model)[0].supported for model in IDS)


@pytest.mark.parametrize(
    ("shape", "says"),
    [((1, 1, 20, 16, 16), "cannot take an input of shape"), ((1, 2, 16, 16, 16), "takes finite volumes of shape")],
)
def test_an_input_that_does_not_fit(
    forge: ModuleType, tmp_path: Path, shape: tuple[int, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_published(forge, "genesis-chest-ct", tmp_path / "w.pt")
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    output = tmp_path / "y.npz"
    arguments = ["--checkpoint", str(checkpoint), "--input", str(tmp_path / "x.npy"), "--output", str(output)]
    assert main(["adapter", "forward", "genesis-chest-ct", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("kind", ["several arrays", "empty", "text"])
def test_an_input_that_is_no_array(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(b"" if kind == "empty" else b"1 2 3")
    if kind == "several arrays":
        np.savez(tmp_path / "x.npz", a=np.zeros(2))
        (tmp_path / "x.npz").rename(path)
    arguments = ["--checkpoint", str(tmp_path), "--input", str(path), "--output", str(tmp_path / "y.npz")]
    assert main(["adapter", "forward", "genesis-chest-ct", *arguments]) == 2
    assert "with numpy.save" in capsys.readouterr().err
