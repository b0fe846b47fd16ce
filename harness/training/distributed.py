"""Several processes at one run: who does what, what they must agree on, and how their gradients become one.

``torchrun --nproc-per-node N -m harness run …`` starts N ranks. They work on parts of the same global batch, so that
the data do not depend on N; validation and test cases are shared out; rank 0 alone writes. In a process that torchrun
did not start, every function here does nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.errors import HarnessError, UserError

__all__ = ["World", "current", "join", "naming_lost_ranks", "sum_over_ranks"]

T = TypeVar("T")
_PATIENCE = timedelta(hours=12)  # rank 0 prepares a whole data set while the others wait; a dead one is noticed at once

_GROUPS: list[Any] = []
_SIGNS = ("onnection", "gloo", "NCCL", "Timed out", "process group")


@dataclass(frozen=True)
class World:
    """One process among those that work on the run.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    size : int
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return the part of ``items`` that falls to this rank; every item falls to exactly one."""
        return items[self.rank :: self.size]

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order, on every rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with naming_lost_ranks():
            dist.all_gather_object(found, value)
        return found

    def agree(self, value: T) -> T:
        """Return rank 0's value on every rank."""
        if self.size == 1:
            return value
        held = [value]
        with naming_lost_ranks():
            dist.broadcast_object_list(held, src=0)
        return held[0]

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set on any rank."""
        if self.size == 1:
            return flag
        votes = torch.tensor([int(flag)])
        with naming_lost_ranks():
            dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes.item())

    def wait(self) -> None:
        """Go on when every rank has come here."""
        self.any(False)

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Let rank 0 do the block and then the others, which find ready what it left on disk."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

    def spread(self, network: nn.Module) -> None:
        """Give every rank rank 0's weights and statistics: with batch norm per rank the latter differ."""
        if self.size == 1:
            return
        with naming_lost_ranks(), torch.no_grad():
            for tensor in network.state_dict().values():
                dist.broadcast(tensor, src=0)

    def part(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return this rank's part of a global batch: consecutive samples, as many for each rank.

        Raises
        ------
        UserError
            The samples cannot be shared out evenly.
        """
        return self.parts(batch, self.size)[self.rank] if self.size > 1 else batch

    @staticmethod
    def parts(batch: Mapping[str, Tensor], count: int) -> list[Mapping[str, Tensor]]:
        """Cut a batch into ``count`` equal parts of consecutive samples."""
        lengths = {len(tensor) for tensor in batch.values()}
        if len(lengths) != 1 or min(lengths) % count:
            raise UserError(
                f"A batch of {', '.join(map(str, sorted(lengths)))} samples cannot be worked through in {count} equal "
                "parts. The batch (protocol.patches.batch, or the recipe's) must be a multiple of the number of ranks "
                "times protocol.training.accumulate."
            )
        each = lengths.pop() // count
        return [{name: t[at * each : (at + 1) * each] for name, t in batch.items()} for at in range(count)]

    def wrap(self, network: nn.Module, *, synchronise_batch_norm: bool) -> nn.Module:
        """Return the network whose backward pass averages gradients over the ranks; itself where there is one rank.

        Raises
        ------
        UserError
            Batch norm is to be synchronised and the network is not on a CUDA device.
        """
        device = next(network.parameters()).device
        if synchronise_batch_norm and device.type != "cuda":
            raise UserError(
                f"training.sync_batch_norm needs CUDA, and the network is on {device}. Switch it off; each rank then "
                "has batch statistics of its own, and the record says so."
            )
        if self.size == 1:
            return network
        if synchronise_batch_norm:
            _refuse_own_batch_norms(network)
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        # heads that the loss leaves out have no gradient, and layers may be frozen for a while
        return nn.parallel.DistributedDataParallel(
            network, device_ids=[device] if device.type == "cuda" else None, find_unused_parameters=True
        )


def current() -> World:
    """Return this process's place; alone where `join` was not entered."""
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(dist.get_rank(), dist.get_world_size())


@contextlib.contextmanager
def join(device: str = "auto") -> Iterator[World]:
    """Join the ranks that torchrun started, for the time of the block.

    Parameters
    ----------
    device : str
        The configured device; with CUDA each rank takes the one of its local number.

    Raises
    ------
    HarnessError
        Another rank died or never came, or torchrun started the job again in a way that cannot work.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ or dist.is_initialized():
        yield current()
        return
    on_cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    with naming_lost_ranks():
        # flags and scores are on the CPU, gradients where the network is
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo", timeout=_PATIENCE, **_place_of_this_life())
    # Deleting a group joins gloo's threads while Python's lock is held, and one of them may be waiting for that lock to
    # let go of the last tensor it sent: a deadlock, seen on a busy machine. A group that is kept is never deleted.
    _GROUPS.append(dist.group.WORLD)
    try:
        yield current()
    finally:
        dist.destroy_process_group()


def _place_of_this_life() -> dict[str, Any]:
    """Return where the ranks find each other: not among the addresses of those that torchrun had started before.

    The store that torchrun shares with its ranks outlives them, and a rank that is started again would call one that
    is dead (pytorch issue 135712). Each life of the job therefore gets a part of the store of its own. Lives are
    counted per node, so over several nodes only a new store helps.

    Raises
    ------
    HarnessError
        The job was started again over several nodes with the old store.
    """
    environment = os.environ
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    life = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    if environment.get("LOCAL_WORLD_SIZE") != environment["WORLD_SIZE"]:
        if life == "0":
            return {}
        raise HarnessError(
            "torchrun started this job again over several nodes, and its ranks would call those that died, whose "
            "addresses its store still holds. Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on every node before torchrun; "
            "the run goes on from its last checkpoint."
        )
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
    return {"store": PrefixStore(f"life {life}", store), "rank": rank, "world_size": size}


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Return the sum of every rank's tensor; gradients flow back to all of them."""
    if current().size == 1:
        return tensor
    from torch.distributed.nn.functional import all_reduce

    with naming_lost_ranks():
        total: Tensor = all_reduce(tensor)  # type: ignore[no-untyped-call]
    return total


def _refuse_own_batch_norms(network: nn.Module) -> None:
    kinds = {type(module) for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    own = kinds - {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm}
    if own:
        raise UserError(
            f"{', '.join(sorted(kind.__name__ for kind in own))} has rules of its own that torch's synchronised batch "
            "norm would drop. Switch training.sync_batch_norm off, or choose another normalization of the network."
        )


@contextlib.contextmanager
def naming_lost_ranks() -> Iterator[None]:
    """Turn what torch says when another process cannot be reached into an error that says what to do.

    Raises
    ------
    HarnessError
        Another rank is gone.
    """
    try:
        yield
    except (dist.DistBackendError, RuntimeError) as error:
        text = str(error)
        started = int(os.environ.get("WORLD_SIZE", "1"))  # before they have joined, nobody else knows of the others
        if max(started, current().size) == 1 or not any(sign in text for sign in _SIGNS):
            raise
        raise HarnessError(
            f"Another rank of this run is gone or cannot be reached ({text.strip().splitlines()[0]}). Its own message "
            "says why. Start the same torchrun command again: the run goes on from its last checkpoint."
        ) from error
