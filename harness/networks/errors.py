"""The refusals shared by networks that cannot be built with every setting or compute every input shape."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import UserError

__all__ = ["InputShapeError", "SettingError", "check_volume_batch", "format_size"]


class InputShapeError(UserError, ValueError):
    """The network cannot compute this input shape; the message says which shapes it can."""


class SettingError(UserError, ValueError):
    """The network cannot be built with this argument; the message says with which it can."""


def format_size(size: Sequence[int]) -> str:
    """Write a size as ``64x128x128``."""
    return "x".join(str(side) for side in size)


def check_volume_batch(network: str, shape: Sequence[int], in_channels: int) -> tuple[int, int, int]:
    """Return the (z, y, x) size of a batch of volumes.

    Parameters
    ----------
    network : str
        The network's name, for the message.
    shape : sequence of int
        The input's shape; (batch, channel, z, y, x) is expected.
    in_channels : int
        The number of channels the network was built for.

    Raises
    ------
    InputShapeError
        The input has not five axes, or another number of channels.
    """
    if len(shape) != 5:
        raise InputShapeError(
            f"{network} takes (batch, channel, z, y, x), five axes; this input has {len(shape)}: {tuple(shape)}. "
            "Add the missing axes (x[None, None] for a bare volume)."
        )
    if shape[1] != in_channels:
        raise InputShapeError(
            f"{network} was built for {in_channels} input channel(s); this input has {shape[1]}: {tuple(shape)}. "
            "Select the channels the weights expect, or build the network with in_channels to match."
        )
    return shape[2], shape[3], shape[4]
