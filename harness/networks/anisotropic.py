"""Convolutions and steps that may leave z alone, and the resolution modes that choose them (MIS-FM networks).

Source: openmedlab/MIS-FM, Apache-2.0. Written anew from the description.
"""

from __future__ import annotations

from typing import Final

from torch import nn

from harness.networks.errors import SettingError

__all__ = ["FLAT_LEVELS", "conv3d", "step_of", "total_stride"]

FLAT_LEVELS: Final = {0: (False, False), 1: (True, False), 2: (True, True)}
"""For each resolution mode: is the first, the second level flat (1x3x3 convolutions, 1x2x2 steps)?"""


def step_of(*, flat: bool) -> tuple[int, int, int]:
    """Return the (z, y, x) step between a level and the next: 1x2x2 where ``flat``, else 2x2x2."""
    return (1 if flat else 2, 2, 2)


def total_stride(mode: int) -> tuple[int, int, int]:
    """Return the (z, y, x) reduction over four steps in a resolution mode.

    Raises
    ------
    SettingError
        There is no such mode.

    Examples
    --------
    >>> total_stride(1)
    (8, 16, 16)
    """
    if mode not in FLAT_LEVELS:
        raise SettingError(f"The resolution mode is {mode!r}; the MIS-FM networks have the modes 0, 1 and 2.")
    return (16 >> sum(FLAT_LEVELS[mode]), 16, 16)


def conv3d(in_channels: int, out_channels: int, *, flat: bool, stride: tuple[int, int, int] = (1, 1, 1)) -> nn.Conv3d:
    """Build a convolution, 1x3x3 where ``flat``, else 3x3x3, padded to keep the size at stride 1."""
    depth = 1 if flat else 3
    return nn.Conv3d(in_channels, out_channels, kernel_size=(depth, 3, 3), stride=stride, padding=(depth // 2, 1, 1))
