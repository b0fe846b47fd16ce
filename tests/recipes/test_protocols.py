"""The recipes: every number says where it is from, and what no cell can do is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.config import Protocol, run_config
from harness.errors import UserError
from harness.resources import shipped

FILES = sorted((shipped("configs") / "protocol").glob("*.yaml"))
CELL = ["model=models_genesis.narrow8", "dataset=ct_headneck_oar", "init=scratch"]
CHOICES = ("input", "network", "patches", "augmentation", "training", "inference", "scoring", "lr_grid")
MARK = re.compile(r"#.*\b(published|from code|assumed|ours)\b")


def protocol(name: str) -> Protocol:
    return run_config([*CELL, f"protocol={name}"]).protocol


def unmarked(text: str) -> list[str]:
    """Return the lines that choose something and do not say where it is from; a marked section speaks for its lines."""
    found, section, whole = [], "", False
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not line.startswith(" "):
            section, whole = line.partition(":")[0], MARK.search(line) is not None
        opens = line.split("#")[0].rstrip().endswith(":")
        if section in CHOICES and not opens and not whole and not MARK.search(line):
            found.append(line.strip())
    return found


@pytest.mark.parametrize("path", [path for path in FILES if path.stem != "demo_ct"], ids=lambda path: path.stem)
def test_every_choice_says_where_it_is_from(path: Path) -> None:
    assert unmarked(path.read_text(encoding="utf-8")) == []


def test_an_unmarked_choice_is_seen() -> None:
    text = "name: x\ninput:\n  spacing: native\ntraining:  # ours\n  steps: 3\n"
    assert unmarked(text) == ["spacing: native"]


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_what_is_incomplete_says_what_is_missing(name: str) -> None:
    found = protocol(name)
    assert found.source
    assert bool(found.unknown) or found.status in ("ours", "complete")
    if found.status == "not_executable":
        assert found.deviations
    for rate in found.lr_grid:
        assert 0 < rate < 1


def test_recipes_that_build_on_another_keep_what_they_do_not_change() -> None:
    base, other = protocol("swin_unetr_brats21"), protocol("brainsegfounder_brats21")
    assert other.training == base.training
    assert other.network["brainsegfounder"] == {"gradient_checkpointing": True, "stem": "fresh"}
    assert protocol("genesis_bms").training.selection.patience == 30
    assert protocol("common_v1_hippocampus").training.loss == protocol("common_v1").training.loss


def test_the_fair_recipe_chooses_nothing_by_the_scored_cases() -> None:
    common = protocol("common_v1")
    assert common.training.selection.rule == "last"
    assert common.training.optimizer.lr in common.lr_grid
    assert len(common.lr_grid) >= 3


def test_a_recipe_that_no_cell_can_do_is_refused(cell: list[str]) -> None:
    from harness.run import run

    with pytest.raises(UserError, match="AUC over cubes"):
        run(run_config([*cell[:-4], *cell[-3:], "protocol=genesis_ncc"]))
