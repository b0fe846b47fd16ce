"""Activation checkpointing: the inside of a block is computed again in the backward pass instead of being kept."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from harness.errors import UserError

__all__ = ["blocks", "recomputed"]

_LISTS = (nn.ModuleList, nn.ModuleDict)


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of a network: its innermost modules that hold several layers but no list of further blocks."""
    found = []
    for child in network.children():
        if not any(True for _ in child.children()):
            continue  # a single layer: nothing inside it to save
        holds_list = any(isinstance(module, _LISTS) for module in child.modules())
        holds_blocks = isinstance(child, nn.Sequential) and any(any(True for _ in c.children()) for c in child)
        if holds_list or holds_blocks:
            found += blocks(child)
        else:
            found.append(child)
    return found


@contextlib.contextmanager
def recomputed(network: nn.Module, wanted: bool) -> Iterator[None]:
    """Keep only the inputs and outputs of the network's `blocks` for the backward passes inside the with-block.

    Gradients, random layers and batch-norm statistics are the same as without. Names in the state do not change.

    Raises
    ------
    UserError
        It is wanted and the network has no blocks.
    """
    chosen = blocks(network) if wanted else []
    if wanted and not chosen:
        raise UserError(
            f"training.activation_checkpointing needs a network made of blocks, and {type(network).__name__} is made "
            "of single layers. Switch it off; a smaller patches.batch or training.accumulate saves memory too."
        )
    for block in chosen:
        block.forward = _checkpointed(block, block.forward)
    try:
        yield
    finally:
        for block in chosen:
            del block.forward  # the class's own again


def _checkpointed(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def contexts() -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
        return contextlib.nullcontext(), _statistics_held(block)

    @functools.wraps(forward)
    def again(*arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **options)
        return checkpoint(forward, *arguments, use_reentrant=False, context_fn=contexts, **options)

    return again


@contextlib.contextmanager
def _statistics_held(block: nn.Module) -> Iterator[None]:
    """Let batch norms see the batch a second time without counting it twice."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
