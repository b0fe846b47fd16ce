"""Configuration: every shipped file composes and validates (found by globbing), and mistakes are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import pretrain_config, run_config
from harness.errors import UserError
from harness.resources import shipped

CELL = ["model=models_genesis.narrow8", "dataset=ct_headneck_oar", "init=scratch"]
GROUPS = sorted(path.name for path in shipped("configs").iterdir() if path.is_dir())
CHOICES = sorted(
    (path.parent.name, path.stem) for path in shipped("configs").glob("*/*.yaml") if path.parent.name != "recipe"
)


def test_there_are_choices_to_test() -> None:
    assert ("protocol", "demo_ct") in CHOICES
    assert {"protocol", "executor", "debug", "recipe"} <= set(GROUPS)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_validates(group: str, choice: str) -> None:
    config = run_config([*CELL, f"{group}={choice}"])
    if group == "protocol":
        assert config.protocol.name == choice


@pytest.mark.parametrize("path", sorted((shipped("configs") / "recipe").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_composes(path: Path) -> None:
    assert pretrain_config([f"recipe={path.stem}"]).recipe["name"] == path.stem


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["model=a", "dataset=b", "protocol=democt"], "Did you mean protocol=demo_ct"),
        (["modle=a", "dataset=b"], "Say which model"),
        ([*CELL, "modle=a"], "modle: this key is not known; did you mean 'model'"),
        (["model=a"], "Say which dataset"),
        ([*CELL, "protocol.training.stps=3"], r"protocol\.training\.stps: .*did you mean 'steps'"),
        ([*CELL, "+protocol.training.stps=3"], "did you mean 'steps'"),
        ([*CELL, "protocol.training.steps=-3"], r"protocol\.training\.steps: .*greater than 0"),
        ([*CELL, "init=pretraind"], "'pretrained', 'scratch', 'released' or 'other'"),
        ([*CELL, "model.floor=0"], "cannot be overridden"),
        ([*CELL, "protocol.training.steps"], "do not compose"),
        ([*CELL, "protocol.network.models_genesis.normalization=[running"], "do not compose"),
    ],
)
def test_mistakes_are_answered(overrides: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        run_config(overrides)


def test_a_key_that_the_file_leaves_at_its_default_can_be_overridden() -> None:
    assert run_config([*CELL, "protocol.training.clip_norm=1"]).protocol.training.clip_norm == 1


def test_own_groups_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "protocol").mkdir()
    text = (
        (shipped("configs") / "protocol" / "demo_ct.yaml")
        .read_text(encoding="utf-8")
        .replace("name: demo_ct", "name: mine")
    )
    (tmp_path / "protocol" / "mine.yaml").write_text(text, encoding="utf-8")
    assert run_config([*CELL, "protocol=mine"], tmp_path).protocol.name == "mine"
    with pytest.raises(UserError, match="There is no folder"):
        run_config(CELL, tmp_path / "absent")


def test_the_hash_sees_choices_and_not_places() -> None:
    base = run_config(CELL)
    assert base.sha256 == run_config([*CELL, "out=elsewhere", "device=cpu", "executor.workers=7"]).sha256
    assert base.sha256 != run_config([*CELL, "seed=1"]).sha256
    assert base.sha256 != run_config([*CELL, "protocol.training.steps=601"]).sha256
    assert "out" not in base.science()
    assert base.cell.startswith("ct_headneck_oar-models_genesis.narrow8-scratch-fold0-seed0-demo_ct-")
