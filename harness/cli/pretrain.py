"""``harness pretrain``: a pretext task on unlabelled volumes; ends with a checkpoint, its card and a record."""

from __future__ import annotations

import argparse
import sys

from harness.cli.run import add_config_arguments, overrides_of, yaml_of

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser, "recipe=models_genesis model=… name=… dataset=… held_out=[…] seed=0 …")


def execute(arguments: argparse.Namespace) -> int:
    """Pretrain, or print the configuration."""
    from harness.config import pretrain_config

    config = pretrain_config(overrides_of(arguments), arguments.config_dir)
    if arguments.cfg:
        sys.stdout.write(yaml_of(config.model_dump(mode="json")))
        return 0
    from harness.pretrain import pretrain

    result = pretrain(config)
    sys.stdout.write(
        f"{result.card}\n\nThe weights are called {result.model}. Fine-tune them with\n"
        f"  harness run model={result.model} dataset=… --cards {result.card.parent}\n"
    )
    return 0
