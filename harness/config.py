"""Typed configuration: what a person may choose. Hydra composes it once per command, pydantic validates it.

Facts (what a model or a data set is) are cards; the configuration only names them and cannot override them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.cards.base import explain
from harness.data.contract import InputChoice
from harness.data.settings import Augmentation, Patches
from harness.errors import UserError, nearest
from harness.executors import Executor, LocalExecutor
from harness.files import canonical_json, sha256_hex
from harness.inference.settings import Inference
from harness.resources import shipped
from harness.training.settings import Training

__all__ = [
    "Executor",
    "MadeHere",
    "PretrainConfig",
    "Protocol",
    "Registered",
    "RunConfig",
    "Scoring",
    "compose",
    "parse_run",
    "pretrain_config",
    "run_config",
]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_OF_LABEL_MAPS = frozenset({"dice", "hd95"})  # the usual ones, known without asking


class Scoring(_Config):
    """What is measured, on the scan's own grid, and what an empty mask counts."""

    metrics: tuple[str, ...] = ("dice", "hd95")
    policy: str = "adopted"
    sums: bool = Field(
        default=False,
        description="keep per case the sums over probabilities, from which soft metrics are computed now and later; "
        "holds all logits of a scan at once",
    )
    averaging: Literal["class_then_case", "case_then_class", "pooled"] | None = Field(
        default=None,
        description="of every metric, as a published recipe has it; null: as each metric's definition says",
    )

    @model_validator(mode="after")
    def _soft_metrics_have_their_sums(self) -> Scoring:
        if self.sums or set(self.metrics) <= _OF_LABEL_MAPS:
            return self
        from harness.scoring.soft import SOFT_METRICS  # brings NumPy along, which most configurations do without

        soft = [metric for metric in self.metrics if metric in SOFT_METRICS]
        if soft:
            raise ValueError(
                f"{', '.join(soft)} cannot be computed from label maps; set protocol.scoring.sums=true as well, which "
                "keeps the sums over probabilities"
            )
        return self


class Protocol(_Config):
    """Everything between the data as they are and the score, except the facts on the cards."""

    name: str
    title: str
    source: str = Field(description="where the recipe is published, or that it is ours")
    status: Literal["ours", "complete", "incomplete", "not_executable"] = Field(
        default="ours",
        description="whether the recipe is ours, published completely, published in part (the rest is assumed), or "
        "needs what no cell can do",
    )
    unknown: tuple[str, ...] = Field(default=(), description="what the publication does not say")
    deviations: tuple[str, ...] = Field(default=(), description="where this file departs from the recipe")
    lr_grid: tuple[float, ...] = Field(
        default=(), description="learning rates that a model and its twin both try; chosen before anything is scored"
    )
    input: InputChoice = InputChoice()
    network: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options per adapter, such as models_genesis: {normalization: running}"
    )
    patches: Patches
    augmentation: Augmentation = Augmentation()
    training: Training
    inference: Inference = Inference()
    scoring: Scoring = Scoring()

    def refuse(self) -> None:
        """Raise UserError where no cell can do what the recipe needs."""
        if self.status == "not_executable":
            raise UserError(
                f"The protocol {self.name} is kept for what is known of it and cannot be run: "
                f"{'; '.join(self.deviations)}. Choose another one; `harness list protocols` shows them all."
            )


class _Where(_Config):
    """The part that says where things lie and run. It never enters a record or a hash."""

    executor: Executor = LocalExecutor()
    device: str = "auto"
    threads: int | None = Field(default=None, gt=0, description="CPU threads; null: what torch chooses")
    out: Path = Path("runs")
    cache: Path | None = Field(default=None, description="prepared volumes; null: $HARNESS_CACHE or the user's cache")
    data_root: Path | None = None
    weights: Path | None = Field(default=None, description="the checkpoint file; null: found as the card says")
    cards: tuple[Path, ...] = ()
    submitter: str | None = Field(default=None, description="a public handle, if you want to be named")
    profile: int = Field(
        default=0, ge=0, description="training steps to profile; profile/ in the run's folder gets a summary"
    )


_WHERE = frozenset(_Where.model_fields)


class MadeHere(_Config):
    """Weights that nobody publishes, because whoever runs the experiment makes them first."""

    base: str = Field(description="the card with their architecture and contract")
    how: str = Field(description="the commands that make them")


class Registered(_Config):
    """What an experiment fixes before anything runs."""

    id: str = Field(pattern=r"^[a-z0-9_]+$", description="the name of its file")
    title: str = ""
    margin: float = Field(gt=0, lt=1, description="largest difference that still counts as reproduced, as a fraction")
    claims: tuple[str, ...] = Field(default=(), description="the printed numbers that it attempts")
    note: str = Field(default="", description="what it can and cannot show")
    made_here: MadeHere | None = Field(default=None, description="where its weights are made by another command first")


class RunConfig(_Where):
    """One cell, and where to run it."""

    model: str
    dataset: str
    init: Literal["pretrained", "scratch", "released", "other"] = Field(
        default="pretrained",
        description="released: the published file with its own output layer, scored as it is; other: no network at "
        "all, for baseline.prior and baseline.threshold",
    )
    split: str | None = None
    fold: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)
    label_fraction: float = Field(default=1.0, gt=0, le=1)
    subset_seed: int = Field(default=0, ge=0)
    protocol: Protocol
    registered: Registered | None = Field(default=None, description="set by an experiment, before anything runs")

    def science(self) -> dict[str, Any]:
        """Return what can change a result: not paths, device and executor, and not what an experiment registered."""
        return self.model_dump(mode="json", exclude={*_WHERE, "registered"})

    @property
    def sha256(self) -> str:
        """Hash of `science`."""
        return sha256_hex(canonical_json(self.science()))

    @property
    def cell(self) -> str:
        """The name of the cell's folder: readable, and unique through the first digits of its hash."""
        parts = [self.dataset, self.model, self.init, f"fold{self.fold}", f"seed{self.seed}", self.protocol.name]
        return "-".join([*parts, self.sha256[:8]])


