"""Named rules that change a published tensor so that it fits another task; the name goes into the load report."""

from __future__ import annotations

from torch import Tensor

__all__ = ["repeat_input_channel"]


def repeat_input_channel(weight: Tensor, channels: int) -> tuple[Tensor, str]:
    """Give a convolution that was trained on one channel several, so that equal channels give the same answer.

    Parameters
    ----------
    weight : Tensor of shape (out, 1, ...)
        The published first convolution.
    channels : int
        Input channels wanted.

    Returns
    -------
    Tensor of shape (out, channels, ...)
        The kernel repeated and divided by ``channels``.
    str
        The rule, for the report.
    """
    copies = [1, channels] + [1] * (weight.ndim - 2)
    return weight.repeat(copies) / channels, f"one input channel repeated {channels} times and divided by {channels}"
