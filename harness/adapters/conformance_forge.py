"""What the conformance kit works on: networks from fixed seeds, small volumes, and files in the published layout."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters.build import Built, build
from harness.adapters.interface import Adapter, Task
from harness.adapters.registry import adapter
from harness.cards.model import Checkpoint, ModelCard, WeightFile
from harness.errors import UserError

__all__ = ["REFUSALS", "Size", "Subject", "forge", "outputs", "sizes", "subject", "volume"]

Size = tuple[int, int, int]
REFUSALS = (UserError, RuntimeError, ValueError, AssertionError)
"""What networks raise for a size that they cannot take."""

_SMALLEST = 16
_LARGEST = 128


@dataclass(frozen=True)
class Subject:
    """A card under test.

    Attributes
    ----------
    card : ModelCard
        With a plain torch layout where the card itself describes no file.
    family : Adapter
        Its adapter.
    folder : Path
        For forged files; the caller removes it.
    patch : tuple of int
        The smallest size that the task's network takes, in evaluation and in training.
    published_patch : tuple of int
        The smallest size that the published network takes.
    segments : bool
        Whether the family segments; otherwise the published network stands for the task's.
    """

    card: ModelCard
    family: Adapter
    folder: Path
    patch: Size
    published_patch: Size
    segments: bool

    @property
    def channels(self) -> int:
        """Image channels of the contract."""
        return len(self.card.contract.channels)

    def published(self, weights: Path | None = None, seed: int = 0) -> Built:
        """Build the network as in the file."""
        return _seeded(self.card, Task("published", self.channels, patch=self.published_patch), weights, seed)

    def task(self, weights: Path | None = None, seed: int = 0) -> Built:
        """Build the network of a task with three classes."""
        return _seeded(self.card, _task(self.segments, self.channels, self.patch), weights, seed)

    def segmentation(self, channels: int, classes: int, patch: Size) -> nn.Module:
        """Build a segmentation network from scratch for other channels, classes and sizes."""
        return _seeded(self.card, Task("segmentation", channels, classes, patch), None, 0).network

    def classification(self, classes: int) -> nn.Module:
        """Build a classification network from scratch; a UserError where the family has none."""
        task = Task("classification", self.channels, classes, self.patch)
        return _seeded(self.card, task, None, 0).network

    @functools.cached_property
    def file(self) -> Path:
        """A forged file of the published network of seed 1; see `donor`."""
        path = self.folder / "forged"
        forge(self.card, self.family.published_tensors(self.card, self.donor), path)
        return path

    @functools.cached_property
    def donor(self) -> nn.Module:
        """The published network whose tensors the forged file holds: no value is as any initialisation leaves it."""
        network = self.published(seed=1).network
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if tensor.is_floating_point():
                    # with a mean of zero: a common sign grows from layer to layer, and deep networks overflow
                    tensor += 0.05 * (torch.rand(tensor.shape, generator=generator) - 0.5)
                elif name.endswith("num_batches_tracked"):
                    tensor += 7
        return network


def subject(card: ModelCard, folder: Path) -> Subject:
    """Find the smallest sizes that the card's networks take.

    Raises
    ------
    UserError
        The network takes no size up to the published patch.
    """
    card.refuse_unsupported()
    if card.checkpoint is None:
        card = card.model_copy(update={"checkpoint": Checkpoint(files=(WeightFile(name="forged.pt"),))})
    family, channels = adapter(card.adapter), len(card.contract.channels)
    published = _first_taken(card, [Task("published", channels, patch=size) for size in sizes(card)], training=False)
    try:
        _seeded(card, _task(True, channels, sizes(card)[-1]), None, 0)
    except UserError:  # the family says that it has no such network; any other error is a fault, not an answer
        return Subject(card, family, folder, published, published, segments=False)
    patch = _first_taken(card, [_task(True, channels, size) for size in sizes(card)], training=True)
    return Subject(card, family, folder, patch, published, segments=True)


def forge(card: ModelCard, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as the card says that its file lies on disk: container, top-level entry, prefix."""
    layout = card.checkpoint
    assert layout is not None
    named = {layout.prefix + name: tensor.detach().clone() for name, tensor in tensors.items()}
    if layout.container == "hdf5":
        import h5py

        with h5py.File(path, "w") as file:
            for name, tensor in named.items():
                file[name] = tensor.numpy()
    elif layout.container == "safetensors":
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in named.items()}, path)
    else:
        content: dict[str, Any] = {layout.weights_key: named, "epoch": 1} if layout.weights_key else dict(named)
        torch.save(content, path, _use_new_zipfile_serialization=layout.container != "torch_legacy")


def volume(channels: int, size: Size, batch: int = 1) -> Tensor:
    """Return the same random volumes every time, shape (batch, channel, a, b, c)."""
    return torch.rand((batch, channels, *size), generator=torch.Generator().manual_seed(5))


def outputs(network: nn.Module, given: Tensor) -> list[Tensor]:
    """Return what a network answers as a list, the finest scale first."""
    answer = network(given)
    if isinstance(answer, Tensor):
        return [answer]
    return [part for part in (answer.values() if isinstance(answer, dict) else answer) if isinstance(part, Tensor)]


def _task(segments: bool, channels: int, size: Size) -> Task:
    return Task("segmentation", channels, 3, size) if segments else Task("published", channels, patch=size)


def _seeded(card: ModelCard, task: Task, weights: Path | None, seed: int) -> Built:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(card, task, {}, weights)


def sizes(card: ModelCard) -> list[Size]:
    """List sizes to try, the smallest first: the legal ones, or doubled multiples up to the published patch."""
    contract = card.contract
    if contract.legal_sizes:
        return sorted(contract.legal_sizes, key=math.prod)
    first, second, third = (step * math.ceil(_SMALLEST / step) for step in contract.divisible_by)
    tried = [(first * 2**n, second * 2**n, third * 2**n) for n in range(4)]
    tried = [size for size in tried if max(size) <= max(_LARGEST, first, second, third)]
    if contract.patch:
        limit = math.prod(contract.patch)
        tried = [size for size in tried if math.prod(size) < limit] + [contract.patch]
    return tried


def _first_taken(card: ModelCard, tasks: list[Task], *, training: bool) -> Size:
    problem = ""
    for task in tasks:
        assert task.patch is not None
        try:
            network = _seeded(card, task, None, 0).network
            with torch.no_grad():
                outputs(network.train(training), volume(task.in_channels, task.patch, 2 if training else 1))
        except REFUSALS as error:
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            continue
        return task.patch
    tried = ", ".join(str(task.patch) for task in tasks)
    raise UserError(
        f"The {tasks[0].kind} network of {card.id} takes none of the sizes {tried}: {problem}. "
        "Mend the adapter, or the card's divisible_by, legal_sizes or patch."
    )