class PretrainConfig(_Where):
    """One pretraining run, and where to run it."""

    model: str
    name: str = Field(pattern=r"^[a-z0-9_]+$", description="variant of the weight set that comes out")
    dataset: str = Field(description="one id, or several joined by +")
    held_out: tuple[str, ...] = Field(
        default=(),
        description="volumes kept apart to measure the pretext task on; dataset/case where there are several data sets",
    )
    split: str | None = Field(default=None, description="with fold: which split of the data set; null: its first")
    fold: int | None = Field(
        default=None,
        ge=0,
        description="learn from the training cases of this fold alone and hold out its validation cases; null: use all",
    )
    parent: str | None = Field(
        default=None, description="a weight set to go on from; its file is found as its card says, or given as weights="
    )
    seed: int = Field(default=0, ge=0)
    input: InputChoice = InputChoice()
    recipe: dict[str, Any] = Field(description="validated by the recipe that its `name` names")
    network: dict[str, Any] = Field(default_factory=dict, description="options of the adapter")
    training: Training

    @property
    def datasets(self) -> tuple[str, ...]:
        """The ids in ``dataset``."""
        return tuple(self.dataset.split("+"))

    def science(self) -> dict[str, Any]:
        """Return what can change a result."""
        return self.model_dump(mode="json", exclude=set(_WHERE))

    @property
    def sha256(self) -> str:
        """Hash of `science`."""
        return sha256_hex(canonical_json(self.science()))

    @property
    def cell(self) -> str:
        """The name of the run's folder."""
        return "-".join([self.dataset, self.model, "pretrain", f"seed{self.seed}", self.sha256[:8]])


ConfigT = TypeVar("ConfigT", bound=_Config)


def run_config(overrides: Sequence[str], config_dir: Path | None = None) -> RunConfig:
    """Compose and validate the configuration of one cell from Hydra overrides such as ``protocol=demo_ct``."""
    return parse_run(compose("run", overrides, config_dir))


def parse_run(content: dict[str, Any]) -> RunConfig:
    """Validate a composed configuration. What an experiment says about several cells is for sweeps, and left out."""
    return _validated(RunConfig, {name: value for name, value in content.items() if name != "sweep"})


def pretrain_config(overrides: Sequence[str], config_dir: Path | None = None) -> PretrainConfig:
    """Compose and validate the configuration of one pretraining run."""
    return _validated(PretrainConfig, compose("pretrain", overrides, config_dir))


def compose(name: str, overrides: Sequence[str], config_dir: Path | None = None) -> dict[str, Any]:
    """Let Hydra compose ``configs/<name>.yaml`` with overrides.

    Parameters
    ----------
    name : str
        ``run`` or ``pretrain``.
    overrides : sequence of str
        In Hydra's grammar.
    config_dir : Path, optional
        A folder of the user's own groups, searched after the shipped ones.

    Raises
    ------
    UserError
        An override names a group, an option or a key that does not exist, or a value is missing.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if config_dir is not None and not config_dir.is_dir():
        raise UserError(f"There is no folder {config_dir}. --config-dir names a folder with groups such as protocol/.")
    search = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
    try:
        with initialize_config_dir(config_dir=str(shipped("configs")), version_base="1.3"):
            composed = hydra_compose(config_name=name, overrides=[*map(_forced, overrides), *search])
        missing = sorted(OmegaConf.missing_keys(composed))
        if missing:
            example = "harness run model=models_genesis.narrow8 dataset=ct_headneck_oar init=scratch protocol=demo_ct"
            raise UserError(f"Say which {', '.join(missing)}: for example `{example}`.")
        content = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain_hydra(str(error), overrides)) from error
    return {str(key): value for key, value in dict(content).items()}


def _validated(kind: type[ConfigT], content: dict[str, Any]) -> ConfigT:
    for name in ("model", "dataset"):
        if isinstance(content.get(name), dict):
            keys = ", ".join(f"{name}.{key}" for key in content[name])
            raise UserError(
                f"{keys} is a fact on a card and cannot be overridden. Name a card with {name}=ID; a card of your own "
                "in a folder given with --cards may say something else."
            )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UserError(f"The configuration is not valid: {explain(error, kind)}") from error


def _forced(override: str) -> str:
    """Let an override name any typed key, written in the YAML file or left at its default; pydantic knows them all."""
    key = override.partition("=")[0]
    is_choice = key in _GROUPS or "@" in key or "/" in key or not key[:1].isalpha()
    return override if is_choice else f"++{override}"


_GROUPS = frozenset(path.name for path in shipped("configs").iterdir() if path.is_dir())


def _explain_hydra(message: str, overrides: Iterable[str]) -> str:
    """Turn Hydra's complaint into one paragraph, with the nearest choice where a group has none of that name."""
    for override in overrides:
        group, _, choice = override.lstrip("+~").partition("=")
        known = sorted(path.stem for path in (shipped("configs") / group).glob("*.yaml")) if group in _GROUPS else []
        if known and choice not in known and choice in message:
            guess = nearest(choice, known)
            hint = f" Did you mean {group}={guess}?" if guess else ""
            return f"There is no {group} called {choice!r}.{hint} Known: {', '.join(known)}."
    first = " ".join(line.strip() for line in message.splitlines() if line.strip())
    first = first.split("Set the environment variable")[0].strip()
    return (
        f"The overrides do not compose: {first} Write KEY=VALUE; facts about models and data sets are on their cards "
        "and cannot be overridden."
    )
