"""Overrides with comma lists become cells: each once, twins side by side, varied without composing again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.config import run_config
from harness.errors import UserError
from harness.resources import shipped
from harness.sweep import cells, expand

BASE = ["model=models_genesis.narrow8", "dataset=ct_headneck_oar"]


def test_lists_and_ranges_multiply_and_twins_are_neighbours() -> None:
    found = expand([*BASE, "init=pretrained,scratch", "seed=range(0,3)", "label_fraction=0.5,1.0"])
    assert len(found) == len({cell.name for cell in found}) == 12
    for pretrained, scratch in zip(found[::2], found[1::2], strict=True):
        assert (pretrained.config.init, scratch.config.init) == ("pretrained", "scratch")
        assert pretrained.config.model_copy(update={"init": "scratch"}) == scratch.config


def test_a_varied_cell_is_the_one_that_run_would_compose() -> None:
    found = expand([*BASE, "init=scratch", "seed=4,5", "label_fraction=0.5", "protocol.training.steps=3"])
    alone = run_config([*BASE, "init=scratch", "seed=5", "label_fraction=0.5", "protocol.training.steps=3"])
    assert found[1].config == alone
    assert found[1].name == alone.cell


def test_a_pretrained_cell_brings_its_twin_unless_declined() -> None:
    assert [cell.config.init for cell in expand([*BASE, "init=pretrained"])] == ["pretrained", "scratch"]
    assert [cell.config.init for cell in expand([*BASE, "init=pretrained"], twins=False)] == ["pretrained"]
    assert [cell.config.init for cell in expand([*BASE, "init=scratch"])] == ["scratch"]


def test_all_folds_are_those_of_the_card() -> None:
    found = expand(["model=models_genesis.narrow8", "dataset=brats2021", "init=scratch", "fold=all"])
    assert [cell.config.fold for cell in found] == [0, 1, 2, 3, 4]
    both = expand(["model=models_genesis.narrow8", "dataset=brats2021,ct_headneck_oar", "init=scratch", "fold=all"])
    assert [cell.config.dataset for cell in both].count("ct_headneck_oar") == 1


def test_recipes_vary_by_composing_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[object] = []
    original = cells.compose
    monkeypatch.setattr(cells, "compose", lambda *a: composed.append(a) or original(*a))
    found = expand([*BASE, "init=scratch", "seed=range(0,50)", "protocol.training.steps=3,4"])
    assert len(found) == 100
    assert len(composed) == 2
    assert {cell.config.protocol.training.steps for cell in found} == {3, 4}


def test_an_experiment_says_what_it_varies_and_the_command_line_wins(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nsweep: {seed: [0, 1, 2], init: [pretrained, scratch], fold: all}\n"
    (tmp_path / "experiment" / "three.yaml").write_text(text, encoding="utf-8")
    assert len(expand([*BASE, "experiment=three"], tmp_path)) == 6
    assert [cell.config.seed for cell in expand([*BASE, "experiment=three", "seed=7"], tmp_path)] == [7, 7]
    assert [cell.config.seed for cell in expand([*BASE, "experiment=three", "seed=7,8"], tmp_path)] == [7, 7, 8, 8]
    # one cell of it, by `harness run`
    assert run_config([*BASE, "experiment=three"], tmp_path).seed == 0
    (tmp_path / "experiment" / "three.yaml").write_text("# @package _global_\nsweep: {sed: [0]}\n", encoding="utf-8")
    with pytest.raises(UserError, match="names sed"):
        expand([*BASE, "experiment=three"], tmp_path)


def test_composing_brings_no_array_library_along() -> None:
    code = "import sys; from harness.config import run_config; run_config(['model=a', 'dataset=b'])"
    code += "; print(*sorted({'numpy', 'scipy', 'torch', 'monai', 'nibabel'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([*BASE, "seed=0,one"], "seed: Input should be a valid integer"),
        ([*BASE, "seed=0,"], "is no override"),
        ([*BASE, "sed=0,1"], "sed: this key is not known; did you mean 'seed'"),
        (["model=models_genesis.narrow8", "dataset=brats20211", "fold=all"], "Did you mean 'brats2021'"),
        ([*BASE, "protocol=demo_ct,democt"], "no protocol called 'democt'"),
    ],
)
def test_mistakes_are_answered(overrides: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        expand(overrides)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((shipped("configs") / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_experiment_makes_cells(path: Path) -> None:
    found = expand([f"experiment={path.stem}"])
    assert found
    pretrained = [cell for cell in found if cell.config.init == "pretrained"]
    assert len(pretrained) <= sum(cell.config.init == "scratch" for cell in found)
