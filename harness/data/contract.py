"""Where the input contract meets the data: a mismatch is refused, or handled by a named rule that is recorded.

The model card says what its weights expect; the protocol may choose the spacing and, for weights that do not fix
it, the intensity rule. What comes out is the `Preprocessing` that names the cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.cards.base import Fact
from harness.cards.dataset import DatasetCard
from harness.cards.model import InputContract
from harness.data.settings import IntensityRule, Preprocessing
from harness.errors import UserError

__all__ = ["InputChoice", "Meeting", "meet", "padded"]

_AXIS_OF = {"R": "x", "L": "x", "A": "y", "P": "y", "S": "z", "I": "z"}
_DEFAULT_ORIENTATION = "RAS"
_SAME_CHANNEL = {"t1w": "t1", "t1n": "t1", "t1gd": "t1ce", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}


class InputChoice(Fact):
    """What a protocol chooses about the input; ``contract`` takes what the model card says.

    What is refused unless it is allowed: another modality than the weights', as many channels with other names, and
    files whose header does not say, or says in two ways, where left, front and head are.
    """

    spacing: tuple[float, float, float] | Literal["native", "contract"] = "contract"
    intensity: IntensityRule | Literal["contract"] = "contract"
    foreground_crop: bool = False
    allow_modality_mismatch: bool = False
    allow_channel_mismatch: bool = False
    allow_unplaced: bool = False
    dtype: Literal["float16", "float32"] = "float16"


@dataclass(frozen=True)
class Meeting:
    """The preprocessing that was agreed on, and every rule that was needed to get there."""

    preprocessing: Preprocessing
    rules: tuple[str, ...]


def meet(contract: InputContract, data: DatasetCard, choice: InputChoice) -> Meeting:
    """Settle the preprocessing of a data set for a weight set.

    Raises
    ------
    UserError
        The modality differs, or there are as many channels of other names, and the protocol does not allow it.
    """
    rules: list[str] = []
    if not set(contract.modality) & set(data.modality):
        if not choice.allow_modality_mismatch:
            raise UserError(
                f"The weights expect {'/'.join(contract.modality)}, {data.id} is {'/'.join(data.modality)}. "
                "Choose other weights, or say that the mismatch is meant with "
                "protocol.input.allow_modality_mismatch=true; the record will state it."
            )
        rules.append(f"modality: {'/'.join(contract.modality)} weights on {'/'.join(data.modality)} data, allowed")
    orientation = contract.orientation or _DEFAULT_ORIENTATION
    if contract.orientation is None:
        rules.append(f"orientation: the contract documents none, {_DEFAULT_ORIENTATION} is used")
    axcodes = _in_axes(orientation, contract.axes)
    spacing = contract.spacing or "native" if choice.spacing == "contract" else choice.spacing
    if spacing != "native":
        first, second, third = (spacing["xyz".index(_AXIS_OF[letter])] for letter in axcodes)
        spacing = (first, second, third)
    intensity = contract.intensity if choice.intensity == "contract" else choice.intensity
    if choice.intensity != "contract" and _plain(choice.intensity) != _plain(contract.intensity):
        rules.append("intensity: the protocol's rule instead of the contract's")
    preprocessing = Preprocessing(
        channels=_order(contract, data, choice, rules),
        axcodes=axcodes,
        spacing=spacing,
        intensity=IntensityRule(**intensity.model_dump()),
        foreground_crop=choice.foreground_crop,
        dtype=choice.dtype,
    )
    return Meeting(preprocessing, tuple(rules))


def padded(shapes: Mapping[str, Sequence[int]], size: Sequence[int]) -> tuple[str, ...]:
    """Return the rule by which volumes smaller than the network's input reach its size; none where all are larger.

    Parameters
    ----------
    shapes : mapping of str to sequence of int
        Prepared shape per case, in the network's axes.
    size : sequence of int
        The patch. A network that is built for one size sees nothing else.
    """
    small = [case for case, shape in shapes.items() if any(n < s for n, s in zip(shape, size, strict=True))]
    if not small:
        return ()
    patch = " x ".join(map(str, size))
    return (
        f"size: {len(small)} of {len(shapes)} volumes are smaller than the input of {patch} voxels somewhere and are "
        "padded evenly on both sides with the value of background",
    )


def _order(contract: InputContract, data: DatasetCard, choice: InputChoice, rules: list[str]) -> tuple[int, ...] | None:
    """Return which of the data's channels comes at each place of the network's input; None: they stay as they are."""
    expected, found = ([_canonical(name) for name in names] for names in (contract.channels, data.channels))
    if len(expected) != len(found):
        rules.append(
            f"channels: the weights have {len(expected)} ({', '.join(contract.channels)}), the data {len(found)} "
            f"({', '.join(data.channels)}); the load report says what became of the first layer"
        )
        return None
    if len(expected) == 1 or expected == found:
        return None
    if sorted(expected) == sorted(found):
        rules.append(
            f"channels: {', '.join(data.channels)} put in the order of the weights, {', '.join(contract.channels)}"
        )
        return tuple(found.index(name) for name in expected)
    if not choice.allow_channel_mismatch:
        raise UserError(
            f"The weights expect the channels {', '.join(contract.channels)}; {data.id} has as many, but others: "
            f"{', '.join(data.channels)}. Choose other weights, or say that the mismatch is meant with "
            "protocol.input.allow_channel_mismatch=true; they are then fed in the order of the data."
        )
    rules.append(f"channels: {', '.join(data.channels)} where {', '.join(contract.channels)} are expected, allowed")
    return None


def _canonical(name: str) -> str:
    return _SAME_CHANNEL.get(name.lower(), name.lower())


def _in_axes(orientation: str, axes: str) -> str:
    """Order the letters of an orientation as a network's spatial axes.

    >>> _in_axes("LPS", "zyx")
    'SPL'
    """
    letters = {_AXIS_OF[letter]: letter for letter in orientation}
    return "".join(letters[axis] for axis in axes)


def _plain(rule: Any) -> dict[str, Any]:
    return {name: value for name, value in rule.model_dump().items() if value is not None}
