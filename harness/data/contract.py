"""Where the input contract meets the data: a mismatch is refused, or handled by a named rule that is recorded.

The model card says what its weights expect; the protocol may choose the spacing and, for weights that do not fix
it, the intensity rule. What comes out is the `Preprocessing` that names the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from harness.cards.base import Fact
from harness.cards.dataset import DatasetCard
from harness.cards.model import InputContract
from harness.data.settings import IntensityRule, Preprocessing
from harness.errors import UserError

__all__ = ["InputChoice", "Meeting", "meet"]

_AXIS_OF = {"R": "x", "L": "x", "A": "y", "P": "y", "S": "z", "I": "z"}
_DEFAULT_ORIENTATION = "RAS"


class InputChoice(Fact):
    """What a protocol chooses about the input; ``contract`` takes what the model card says."""

    spacing: tuple[float, float, float] | Literal["native", "contract"] = "contract"
    intensity: IntensityRule | Literal["contract"] = "contract"
    foreground_crop: bool = False
    allow_modality_mismatch: bool = False
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
        The modality differs and the protocol does not allow it, or the contract's channels are not the data's.
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
        axcodes=axcodes,
        spacing=spacing,
        intensity=IntensityRule(**intensity.model_dump()),
        foreground_crop=choice.foreground_crop,
        dtype=choice.dtype,
    )
    return Meeting(preprocessing, tuple(rules))


def _in_axes(orientation: str, axes: str) -> str:
    """Order the letters of an orientation as a network's spatial axes.

    >>> _in_axes("LPS", "zyx")
    'SPL'
    """
    letters = {_AXIS_OF[letter]: letter for letter in orientation}
    return "".join(letters[axis] for axis in axes)


def _plain(rule: Any) -> dict[str, Any]:
    return {name: value for name, value in rule.model_dump().items() if value is not None}
