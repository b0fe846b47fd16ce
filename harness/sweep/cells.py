"""From overrides with comma lists to cells. Hydra composes once per choice of recipe; cells are varied in Python."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cards.dataset import DatasetCard
from harness.cards.library import dataset_card, index, model_card
from harness.cards.model import ModelCard
from harness.config import RunConfig, compose, parse_run
from harness.errors import UserError
from harness.records.runfolder import RunFolder

__all__ = ["AXES", "Cell", "card_of", "expand", "number_of_folds"]

# What makes a cell, slowest first; the start is fastest, so that twins are neighbours. Anything else is composed anew.
AXES = ("dataset", "model", "split", "label_fraction", "subset_seed", "fold", "seed", "init")


@dataclass(frozen=True)
class Cell:
    """One cell of a sweep, and its folder."""

    config: RunConfig

    @functools.cached_property
    def name(self) -> str:
        """The name of its folder."""
        return self.config.cell

    @functools.cached_property
    def folder(self) -> RunFolder:
        """Where its run lies, or will."""
        return RunFolder(self.config.out / self.name)


def expand(overrides: Sequence[str], config_dir: Path | None = None, *, twins: bool = True) -> list[Cell]:
    """Turn overrides into cells.

    Parameters
    ----------
    overrides : sequence of str
        In Hydra's grammar: ``seed=0,1,2``, ``seed=range(0,5)``, ``init=pretrained,scratch``, and also ``fold=all``.
        An experiment may say the same under ``sweep``; what is given here wins.
    config_dir : Path, optional
        A folder of the user's own config groups.
    twins : bool
        Plan the twin from scratch of every cell that starts from weights.

    Returns
    -------
    list of Cell
        Each once, twins side by side.

    Raises
    ------
    UserError
        An override, a card or the configuration is wrong.
    """
    fixed, listed = _parse(overrides)
    axes = {key: values for key, values in listed.items() if key in AXES}
    others = {key: values for key, values in listed.items() if key not in AXES}
    named = {override.lstrip("+").partition("=")[0] for override in fixed}
    every_fold = "fold=all" in fixed
    fixed = [override for override in fixed if override != "fold=all"]
    cells: dict[str, Cell] = {}
    for choice in itertools.product(*(_pairs(key, values) for key, values in others.items())):
        first = [f"{key}={values[0]}" for key, values in axes.items() if values[0] != "all"]
        content = compose("run", [*fixed, *choice, *first], config_dir)
        varied: dict[str, list[Any]] = _of_experiment(content, named)
        varied |= {key: [_value(text) for text in values] for key, values in axes.items()}
        if every_fold:
            varied["fold"] = ["all"]
        for one in _vary(content, varied):
            for config in _with_twin(parse_run(one), one) if twins else [parse_run(one)]:
                cell = Cell(config)
                cells.setdefault(cell.name, cell)
    starts = {(cell.config.model, tuple(cell.config.cards), cell.config.init): cell for cell in cells.values()}
    known: dict[tuple[str, tuple[Path, ...]], ModelCard] = {}
    for (name, folders, init), cell in starts.items():
        if (name, folders) not in known:
            known[name, folders] = card_of(cell.config)[0]
            known[name, folders].refuse_unsupported()
        known[name, folders].refuse_start(init)
    return list(cells.values())


def card_of(config: RunConfig) -> tuple[ModelCard, Path]:
    """Return the model card of a cell and its folder.

    Weights that an experiment tells how to make, and that nobody has made yet, have the card that they will be like,
    without a file.
    """
    made = config.registered.made_here if config.registered else None
    if made is None or config.model in index("model", config.cards):
        return model_card(config.model, config.cards)
    base, folder = model_card(made.base, config.cards)
    return base.model_copy(update={"id": config.model, "checkpoint": None}), folder


def number_of_folds(card: DatasetCard, split_id: str | None) -> int:
    """Return how many folds a split of a card has; one where it is fixed."""
    split = next((split for split in card.splits if split_id in (None, split.id)), None)
    if split is None:
        raise UserError(
            f"The data set {card.id!r} has no split {split_id or ''!r}; `harness data describe` shows them."
        )
    return split.made.folds if split.made else max(1, sum(part.startswith("fold") for part in split.parts))


def _parse(overrides: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Divide overrides into plain ones and lists, the latter as texts per key."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    fixed, listed = [], {}
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            said = " ".join(str(error).split()).split(" See https")[0]
            raise UserError(f"{text!r} is no override: {said}. Write KEY=VALUE or KEY=VALUE,VALUE,…") from error
        if override.is_sweep_override():
            listed[override.key_or_group] = [str(one) for one in override.sweep_string_iterator()]
        else:
            fixed.append(text)
    return fixed, listed


def _pairs(key: str, values: Iterable[str]) -> list[str]:
    return [f"{key}={value}" for value in values]


def _value(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


def _of_experiment(content: dict[str, Any], named: set[str]) -> dict[str, list[Any]]:
    """Return what the experiment varies, less what the command line settles."""
    said = content.get("sweep") or {}
    unknown = sorted(set(said) - set(AXES))
    if unknown:
        raise UserError(f"An experiment can vary {', '.join(AXES)}; its `sweep` names {', '.join(unknown)}.")
    return {key: values if isinstance(values, list) else [values] for key, values in said.items() if key not in named}


def _vary(content: dict[str, Any], varied: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    keys = [axis for axis in AXES if axis in varied]
    for values in itertools.product(*(varied[key] for key in keys)):
        one = {**content, **dict(zip(keys, values, strict=True))}
        if one["fold"] != "all":
            yield one
            continue
        card, _ = dataset_card(str(one["dataset"]), [Path(folder) for folder in one["cards"]])
        yield from ({**one, "fold": fold} for fold in range(number_of_folds(card, one["split"])))


def _with_twin(config: RunConfig, content: dict[str, Any]) -> list[RunConfig]:
    if config.init != "pretrained":
        return [config]
    return [config, parse_run({**content, "init": "scratch"})]
