"""What a pretext task provides to the shared training loop, and to the pretraining run around it."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from harness.adapters.build import Built
from harness.cards.dataset import DatasetCard
from harness.cards.model import ModelCard
from harness.data.ahead import ahead
from harness.data.check import CaseFacts
from harness.data.contract import InputChoice

__all__ = ["FileLayout", "PretextTask", "device_of", "evaluating", "on_cpu"]


@dataclass(frozen=True)
class FileLayout:
    """How the authors' checkpoint files of a family lie on disk; see `harness.cards.model.Checkpoint`."""

    suffix: str
    container: Literal["torch_legacy", "torch_zip"]
    weights_key: str
    prefix: str
    published_head: bool


class PretextTask(abc.ABC):
    """A way to train without (or with other people's) labels. The shared loop trains it as it trains any task.

    Attributes
    ----------
    name : str
        Name of the recipe.
    method : str
        What is done, in a few words, for cards and records.
    layout : FileLayout
        Of the file that `contents` fills.
    labelled : bool
        Whether reference labels of the volumes are used.
    multichannel : bool
        Whether the network may be built for as many channels as the data have.
    second_stage : bool
        Whether the recipe goes on from other weights, on the training cases of one fold.
    inherited : float
        Share of the encoder's parameters that came from the parent's file; 0 from scratch. Set by `network`.
    workers : int
        Threads that prepare batches ahead; the batches are the same with any number.
    over_ranks : callable
        Adds a tensor up over all processes that train together, with gradients, for a loss that is a ratio of sums
        over the whole batch. Alone there is nothing to add.
    """

    name: ClassVar[str]
    method: ClassVar[str]
    layout: ClassVar[FileLayout]
    labelled: ClassVar[bool] = False
    multichannel: ClassVar[bool] = False
    second_stage: ClassVar[bool] = False
    inherited: float = 0.0
    workers: int = 0

    def __init__(self) -> None:
        self.over_ranks: Callable[[Tensor], Tensor] = alone

    @staticmethod
    def completed(content: Mapping[str, Any], datasets: Sequence[DatasetCard]) -> dict[str, Any]:
        """Return the settings as configured, with what the data set cards know already."""
        del datasets
        return dict(content)

    @staticmethod
    def input_choice(choice: InputChoice, cases: Sequence[CaseFacts]) -> InputChoice:
        """Return how one data set is prepared, where the recipe has a rule of its own; ``cases`` are all of it."""
        del cases
        return choice

    @property
    @abc.abstractmethod
    def samples(self) -> int:
        """How many training volumes go into a step."""

    @property
    @abc.abstractmethod
    def size(self) -> tuple[int, int, int]:
        """Size of the training volumes, in the network's axes."""

    @abc.abstractmethod
    def network(self, card: ModelCard, options: Mapping[str, Any], weights: Path | None = None) -> nn.Module:
        """Return the network to pretrain, freshly initialised from torch's global generator or filled from a parent.

        Parameters
        ----------
        card : ModelCard
            Which architecture.
        options : mapping
            The adapter's network options.
        weights : Path, optional
            A checkpoint of that card to go on from.
        """

    @abc.abstractmethod
    def batch(self, step: int) -> dict[str, Tensor]:
        """Return the batch of one step, on the CPU: a pure function of the task's seed and ``step``."""

    @abc.abstractmethod
    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar to minimise, in float32."""

    def rehearse(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Do what `loss` does on tensors that have shapes and no values, for `harness plan`."""
        return self.loss(network, batch)

    @abc.abstractmethod
    def evaluate(self, network: nn.Module, device: torch.device | str) -> dict[str, float]:
        """Return scores on the held-out volumes, with what trivial answers score on the same samples.

        The samples are the same for every seed and step. The network is left as it was found.
        """

    @abc.abstractmethod
    def validate(self, network: nn.Module) -> float:
        """Return the score that selection maximises, from `evaluate` on the device the network is on."""

    @abc.abstractmethod
    def contents(self, network: nn.Module, optimizer: Mapping[str, Any] | None, step: int) -> dict[str, Any]:
        """Return what the authors' own code would have put into the checkpoint file."""

    def published(self, network: nn.Module) -> nn.Module:
        """Return the part of the network that the file holds: all of it, unless a recipe says otherwise."""
        return network

    def facts(self) -> dict[str, Any]:
        """Return what a record should say about the data as they were used, JSON-ready."""
        return {}

    def keep(self, built: Built) -> nn.Module:
        """Note what a file gave, and return the network."""
        self.inherited = built.report.encoder.value if built.report else 0.0
        return built.network

    def batches(self, start: int, stop: int) -> Iterator[Mapping[str, Tensor]]:
        """Yield the batch of every step in ``range(start, stop)``, in order."""
        return ahead(self.batch, start, stop, self.workers)


def alone(tensor: Tensor) -> Tensor:
    """Return the tensor: the sum over the one process there is."""
    return tensor


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put the network into evaluation without gradients, and back into the mode it was in."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's parameters."""
    return next(network.parameters()).device


def on_cpu(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return a state dict with ``prefix`` before every name, its tensors on the CPU and in plain memory order."""
    return {f"{prefix}{name}": value.detach().cpu().contiguous() for name, value in state.items()}
