"""Where cells run: settings of the three executors. They never enter a record or a hash."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Executor", "LocalExecutor", "RayExecutor", "SlurmExecutor"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    workers: int = Field(default=2, ge=0, description="processes or threads for reading and scoring, per cell")


class LocalExecutor(_Settings):
    """On this machine, each cell of a sweep in a process of its own."""

    name: Literal["local"] = "local"
    jobs: int | None = Field(default=None, gt=0, description="cells at a time; null: one per GPU, or one without")
    gpus: tuple[str, ...] | None = Field(
        default=None, description="devices to deal out, as CUDA_VISIBLE_DEVICES names them; null: all that are visible"
    )


class SlurmExecutor(_Settings):
    """On a Slurm cluster, each cell of a sweep one job of an array; needs the extra ``slurm``."""

    name: Literal["slurm"] = "slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    minutes: int = Field(default=24 * 60, gt=0, description="time limit; a cell that hits it is queued again")
    requeues: int = Field(default=10, ge=0, description="how often a cell may hit its time limit")
    cpus: int = Field(default=4, gt=0, description="cores per cell")
    gpus: int = Field(default=1, ge=0, description="GPUs per cell")
    memory_gb: float = Field(default=32, gt=0, description="main memory per cell, GB")
    jobs: int = Field(default=64, gt=0, description="cells at a time")
    setup: tuple[str, ...] = Field(default=(), description="shell lines before the cell, such as `module load cuda`")
    extra: dict[str, str | int] = Field(
        default_factory=dict, description="more options of sbatch by their long names, such as {constraint: a100}"
    )


class RayExecutor(_Settings):
    """On a Ray cluster, each cell of a sweep one task; needs the extra ``ray``."""

    name: Literal["ray"] = "ray"
    address: str | None = Field(default=None, description="of a running cluster; null: start one on this machine")
    cpus: float = Field(default=2, ge=0, description="cores per cell")
    gpus: float = Field(default=0, ge=0, description="GPUs per cell; 0.5 lets two share one")


Executor = Annotated[LocalExecutor | SlurmExecutor | RayExecutor, Field(discriminator="name")]
