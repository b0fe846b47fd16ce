"""What one training step costs, found on fake tensors: no memory is taken, no weights or data are read.

The step is the real one (the adapter's network, the protocol's loss, backward), only that tensors have shapes and no
values. Memory is what live tensors hold; what the allocator rounds up and cuDNN takes for itself comes on top.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from harness.adapters.interface import Adapter, Task
from harness.adapters.parts import Parts
from harness.adapters.registry import adapter
from harness.cards.dataset import DatasetCard
from harness.cards.model import ModelCard
from harness.config import PretrainConfig, Protocol
from harness.errors import HarnessError, UserError
from harness.training.activations import recomputed
from harness.training.objective import SegmentationLoss
from harness.training.settings import Training
from harness.training.tuning import Tuning

__all__ = [
    "Footprint",
    "LiveBytes",
    "autocast",
    "footprint",
    "forget_values",
    "outputs_of",
    "static_bytes",
    "step_bytes",
    "without_values",
]

T = TypeVar("T")

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Footprint:
    """The cost of one step of one network.

    Attributes
    ----------
    parameters, trainable : int
        Numbers, not bytes.
    flops_per_step : int
        Floating-point operations of forward and backward over the whole batch; a multiply-add counts as two.
    train_bytes : int
        Largest sum of live tensors in a step: weights, gradients, optimiser state, activations.
    static_bytes : int
        The part that lives between steps: weights, buffers, optimiser state, moving average.
    infer_bytes : int
        The same for predicting one batch of windows, without the accumulators of the scan.
    """

    parameters: int
    trainable: int
    flops_per_step: int
    train_bytes: int
    static_bytes: int
    infer_bytes: int


def footprint(
    card: ModelCard, channels: int, outputs: int, protocol: Protocol, ranks: int = 1, *, trains: bool = True
) -> Footprint:
    """Predict the cost of a step.

    Parameters
    ----------
    card : ModelCard
        Names the adapter and the architecture.
    channels, outputs : int
        Of the data set: image channels, and classes (softmax) or regions (sigmoid).
    protocol : Protocol
        Patch size, batch, precision, loss, optimiser.
    ranks : int
        Processes that share the batch; memory is then that of one of them.
    trains : bool
        False for released weights, which are only predicted with: everything about the step is then 0, and a patch too
        small to train on is no problem.

    Raises
    ------
    UserError
        The network cannot be built for this patch.
    HarnessError
        Its code looks at values of tensors, which fake ones do not have.
    """
    size = protocol.patches.size
    task = Task("segmentation", channels, outputs, size, protocol.network.get(card.adapter, {}))
    family = adapter(card.adapter)
    parts = Parts(family.encoder_prefixes(card), family.stages, family.output)
    with without_values(card), FakeTensorMode(), LiveBytes() as live, FlopCounterMode(display=False) as flops:
        network = _without_values(family, card, task)
        trainable, static, train, counted = 0, 0, 0, 0
        if trains:
            Tuning(network, protocol.training.finetuning, parts)  # what is frozen costs no gradients
            trainable = sum(one.numel() for one in network.parameters() if one.requires_grad)
            static = static_bytes(network, protocol)
            train = static + _step(network, task, protocol, ranks, live)
            counted = int(flops.get_total_flops()) * protocol.training.accumulate * ranks
        parameters = sum(one.numel() for one in network.parameters())
        network.eval()
        window = protocol.inference.patch or size
        live.peak = live.now
        with torch.no_grad(), autocast(protocol.inference.amp):
            network(torch.empty((protocol.inference.window_batch, channels, *window)))
        infer = live.peak
    return Footprint(parameters, trainable, counted, train, static, infer)


def _step(network: nn.Module, task: Task, protocol: Protocol, ranks: int, live: LiveBytes) -> int:
    """Run one step of one rank; return what it held beside the weights."""
    settings, softmax = protocol.training, protocol.inference.activation == "softmax"
    part = -(-protocol.patches.batch // (settings.accumulate * ranks))
    # over the whole batch costs the same, but would ask the other ranks of a run for their sums
    alone = settings.loss.model_copy(update={"batch_dice": False})
    objective = SegmentationLoss(alone, protocol.inference.activation)

    def batch() -> tuple[Tensor, Tensor]:
        image = torch.empty((part, task.in_channels, *protocol.patches.size))
        return image, torch.zeros((part, 1 if softmax else task.out_channels, *protocol.patches.size))

    def loss(held: tuple[Tensor, Tensor]) -> Tensor:
        value: Tensor = objective(network(held[0]), held[1])
        return value

    return step_bytes(network, batch, loss, settings, live)


def step_bytes(
    network: nn.Module, batch: Callable[[], T], loss: Callable[[T], Tensor], training: Training, live: LiveBytes
) -> int:
    """Run forward and backward of one part of a batch; return what was held beside the weights, the part included."""
    weights = live.now
    held = batch()
    network.train()
    live.peak = live.now
    with autocast(training.amp), recomputed(network, training.activation_checkpointing):
        loss(held).backward()  # type: ignore[no-untyped-call]
    network.zero_grad(set_to_none=True)
    return live.peak - weights


@contextmanager
def without_values(card: ModelCard) -> Iterator[None]:
    """Predict inside this: random numbers stay as they are, and what needs real values is told in a sentence.

    Raises
    ------
    HarnessError
        The network's code looks at values of tensors, which fake ones do not have.
    """
    try:
        with torch.random.fork_rng(devices=[]):  # a constructor that needs real values draws them
            yield
    except (UserError, HarnessError):
        raise
    except Exception as error:
        raise HarnessError(
            f"{card.id} cannot be planned on tensors without values: {' '.join(str(error).split())[:300]}. "
            "`harness plan --calibrate` measures it instead."
        ) from error


def _without_values(family: Adapter, card: ModelCard, task: Task) -> nn.Module:
    """Build a network of fake tensors, inside the fake mode."""
    try:
        return family.build(card, task, task.options)
    except DataDependentOutputException:
        # the constructor computes with tensors, such as rates of stochastic depth: build it, then forget its values
        with unset_fake_temporarily():
            network = family.build(card, task, task.options)
        forget_values(network)
        return network


def forget_values(network: nn.Module) -> None:
    """Replace every tensor of a network by one that has its shape alone, inside the fake mode."""
    made: dict[int, torch.Tensor] = {}
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = made.setdefault(id(tensor), _forget(tensor))  # type: ignore[assignment]


def _forget(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def outputs_of(data: DatasetCard, activation: str) -> int:
    """Return how many channels a network answers with: one per label, or per region where they may overlap."""
    return len(data.classes) if activation == "sigmoid" else len(data.labels)


def static_bytes(network: nn.Module, protocol: Protocol | PretrainConfig) -> int:
    """Return what lives between steps: weights and buffers, the optimiser's moments, the moving average."""
    weights = sum(_bytes(tensor) for tensor in [*network.parameters(), *network.buffers()])
    learning = sum(_bytes(parameter) for parameter in network.parameters() if parameter.requires_grad)
    optimizer = protocol.training.optimizer
    moments = 2 if optimizer.name != "sgd" else 1 if optimizer.momentum else 0
    return weights + moments * learning + (learning if protocol.training.ema is not None else 0)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def autocast(amp: str) -> AbstractContextManager[Any]:
    """Return the context of a precision, on fake tensors."""
    return torch.autocast("cpu", dtype=_DTYPES[amp]) if amp in _DTYPES else nullcontext()


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of every tensor storage that operations make, until it is freed.

    Attributes
    ----------
    now, peak : int
        Live bytes, and the most there were since somebody last set ``peak``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and note what it made."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def freed(_: object) -> None:
            self.now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)
