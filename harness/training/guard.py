"""What stops a run that cannot go on: a loss that is no number, too little memory, a compiler that fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.files import atomic_path
from harness.training.settings import Training
from harness.training.state import write_state

__all__ = [
    "DivergedError",
    "FiniteGuard",
    "OutOfMemoryError",
    "diverged",
    "naming_compiler",
    "naming_memory_knobs",
]


class DivergedError(HarnessError):
    """The loss is no longer a number."""

    run_state = "diverged"


class OutOfMemoryError(HarnessError):
    """The device has less memory than a step needs."""

    run_state = "out_of_memory"


class FiniteGuard:
    """Keeps the losses on the device until somebody asks which was no number, so that no step waits for its loss."""

    def __init__(self) -> None:
        self._unread: list[tuple[int, Tensor]] = []
        self._first = 0

    def saw(self, loss: Tensor, step: int) -> None:
        """Note the loss of the update number ``step`` (from 1) without reading it."""
        self._unread.append((step, loss))

    def first_bad_step(self) -> int:
        """Return the first step whose loss was not finite, 0 if none was. This waits for the device."""
        if self._unread and not self._first:
            finite = torch.isfinite(torch.stack([loss for _, loss in self._unread])).tolist()
            bad = (step for (step, _), is_finite in zip(self._unread, finite, strict=True) if not is_finite)
            self._first = next(bad, 0)
        self._unread.clear()
        return self._first


def diverged(folder: Path, step: int, batch: Mapping[str, Tensor]) -> DivergedError:
    """Keep the batch that broke the run beside the checkpoints and return the error that says so.

    Parameters
    ----------
    folder : Path
        Of the checkpoints; gets ``diverged-step-N.pt``, which `harness.training.state.read_state` reads.
    step : int
        The update, from 1, whose loss was not finite.
    batch : mapping of str to Tensor
        What the network was given.
    """
    path = folder / f"diverged-step-{step}.pt"
    kept = {name: tensor.detach().cpu().clone() for name, tensor in batch.items()}
    with atomic_path(path) as temporary:
        write_state(temporary, {"step": step, "batch": kept})
    values = [tensor for tensor in kept.values() if tensor.is_floating_point()]
    bad = sum(int((~torch.isfinite(tensor)).sum()) for tensor in values)
    cause = f"{bad} values of the batch itself are not finite" if bad else "every value of the batch is finite"
    return DivergedError(
        f"The loss became NaN or infinite at step {step}; {cause}. The batch is kept in {path}, the last checkpoint "
        "holds the weights before it, and the run is marked as diverged. Lower protocol.training.optimizer.lr, set "
        "protocol.training.clip_norm, or turn AMP off."
    )


@contextlib.contextmanager
def naming_memory_knobs(settings: Training) -> Iterator[None]:
    """Turn running out of memory into an error that says which settings need less.

    Raises
    ------
    OutOfMemoryError
        An allocation failed inside the block.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(settings, error) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # how torch's CPU allocator says it
            raise
        raise _out_of_memory(settings, error) from error


@contextlib.contextmanager
def naming_compiler(wanted: bool) -> Iterator[None]:
    """Turn the pages that torch.compile prints where it fails into an error that says what to do.

    Raises
    ------
    HarnessError
        It is wanted, and the network or this machine's compiler is not up to it.
    """
    if not wanted:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

    try:
        yield
    except (TorchDynamoException, CppCompileError, InvalidCxxCompiler) as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        first = next((line for line in said if "error:" in line), said[0] if said else type(error).__name__)
        raise HarnessError(
            f"torch.compile failed: {first[:400]}. On a CPU it needs a C++ compiler that suits this torch (`g++ "
            "--version`). protocol.training.compile=false trains the same without it."
        ) from error


def _out_of_memory(settings: Training, error: BaseException) -> OutOfMemoryError:
    knobs = []
    if not settings.activation_checkpointing:
        knobs.append("training.activation_checkpointing=true (same result, more time)")
    knobs.append(f"training.accumulate={2 * settings.accumulate} (same update for networks without batch norm)")
    if settings.amp == "off":
        knobs.append("training.amp=bf16")
    knobs += ["a smaller patches.batch", "a smaller patches.size"]
    said = str(error).strip().splitlines()
    return OutOfMemoryError(
        f"A training step needs more memory than there is: {said[0] if said else 'allocation failed'} What needs less, "
        f"least harm first: {'; '.join(knobs)} (all below protocol)."
    )
