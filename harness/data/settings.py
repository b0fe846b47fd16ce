"""What a protocol chooses about data: preprocessing, patches, augmentation. Facts about data are cards, not these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_serializer, model_validator

from harness.cards.base import Fact
from harness.cards.model import Intensity

__all__ = [
    "Affine",
    "Augmentation",
    "DeviceTransform",
    "Flip",
    "Foreign",
    "Gamma",
    "GaussianNoise",
    "GaussianSmooth",
    "IntensityRule",
    "LowResolution",
    "Patches",
    "Preprocessing",
    "ScaleIntensity",
    "ShiftIntensity",
    "Transform",
]

Probability = Annotated[float, Field(ge=0, le=1)]
Positive3 = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


class IntensityRule(Intensity):
    """How voxel values become network inputs, per channel and per volume.

    ``window`` clips to a range and maps it to ``to``; ``zscore`` subtracts the mean and divides by the standard
    deviation; ``zscore_nonzero`` does so over the voxels that are not 0 and leaves the others at 0; ``minmax`` maps
    the lowest and highest value to ``to``. ``percentiles`` clips to these percentiles of the volume first.
    """

    percentiles: tuple[float, float] | None = Field(default=None, description="clip to these percentiles (0-100) first")

    @model_validator(mode="after")
    def _complete(self) -> IntensityRule:
        if self.rule == "window" and self.window is None:
            raise ValueError("rule 'window' needs window: [lowest, highest]")
        for name, pair in (("window", self.window), ("to", self.to), ("percentiles", self.percentiles)):
            if pair is not None and not pair[0] < pair[1]:
                raise ValueError(f"{name} must rise from its first to its second number, not {list(pair)}")
        if self.percentiles is not None and not (self.percentiles[0] >= 0 and self.percentiles[1] <= 100):
            raise ValueError(f"percentiles lie between 0 and 100, not {list(self.percentiles)}")
        return self


class Preprocessing(Fact):
    """What is done once to every case before it is cached. Its hash names the cache folder."""

    channels: tuple[int, ...] | None = Field(
        default=None, description="which channel of the data is at each place of the network's input; null: as stored"
    )
    axcodes: str = Field(
        default="RAS",
        pattern=r"^[RLAPSI]{3}$",
        description="direction in which each axis of the prepared array increases; from the model's contract",
    )
    spacing: tuple[float, float, float] | Literal["native"] = Field(
        default="native", description="mm per axis of the prepared array"
    )
    intensity: IntensityRule = IntensityRule(rule="none")
    foreground_crop: bool = Field(
        default=False, description="crop to the box in which any channel exceeds the lowest value of its volume"
    )
    minimum_shape: Positive3 | None = Field(default=None, description="pad symmetrically up to this shape")
    divisible_by: Positive3 = Field(default=(1, 1, 1), description="pad symmetrically to multiples of this")
    dtype: Literal["float16", "float32"] = Field(
        default="float16",
        description="how prepared images are stored; patches are float32 either way. float16 rounds a window mapped "
        "to [0, 1] by at most 2.5e-4 (0.5 HU of a 2000 HU window)",
    )
    foreground_voxels: int = Field(
        default=20_000, gt=0, description="at most so many voxels per class and case are indexed for positive sampling"
    )

    @model_validator(mode="after")
    def _axes_differ(self) -> Preprocessing:
        if len({"RLAPSI".index(letter) // 2 for letter in self.axcodes}) != 3:
            raise ValueError(f"axcodes {self.axcodes!r} name one direction twice; RAS, LPS or SAR are examples")
        if self.spacing != "native" and min(self.spacing) <= 0:
            raise ValueError(f"spacing is in mm and above 0, not {list(self.spacing)}")
        return self


class Patches(Fact):
    """How training patches are drawn from prepared cases."""

    size: Positive3 = Field(description="voxels, in the axes of the prepared array")
    batch: int = Field(default=2, gt=0, description="patches per step")
    positive_fraction: Probability = Field(
        default=0.5, description="probability that a patch is centred on a foreground voxel (class drawn first)"
    )
    per_case: int = Field(default=1, gt=0, description="consecutive patches drawn from one case")


class _Random(Fact):
    probability: Probability = 0.5


class Flip(_Random):
    """Mirror one axis with this probability each. Left-right flips swap paired organs, so each axis is opted in."""

    name: Literal["flip"] = "flip"
    axes: tuple[Literal[0, 1, 2], ...] = Field(min_length=1, description="axes of the prepared array")


class Affine(_Random):
    """Rotate, zoom and translate image (linear) and label (nearest) about the patch centre."""

    name: Literal["affine"] = "affine"
    rotate: tuple[float, float, float] = Field(default=(0.0, 0.0, 0.0), description="largest angle per axis, degrees")
    zoom: tuple[float, float] = Field(default=(1.0, 1.0), description="range of the isotropic magnification")
    translate: tuple[float, float, float] = Field(default=(0.0, 0.0, 0.0), description="largest shift, voxels")

    @model_validator(mode="after")
    def _zoom_range(self) -> Affine:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom is a rising pair above 0, not {list(self.zoom)}")
        return self


class ScaleIntensity(_Random):
    """Multiply by 1 + u, u uniform in ``factors``."""

    name: Literal["scale_intensity"] = "scale_intensity"
    factors: tuple[float, float] = (-0.1, 0.1)


class ShiftIntensity(_Random):
    """Add u, u uniform in ``offsets``."""

    name: Literal["shift_intensity"] = "shift_intensity"
    offsets: tuple[float, float] = (-0.1, 0.1)


class GaussianNoise(_Random):
    """Add Gaussian noise of a standard deviation drawn from U(0, ``std``)."""

    name: Literal["gaussian_noise"] = "gaussian_noise"
    std: float = Field(default=0.1, gt=0)


class GaussianSmooth(_Random):
    """Blur by a Gaussian whose sigma is drawn per axis from ``sigma`` (voxels)."""

    name: Literal["gaussian_smooth"] = "gaussian_smooth"
    sigma: tuple[float, float] = (0.5, 1.0)


class Gamma(_Random):
    """Raise the values, mapped to [0, 1] over the patch and back, to a power drawn from ``gamma``."""

    name: Literal["gamma"] = "gamma"
    gamma: tuple[float, float] = (0.7, 1.5)


class LowResolution(_Random):
    """Sample down by a factor from ``zoom`` (nearest) and up again (linear): a scan of thicker slices."""

    name: Literal["low_resolution"] = "low_resolution"
    zoom: tuple[float, float] = (0.5, 1.0)


class Foreign(Fact):
    """A MONAI transform, or anything callable like one, by its dotted path: ``{_target_: package.Class, option: …}``.

    A dictionary transform gets ``{"image": …, "label": …}``; any other gets the image alone. If it is MONAI
    `Randomizable`, it is seeded per sample, so that resume and the number of workers do not change the data.
    """

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=False)

    target: str = Field(alias="_target_", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of the class."""
        return dict(self.__pydantic_extra__ or {})

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return {"_target_": self.target, **self.options}


