"""The parts of a record: model, weights, data, split, protocol, environment, cost. `schema.py` puts them together."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

__all__ = [
    "CaseCounts",
    "Contamination",
    "Cost",
    "Dataset",
    "Deterministic",
    "Energy",
    "Env",
    "Excluded",
    "Fingerprint",
    "Hardware",
    "Harness",
    "Inference",
    "Intensity",
    "Known",
    "Model",
    "NeedsReason",
    "Parameters",
    "Part",
    "Planned",
    "Pretraining",
    "Protocol",
    "Seeds",
    "Selection",
    "Sha256",
    "Split",
    "Submitter",
    "Weights",
    "without_new_nulls",
]


class Part(BaseModel):
    """A typed piece of a record: immutable, unknown keys refused, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def without_new_nulls(fields: dict[str, Any], *added: str) -> dict[str, Any]:
    """Leave out the fields that came later where nobody knows them, so that older records keep their hashes."""
    return {name: value for name, value in fields.items() if value is not None or name not in added}


class NeedsReason:
    """Marks a field that must be stated; where it is null, the record's ``reasons`` must say why."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Tell readers of the exported schema about the rule."""
        return {**handler(schema), "x-null-needs-a-reason": True}


T = TypeVar("T")
Known = Annotated[T | None, NeedsReason()]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(max_length=4000)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]
Length = Annotated[float, Field(gt=0)]
LabelValue = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]*)$")]
Phase = Literal["prepare", "train", "validate", "infer", "score"]


class Parameters(Part):
    """Sizes of the network."""

    total: Known[Count]
    trainable: Known[Count]


class Model(Part):
    """Which network was trained, and how it started."""

    id: Name = Field(description="the family, such as models_genesis")
    variant: Name = Field(description="the weight set of the family, such as chest_ct")
    adapter_version: Known[Name]
    parameters: Parameters
    init: Literal["pretrained", "scratch", "released", "other"]


class Weights(Part):
    """Where the starting weights came from, and proof of what was live. Null from scratch: the first five fields."""

    source: Text | None = Field(default=None, description="URL or DOI; required unless from scratch")
    file: Name | None = Field(default=None, description="name of the file, without folders")
    bytes: Positive | None = None
    sha256: Sha256 | None = None
    licence: Name | None = Field(default=None, description="SPDX or text")
    state_sha256: Known[Sha256] = Field(description="live parameters after loading: sorted name, dtype, shape, bytes")
    loaded_fraction: Known[Share] = Field(description="of the encoder's parameters; 0 from scratch")
    loading_file_sha256: Known[Sha256] = Field(default=None, description="of loading.json; computed when assembled")
    final_sha256: Known[Sha256] = Field(description="the weights that were scored")


class Pretraining(Part):
    """What the starting weights had seen."""

    datasets: tuple[Name, ...]


class Contamination(Part):
    """Whether pretraining saw the data that are scored here."""

    status: Literal["none", "train_overlap", "test_overlap", "unlabeled_overlap", "unknown"]
    evidence: Text


class CaseCounts(Part):
    """Cases per role of the split."""

    train: Known[Count]
    val: Known[Count]
    test: Known[Count]


class Excluded(Part):
    """A case that was left out, and why."""

    case_id: Name
    reason: Text


class Fingerprint(Part):
    """Hashes over ``case_id <tab> image_hash <tab> label_hash``: of all cases, and of the scored ones alone."""

    all: Known[Sha256]
    scored: Known[Sha256]


class Dataset(Part):
    """Which data, by content."""

    id: Name
    card_version: Known[Name]
    fingerprint: Fingerprint
    n_cases: CaseCounts
    label_map: Known[dict[LabelValue, Name]] = Field(description="label value as text to name, background included")
    regions: dict[Name, tuple[int, ...]] = Field(
        default_factory=dict, description="overlapping targets made of labels; empty: every label is a class"
    )
    remap: dict[LabelValue, int] | None = Field(default=None, description="stored value as text to label value, if any")
    excluded: tuple[Excluded, ...]

    @property
    def classes(self) -> dict[str, tuple[int, ...]]:
        """Name to label values of everything that is scored: the regions, or each label but the background."""
        if self.regions:
            return dict(self.regions)
        return {name: (int(value),) for value, name in (self.label_map or {}).items() if int(value) != 0}

    @property
    def class_ids(self) -> dict[str, int]:
        """Name to the number in the case file: the label value, or the place of a region among their names, from 1."""
        if self.regions:  # sorted, because canonical JSON does not keep the order of keys
            return {name: number for number, name in enumerate(sorted(self.regions), start=1)}
        return {name: labels[0] for name, labels in self.classes.items()}


class Split(Part):
    """Which cases played which role."""

    id: Name
    sha256: Known[Sha256]
    fold: Count | None = None
    n_folds: Positive | None = None
    scored_role: Known[Literal["test", "val_independent", "val_used_for_selection"]]
    label_fraction: Share | None = None
    subset_seed: Count | None = None


class Intensity(Part):
    """How voxel values became network inputs."""

    method: Name
    window: tuple[float, float] | None = Field(default=None, description="HU for CT")
    percentiles: tuple[float, float] | None = None
    to: tuple[float, float] | None = None


