"""Every recipe through the shared loop: exact resume, half precision, and volumes that stay on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.cards.library import model_card
from harness.checkpoints.hashing import state_sha256
from harness.data.cache import Cache
from harness.data.check import check
from harness.data.layouts import find_cases
from harness.data.preprocessing import prepare
from harness.data.settings import Preprocessing
from harness.data.synthetic import write
from harness.pretraining.randomness import sample_state
from harness.pretraining.recipes import make_task
from harness.pretraining.task import PretextTask
from harness.pretraining.volumes import CachedVolumes
from harness.training.device import Numerics, seed_everything
from harness.training.loop import fit
from harness.training.settings import Training

FUSION = {"size": (16, 32, 32), "batch": 1, "evaluation_batches": 1}
CASES = {
    "models_genesis": ("models_genesis.narrow8", {"cubes": {"size": (16, 16, 16)}, "batch": 1}, {}),
    "volume_fusion": ("mis_fm.fmunet_narrow8", {**FUSION, "smallest_block": (2, 4, 4)}, {"deep_supervision": True}),
    "volume_fusion_2023": ("mis_fm.pctnet_narrow8", {**FUSION, "largest_box": (12, 16, 16)}, {}),
    "med3d": ("med3d.resnet10_narrow8", {"size": (16, 24, 24), "batch": 2, "classes": {"two": 2, "three": 3}}, {}),
    "brainsegfounder": ("brainsegfounder.ssl_narrow12", {"cubes": {"size": (64, 32, 32)}, "batch": 1}, {}),
}
SLOW = pytest.mark.slow
NAMES = [pytest.param(name, marks=() if name in ("models_genesis", "med3d") else SLOW) for name in CASES]


class Killed(Exception):  # noqa: N818
    """Stands for a signal."""


class Dying:
    """A task that dies before a step."""

    def __init__(self, task: PretextTask, step: int) -> None:
        self._task, self._left = task, step
        self.batches, self.validate = task.batches, task.validate

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        if self._left == 0:
            raise Killed
        self._left -= 1
        return self._task.loss(network, batch)


@pytest.fixture
def start(volumes: Any, labelled: Any) -> Callable[[str], tuple[nn.Module, PretextTask]]:
    """Make the task of a recipe and its network, the same every time."""

    def make(name: str) -> tuple[nn.Module, PretextTask]:
        model, settings, options = CASES[name]
        source, train, held_out = volumes, ["a", "b"], ["c", "small"]
        if name == "med3d":
            source = labelled
            held_out = ["two/t2", "three/h2"]
            train = [case for case in source if case not in held_out]
        seed_everything(3)
        task = make_task({"name": name, **settings}, source, train, held_out, 3)
        return task.network(model_card(model)[0], options), task

    return make


def settings(amp: str = "off") -> Training:
    return Training(steps=3, checkpoint_every=2, log_every=1, amp=amp)


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_pretraining_ends_as_one_that_never_was(
    name: str, start: Callable[[str], tuple[nn.Module, PretextTask]], tmp_path: Path
) -> None:
    numerics = Numerics(settings(), torch.device("cpu"))
    network, task = start(name)
    fit(network, task, settings(), tmp_path / "whole", tmp_path / "whole.jsonl", numerics)
    expected = state_sha256(network.state_dict())

    network, task = start(name)
    fresh = state_sha256(network.state_dict())
    with pytest.raises(Killed):
        fit(network, Dying(task, 2), settings(), tmp_path / "cut", tmp_path / "cut.jsonl", numerics)
    network, task = start(name)
    outcome = fit(network, task, settings(), tmp_path / "cut", tmp_path / "cut.jsonl", numerics)
    assert outcome.resumed == 1
    assert state_sha256(network.state_dict()) == expected != fresh


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_computes_another_but_finite_loss_near_the_full_one(
    name: str, start: Callable[[str], tuple[nn.Module, PretextTask]]
) -> None:
    losses = {}
    for amp in ("off", "bf16"):
        network, task = start(name)
        numerics = Numerics(settings(amp), torch.device("cpu"))
        network = numerics.place(network)
        with numerics.autocast():
            loss = task.loss(network, numerics.move(task.batch(0)))
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
        losses[amp] = loss.item()
    assert losses["bf16"] != losses["off"]
    assert losses["bf16"] == pytest.approx(losses["off"], rel=0.1)


def anonymous_memory() -> int:
    """Return the bytes of this process that no file backs: what cannot be given back without being swapped out."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    pytest.skip("this system does not tell anonymous memory apart")


def test_memory_does_not_grow_with_the_number_of_volumes(tmp_path: Path) -> None:
    card = write(tmp_path / "data", cases=1, labelled=False, shape=(88, 88, 88))
    cases = find_cases(card, tmp_path / "data")
    facts = check(card, cases).facts
    cache = prepare(card, cases, facts, Preprocessing(dtype="float32"), tmp_path / "cache")
    original = cache.require("case000")
    folders = {f"c{number}": tmp_path / "many" / str(number) for number in range(40)}
    for folder in folders.values():
        shutil.copytree(original, folder)
    many = Cache(folders)
    held = sum(path.stat().st_size for path in (tmp_path / "many").rglob("image.npy"))
    assert held > 90e6
    recipe = {"name": "models_genesis", "cubes": {"size": (32, 32, 32)}, "batch": 4, "shuffle_windows": 100}
    names = sorted(folders)
    task = make_task(recipe, CachedVolumes(many, names), names[1:], names[:1], 0)
    seen = {
        task._train.draw(sample_state(0, "memory", step)).case for step in range(200)
    }  # every map was opened and read
    assert len(seen) == 39
    before = anonymous_memory()
    for _ in task.batches(0, 40):
        pass
    assert anonymous_memory() - before < 0.25 * held