def _kind(value: Any) -> str | None:
    """Tell which model describes a transform, so that errors speak of that one alone."""
    if isinstance(value, dict):
        return "_target_" if "_target_" in value else value.get("name")
    return getattr(value, "name", "_target_")


Transform = Annotated[
    Annotated[Flip, Tag("flip")]
    | Annotated[Affine, Tag("affine")]
    | Annotated[ScaleIntensity, Tag("scale_intensity")]
    | Annotated[ShiftIntensity, Tag("shift_intensity")]
    | Annotated[GaussianNoise, Tag("gaussian_noise")]
    | Annotated[GaussianSmooth, Tag("gaussian_smooth")]
    | Annotated[Gamma, Tag("gamma")]
    | Annotated[LowResolution, Tag("low_resolution")]
    | Annotated[Foreign, Tag("_target_")],
    Discriminator(_kind),
]


DeviceTransform = Annotated[Flip | ScaleIntensity | ShiftIntensity | GaussianNoise | Gamma, Field(discriminator="name")]


class Augmentation(Fact):
    """Random transforms of training patches, in the order in which they are applied."""

    transforms: tuple[Transform, ...] = ()
    device: tuple[DeviceTransform, ...] = Field(
        default=(),
        description="applied after these, to whole batches where the network is: for GPUs that wait for the CPU's "
        "transforms. What is drawn does not depend on the device",
    )
