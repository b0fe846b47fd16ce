"""The guard of the second stage, by the commands alone: weights of one fold say so when fine-tuned on another."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from harness.cards.library import model_card
from harness.cli import main
from harness.data.synthetic import write

pytestmark = pytest.mark.slow

SIZE = "[64,32,32]"
SHORT = {"depths": [1, 1, 1, 1], "window_size": 2}


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    """A target with three folds, and the narrow card with a block a stage, so that a step costs next to nothing."""
    folder = tmp_path / "cards"
    write(folder / "target", cases=5, name="target", channels=2, shape=(24, 24, 20))
    splits = folder / "target" / "splits.yaml"
    folds = {"id": "three", "source": "this test", "made": {"folds": 3, "seed": 0}}
    fixed = yaml.safe_load(splits.read_text(encoding="utf-8"))
    splits.write_text(yaml.safe_dump([*fixed, folds]), encoding="utf-8")
    narrow = model_card("brainsegfounder.ssl_narrow12")[1] / "brainsegfounder.ssl_narrow12.yaml"
    card = yaml.safe_load(narrow.read_text(encoding="utf-8"))
    card |= {"id": "brainsegfounder.short", "architecture": {**card["architecture"], **SHORT}}
    del card["parameters"]
    (folder / "brainsegfounder.short.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    return folder


def test_weights_of_one_fold_say_so_on_another(cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [f"out={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}", "executor.workers=0", "training.steps=1"]
    crops = [f"recipe.cubes.size={SIZE}", "recipe.batch=1", "recipe.evaluation_batches=1"]
    target = ["dataset=target", "split=three"]

    def pretrained(*more: str) -> tuple[str, str]:
        capsys.readouterr()
        assert main(["pretrain", "model=brainsegfounder.short", *places, *crops, *target, *more]) == 0
        found = re.search(r"model=(\S+) dataset=… --cards (\S+)", capsys.readouterr().out)
        assert found is not None
        return found[1], found[2]

    first, home = pretrained("recipe=brainsegfounder", "name=first", "held_out=[]", "fold=0", "--cards", str(cards))
    stage2 = ["recipe=brainsegfounder_stage2", "name=second", f"parent={first}", "fold=0"]
    second, folder = pretrained(*stage2, "--cards", str(cards), "--cards", home)

    cell = [f"model={second}", *target, "fold=1", "debug=smoke", "protocol.training.steps=1"]
    cell += ["protocol.patches.batch=1", f"protocol.patches.size={SIZE}", f"protocol.inference.patch={SIZE}"]
    capsys.readouterr()
    assert main(["run", *cell, *places[:3], "--cards", str(cards), "--cards", folder]) == 0
    record = Path(capsys.readouterr().out.splitlines()[-1]) / "record.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    assert content["split"]["fold"] == 1
    said = content["contamination"]["evidence"]
    assert said.startswith("pretrained for fold 0 of the split three, and this run is fold 1; ")
