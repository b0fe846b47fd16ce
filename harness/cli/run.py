"""``harness run``: one cell from cards to record."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["add_config_arguments", "configure", "execute", "overrides_of"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser, "model=… dataset=… init=pretrained|scratch protocol=… fold=0 seed=0 …")


def add_config_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """Declare what every command that composes a configuration takes."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=f"Hydra overrides: {example}")
    parser.add_argument("--cfg", action="store_true", help="print the composed configuration and stop")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder of own config groups")
    parser.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR", help="a folder of own cards")


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """Return the overrides, with ``--cards`` as one of them."""
    folders = ",".join(f"'{folder.resolve()}'" for folder in arguments.cards)
    return [*arguments.overrides, *([f"cards=[{folders}]"] if folders else [])]


def execute(arguments: argparse.Namespace) -> int:
    """Run the cell, or print its configuration."""
    from harness.config import run_config

    config = run_config(overrides_of(arguments), arguments.config_dir)
    if arguments.cfg:
        sys.stdout.write(yaml_of(config.model_dump(mode="json")))
        return 0
    from harness.run import run

    record = run(config)
    sys.stdout.write(f"{record}\n")
    return 0


def yaml_of(content: object) -> str:
    """Spell a configuration as YAML, in its own order."""
    import yaml

    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
