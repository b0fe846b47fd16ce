"""Every family, narrow: another family's file is refused, and its own answers as published for any legal shape."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from harness.adapters.build import build
from harness.adapters.conformance_forge import forge
from harness.adapters.forward import forward
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.library import model_card
from harness.cards.model import ModelCard
from harness.errors import UserError

KINDS: tuple[Literal["segmentation", "published"], ...] = ("segmentation", "published")
SAYS = r"belong|does not fill the network|is not the file that|where a Keras|holds no tensors|do not start with"
SMALL: dict[str, dict[str, Any]] = {
    "med3d.resnet10": {"base_width": 8},
    "models_genesis.chest_ct": {"base_width": 2},
    "models_genesis.chest_ct_keras": {"base_width": 2},
    "models_genesis.nnunet_luna16": {"base_features": 4},
    "mis_fm.pctnet_ct10k": {"feature_channels": [4, 4, 4, 8, 16], "num_heads": [2, 2, 2]},
    "mis_fm.fmunet_abk1k": {"feature_channels": [4, 4, 4, 8, 8]},
    "brainsegfounder.ssl_tiny": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
    "brainsegfounder.brats_tiny_fold0": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
}


HEADS: dict[str, dict[str, Any]] = {"med3d.resnet10": {"num_classes": 2}}  # what a file may hold and no card states
APART = {"class_logit", "block_e4_trans", "keras_version", "class_num"}  # other inputs, other parameters, no outputs
PARITY = Path(__file__).parents[1] / "parity"

# volumes in the batch, then their size
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "med3d.resnet10": [(1, 9, 17, 23), (2, 16, 8, 24), (1, 5, 1, 2)],
    "models_genesis.chest_ct": [(1, 16, 24, 40), (2, 8, 8, 8)],
    "models_genesis.chest_ct_keras": [(1, 24, 8, 16), (2, 8, 8, 8)],
    "models_genesis.nnunet_luna16": [(1, 32, 64, 32), (2, 32, 32, 64)],
    "mis_fm.pctnet_ct10k": [(1, 48, 112, 96)],
    "mis_fm.fmunet_abk1k": [(1, 16, 48, 32), (2, 16, 32, 16)],
    "brainsegfounder.ssl_tiny": [(1, 32, 64, 32), (2, 64, 32, 32)],
    "brainsegfounder.brats_tiny_fold0": [(1, 32, 32, 64), (2, 64, 32, 32)],
}
REFUSED: dict[str, list[tuple[int, ...]]] = {
    "med3d.resnet10": [(1, 0, 16, 16), (0, 16, 16, 16)],
    "models_genesis.chest_ct": [(1, 20, 16, 16), (1, 8, 8, 8)],
    "models_genesis.chest_ct_keras": [(1, 20, 16, 16), (1, 4, 8, 8)],
    "models_genesis.nnunet_luna16": [(1, 33, 64, 64), (1, 4, 4, 4)],
    "mis_fm.pctnet_ct10k": [(1, 50, 96, 96), (1, 16, 32, 32)],
    "mis_fm.fmunet_abk1k": [(1, 17, 32, 32), (1, 4, 8, 8)],
    "brainsegfounder.ssl_tiny": [(1, 32, 32, 32), (1, 48, 64, 64)],
    "brainsegfounder.brats_tiny_fold0": [(1, 32, 32, 32), (1, 16, 64, 64)],
}


@functools.cache
def narrow(name: str) -> ModelCard:
    card = model_card(name)[0]
    return card.model_copy(update={"architecture": card.architecture | SMALL[name]})


@functools.cache
def donor(name: str, size: tuple[int, int, int] | None = None) -> torch.nn.Module:
    """Return the published network with its head; the same values for every size it is built for."""
    card = narrow(name)
    card = card.model_copy(update={"architecture": card.architecture | HEADS.get(name, {})})
    torch.manual_seed(3)
    task = Task("published", len(card.contract.channels), patch=size or card.contract.patch)
    network = build(card, task, {}, None).network.eval()
    if size is not None:
        network.load_state_dict(donor(name).state_dict())
        return network
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            # upsampling without weights, as in Keras, must stay what it is
            if tensor.is_floating_point() and not (name.endswith("keras") and ".up_conv." in key):
                tensor.add_(0.02 * torch.rand(tensor.shape))
    return network


def tensors(name: str) -> dict[str, torch.Tensor]:
    return adapter(narrow(name).adapter).published_tensors(narrow(name), donor(name))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the narrow cards as ``narrow.NUMBER``, and a file of each beside it."""
    folder = tmp_path_factory.mktemp("narrow")
    for number, name in enumerate(SMALL):
        content = narrow(name).model_dump(mode="json") | {"id": f"narrow.n{number}", "aliases": []}
        (folder / f"{number}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        forge(narrow(name), tensors(name), folder / str(number))
    return folder


def answer(home: Path, name: str, volume: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    number = list(SMALL).index(name)
    return forward(f"narrow.n{number}", home / str(number), volume, (home,))


def given(name: str, shape: tuple[int, ...], extra: int = 0) -> NDArray[np.float32]:
    channels = len(narrow(name).contract.channels) + extra
    numbers = np.random.Generator(np.random.PCG64(sum(shape)))
    return numbers.standard_normal((shape[0], channels, *shape[1:])).astype(np.float32)


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in SHAPES for shape in SHAPES[name]])
def test_any_legal_shape_is_answered_as_by_the_network_that_wrote_the_file(
    home: Path, name: str, shape: tuple[int, int, int, int]
) -> None:
    volume = given(name, shape)
    found = answer(home, name, volume)
    with torch.inference_mode():
        wanted = adapter(narrow(name).adapter).named_outputs(
            narrow(name), donor(name, shape[1:]), torch.from_numpy(volume)
        )
    assert found.keys() == wanted.keys()
    for output, value in found.items():
        assert value.shape[0] == shape[0], output
        assert np.isfinite(value).all(), output
        np.testing.assert_array_equal(value, wanted[output].numpy(), output)
    for golden in (PARITY / alias / "golden.npz" for alias in narrow(name).aliases):
        if golden.is_file():
            with np.load(golden) as stored:
                outputs = {key.removesuffix("__shape") for key in stored.files if key.endswith("__shape")}
                assert outputs - APART <= found.keys()


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in REFUSED for shape in REFUSED[name]])
def test_any_other_shape_is_refused_with_the_sizes_that_are_not(home: Path, name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"multiples? of|shape|size"):
        answer(home, name, given(name, shape))


