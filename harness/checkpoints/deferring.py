"""Building a network without drawing the starting values that a file is about to replace.

Drawing them takes longer than reading the file, and touches memory twice. What the file leaves out is drawn afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["DeferredInitialisation"]

_FILLS = {
    Tensor.add_,
    Tensor.clamp_,
    Tensor.div_,
    Tensor.erfinv_,
    Tensor.fill_,
    Tensor.mul_,
    Tensor.normal_,
    Tensor.sub_,
    Tensor.uniform_,
    Tensor.zero_,
}
"""In-place methods of which starting values are made; each changes its own tensor from numbers alone."""

_LOOKS = {
    Tensor.dim,
    Tensor.element_size,
    Tensor.is_complex,
    Tensor.is_contiguous,
    Tensor.is_floating_point,
    Tensor.nelement,
    Tensor.numel,
    Tensor.requires_grad_,
    Tensor.size,
    Tensor.stride,
    *(
        getattr(Tensor, name).__get__
        for name in ("device", "dtype", "grad_fn", "is_leaf", "is_sparse", "layout", "ndim", "requires_grad", "shape")
    ),
}
"""What does not read the values."""

_MAKES = {torch.arange, torch.empty, torch.full, torch.linspace, torch.ones, torch.tensor, torch.zeros}
"""What makes a tensor from numbers."""

_Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class DeferredInitialisation(TorchFunctionMode):
    """Holds back what fills parameters; whoever reads such a parameter meanwhile makes it happen first.

    Examples
    --------
    >>> with DeferredInitialisation() as held_back:
    ...     layer = nn.Linear(2, 2)
    >>> held_back.finish(layer, without={"weight"})  # the bias is drawn now; the weight comes from a file
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[int, _Call]] = []
        self._waiting: dict[int, nn.Parameter] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Take note of a fill, let looks pass, and catch up before anything else."""
        del types
        kwargs = kwargs or {}
        if func in _LOOKS or func in _MAKES:  # a network asks for these more often than for all others
            return func(*args, **kwargs)
        tensors = list(_tensors((*args, *kwargs.values())))
        if func in _FILLS or getattr(func, "__module__", None) == "torch.nn.init":
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, nn.Parameter) and all(one is target for one in tensors):
                self._waiting[id(target)] = target
                self._calls.append((id(target), (func, args, kwargs)))
                return target
        if read := {id(one) for one in tensors} & self._waiting.keys():
            self._catch_up(read)
        return func(*args, **kwargs)

    def finish(self, network: nn.Module, without: Container[str]) -> None:
        """Draw the values of every parameter but those named, in the order in which they would have been drawn."""
        replaced = {id(tensor) for name, tensor in network.named_parameters(remove_duplicate=False) if name in without}
        self._catch_up(self._waiting.keys() - replaced)
        self._calls, self._waiting = [], {}

    def _catch_up(self, due: Set[int]) -> None:
        calls = [call for key, call in self._calls if key in due]
        self._calls = [(key, call) for key, call in self._calls if key not in due]
        for key in due:
            del self._waiting[key]
        with torch.no_grad():
            for func, args, kwargs in calls:
                func(*args, **kwargs)


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            yield from _tensors(value.values())
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
