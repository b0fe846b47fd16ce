"""Cards: every shipped one is valid (found by globbing), and what is wrong in one's own is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.adapters.registry import names
from harness.cards.library import claims, dataset_card, index, model_card
from harness.errors import UserError
from harness.resources import shipped

MODEL_CARDS = sorted(shipped("model_cards").glob("*.yaml"))
DATASET_CARDS = sorted(shipped("datasets").glob("*/card.yaml"))


def test_there_are_cards_to_test() -> None:
    assert len(MODEL_CARDS) >= 2
    assert len(DATASET_CARDS) >= 2


@pytest.mark.parametrize("path", MODEL_CARDS, ids=lambda path: path.stem)
def test_every_model_card_is_valid(path: Path) -> None:
    card, folder = model_card(path.stem)
    assert card.id == path.stem
    assert folder == path.parent
    assert card.adapter in names()


@pytest.mark.parametrize("path", DATASET_CARDS, ids=lambda path: path.parent.name)
def test_every_dataset_card_is_valid(path: Path) -> None:
    card, _ = dataset_card(path.parent.name)
    assert card.id == path.parent.name
    assert card.task != "segmentation" or card.classes


def test_aliases_name_one_card_each() -> None:
    aliases = [alias for entry in index("model").values() for alias in entry.content.get("aliases", ())]
    assert len(aliases) == len(set(aliases))
    assert model_card("genesis-chest-ct")[0].id == "models_genesis.chest_ct"


def test_the_parameter_count_of_the_card_is_the_networks() -> None:
    for name in ("models_genesis.chest_ct", "models_genesis.narrow8"):
        card, _ = model_card(name)
        network = build(card, Task("published"), {}, None).network
        assert sum(parameter.numel() for parameter in network.parameters()) == card.parameters


def test_cards_are_immutable() -> None:
    card, _ = model_card("models_genesis.chest_ct")
    with pytest.raises(ValidationError, match="frozen"):
        card.floor = 0.0  # type: ignore[misc]


def test_an_unknown_name_comes_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"Did you mean 'models_genesis\.chest_ct'"):
        model_card("models_genesis.chestct")
    with pytest.raises(UserError, match="Did you mean 'ct_headneck_oar'"):
        dataset_card("ct_headneck")


def own_card(folder: Path, **changes: object) -> Path:
    content = yaml.safe_load((shipped("model_cards") / "models_genesis.narrow8.yaml").read_text(encoding="utf-8"))
    content.update({"id": "models_genesis.mine", **changes})
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_a_folder_of_own_cards(tmp_path: Path) -> None:
    own_card(tmp_path)
    assert model_card("models_genesis.mine", [tmp_path])[1] == tmp_path


def test_a_misspelt_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    own_card(tmp_path, licens="MIT")
    with pytest.raises(UserError, match=r"mine.yaml is not a valid ModelCard: licens: .*did you mean 'licence'"):
        model_card("models_genesis.mine", [tmp_path])


def test_a_wrong_value_is_named(tmp_path: Path) -> None:
    own_card(tmp_path, floor=2)
    with pytest.raises(UserError, match=r"floor: .*less than or equal to 1 \(found 2\)"):
        model_card("models_genesis.mine", [tmp_path])


def test_two_cards_of_one_name_are_refused(tmp_path: Path) -> None:
    own_card(tmp_path, id="models_genesis.narrow8")
    with pytest.raises(UserError, match=r"Two model cards are called 'models_genesis\.narrow8'"):
        model_card("models_genesis.narrow8", [tmp_path])


def test_a_folder_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    own_card(tmp_path)
    card, home = model_card("models_genesis.mine", [tmp_path, tmp_path / ".", tmp_path])
    assert (card.id, home) == ("models_genesis.mine", tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of cards"):
        index("model", [tmp_path / "absent"])


def test_yaml_that_does_not_parse_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("id: [1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"bad.yaml is not valid YAML.*line 2"):
        index("model", [tmp_path])


def test_a_split_cannot_change_under_its_name() -> None:
    from harness.cards.dataset import Split, ids_sha256

    good = {"id": "s", "source": "test", "parts": {"train": ["a", "b"]}, "sha256": {"train": ids_sha256(("a", "b"))}}
    assert Split.model_validate(good).parts["train"] == ("a", "b")
    with pytest.raises(ValidationError, match="the ids hash to"):
        Split.model_validate({**good, "parts": {"train": ["a", "c"]}})
    twice = {"train": ["a", "b"], "test": ["b"]}
    hashes = {part: ids_sha256(tuple(ids)) for part, ids in twice.items()}
    with pytest.raises(ValidationError, match="case 'b' is in 'train' and in 'test'"):
        Split.model_validate({**good, "parts": twice, "sha256": hashes})


def test_the_ledger_of_claims_is_whole() -> None:
    ledger = claims()
    assert len(ledger.results) == 177
    assert len({claim.id for claim in ledger.results}) == 177
    assert len(ledger.unverified) == 26
    percent = next(claim for claim in ledger.results if claim.unit == "percent")
    assert percent.fraction == pytest.approx(percent.value / 100)
    assert next(c for c in ledger.results if c.unit.startswith("lesions")).fraction is None