@pytest.mark.parametrize("name", SMALL)
def test_what_is_no_batch_of_finite_volumes_is_refused(home: Path, name: str) -> None:
    volume = given(name, SHAPES[name][0])
    spoilt = volume.copy()
    spoilt[0, 0, 0, 0, 0] = np.inf
    for one in (volume[0], given(name, SHAPES[name][0], extra=1), spoilt, np.full(volume.shape, "a")):
        with pytest.raises(UserError, match=r"takes finite volumes of shape \(batch"):
            answer(home, name, one)


@pytest.mark.parametrize(("written", "read"), list(itertools.permutations(SMALL, 2)))
def test_another_familys_file_is_refused(written: str, read: str, tmp_path: Path) -> None:
    card = narrow(read)
    for number, layout in enumerate({narrow(written).checkpoint, card.checkpoint}):
        path = tmp_path / str(number)
        forge(card.model_copy(update={"checkpoint": layout}), tensors(written), path)
        for kind in KINDS:
            task = Task(kind, len(card.contract.channels), 3, card.contract.patch)
            with pytest.raises(UserError, match=SAYS):
                build(card, task, {}, path)


@pytest.mark.parametrize("name", SMALL)
def test_its_own_file_is_not(name: str, tmp_path: Path) -> None:
    card = narrow(name)
    forge(card, tensors(name), tmp_path / "w")
    built = build(card, Task("published", len(card.contract.channels), patch=card.contract.patch), {}, tmp_path / "w")
    assert built.report is not None
    assert built.report.encoder.value == 1.0