class Selection(Part):
    """How the scored weights were chosen among those of the run."""

    rule: Literal["last", "best_val", "average", "none"]
    note: Text | None = Field(default=None, description="which metric, how often")
    configurations_tried: Positive | None = None


class Inference(Part):
    """From network outputs to a label map."""

    overlap: Known[Share] = Field(description="of neighbouring windows")
    blending: Known[Name]
    window_batch: Known[Positive]
    tta: tuple[Name, ...]
    ensemble_size: Positive
    decision: Known[Name] = Field(description="argmax, or the threshold")
    post_processing: tuple[Name, ...]


class Protocol(Part):
    """The recipe, in the words of the protocol card."""

    id: Name
    spacing: Known[tuple[Length, Length, Length] | Literal["native"]] = Field(description="mm per network axis")
    orientation: Known[Name] = Field(description="direction in which each network axis increases, such as RAS")
    intensity: Known[Intensity]
    patch: Known[tuple[Positive, Positive, Positive]] = Field(description="voxels")
    batch: Known[Positive]
    patches_per_case: Known[Positive]
    optimizer: Known[Name]
    lr: Known[Amount]
    schedule: Known[Name]
    loss: Known[Name]
    steps: Known[Count] = Field(description="optimiser updates")
    epochs: Known[Amount] = Field(description="passes over the training cases; a fraction where steps are counted")
    samples_seen: Known[Count] = Field(description="patches")
    selection: Known[Selection]
    inference: Known[Inference]
    batch_norm: Name | None = Field(
        default=None, description="several ranks only: whose statistics a network with batch norm was trained by"
    )

    @model_serializer(mode="wrap")
    def _leave_out_what_is_new_and_unknown(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_new_nulls(handler(self), "batch_norm")


class Seeds(Part):
    """One seed per source of randomness."""

    python: Known[Count]
    numpy: Known[Count]
    torch: Known[Count]
    data: Known[Count]
    init: Known[Count]


class Deterministic(Part):
    """Switches that decide whether the same command gives the same bits."""

    cudnn_benchmark: Known[bool]
    algorithms: Known[bool] = Field(description="torch.use_deterministic_algorithms")
    tf32: Known[bool]
    amp: Known[Name] = Field(description="off, bf16 or fp16")


class Harness(Part):
    """Which code ran. A dirty or unknown tree keeps the record at the lowest level of trust."""

    version: Name
    commit: str = Field(pattern=r"^([0-9a-f]{40}|unknown)$")
    dirty: bool


class Env(Part):
    """Versions of what the result depends on."""

    python: Known[Name]
    torch: Known[Name]
    cuda: Known[Name]
    cudnn: Known[Name]
    monai: Known[Name]
    driver: Known[Name]
    lock_sha256: Known[Sha256] = Field(description="sorted name==version of every installed distribution")


class Hardware(Part):
    """The machine, without its name. Memory in GiB."""

    gpu: Known[Name]
    gpu_count: Known[Positive]
    gpu_memory: Known[Amount]
    cpu: Name | None = None
    cpu_count: Positive | None = None
    ram: Amount | None = None


class Energy(Part):
    """Energy in kWh."""

    kwh: Amount
    measured: bool


class Planned(Part):
    """What was predicted of a run without running it, as `harness plan` prints it, to be read beside what it took."""

    parameters: Count = Field(description="of the network")
    steps: Count = Field(description="optimiser updates")
    samples: Count = Field(description="training patches")
    flops_per_step: Count = Field(description="forward and backward over the whole batch; a multiply-add is two")
    train_memory: Amount = Field(description="GiB of live tensors at most in a training step of one process")
    predict_memory: Amount = Field(description="GiB of live tensors at most in predicting one batch of windows")


class Cost(Part):
    """What the run used."""

    wall: Known[dict[Phase, Amount]] = Field(description="seconds per phase; 0 where it did not happen")
    gpu_hours: Known[Amount]
    peak_gpu_memory: Known[Amount] = Field(description="GiB")
    allocator: Known[Literal["allocated", "reserved"]]
    energy: Energy | None = None
    seconds_per_case: Known[Amount] = Field(description="median at inference")
    resumed: Count = Field(description="how often the run was taken up again")
    # not in the first records: where nobody knows them they are left out, so that a record keeps its hash
    peak_gpu_reserved: Amount | None = Field(default=None, description="GiB that torch's allocator held at most")
    samples_per_second: Amount | None = Field(default=None, description="training samples, over the time of training")
    wait_fraction: Share | None = Field(default=None, description="of the time of training spent waiting for data")
    ranks: Positive | None = Field(default=None, description="processes that trained together; left out: one")
    peak_resident: Amount | None = Field(
        default=None, description="GiB of main memory that the process held at most, its libraries and data included"
    )
    planned: Planned | None = Field(default=None, description="left out where it could not be predicted")

    @model_serializer(mode="wrap")
    def _leave_out_what_is_new_and_unknown(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_new_nulls(handler(self), *_ADDED_TO_COST)


_ADDED_TO_COST = (
    *("peak_gpu_reserved", "samples_per_second", "wait_fraction", "ranks"),
    *("peak_resident", "planned"),
)


class Submitter(Part):
    """Who ran it, and how they stand to the model's authors."""

    handle: Known[Name]
    affiliation: Known[Name]
    relation: Known[Literal["author", "competitor", "none"]]
