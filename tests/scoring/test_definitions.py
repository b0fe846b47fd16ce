"""Cards: ids, versions, grids and hashes that change when, and only when, the meaning does."""

import dataclasses
import json
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.scoring import Definition, definition, from_record_id, known
from harness.scoring.catalogue import CARDS, WITH_TOLERANCE
from harness.scoring.definitions import EmptyRule

ALL = [*CARDS, *(f"{family}@2.5" for family in WITH_TOLERANCE)]
FROZEN = json.loads((Path(__file__).parent / "data/definition_hashes.json").read_text(encoding="utf-8"))


def test_published_definitions_never_change():
    """A changed hash is a changed metric: give it a new version, and add its hash instead of editing one."""
    current = {card.record_id: card.sha256 for card in (definition(i.replace("@2.5", "@2")) for i in ALL)}
    assert current == FROZEN


@pytest.mark.parametrize("metric_id", ALL)
def test_every_card_is_complete(metric_id):
    card = definition(metric_id)
    assert card.id == metric_id
    assert card.formula
    assert card.source
    assert card.record_id.endswith(".native.v1")
    assert from_record_id(card.record_id) == card
    assert from_record_id(definition(metric_id, "patch").record_id).grid == "patch"
    stored = json.loads(json.dumps(card.card(), allow_nan=False))
    assert stored["record_id"] == card.record_id


def test_ids_are_unique():
    cards = [definition(metric_id) for metric_id in ALL]
    assert len({card.record_id for card in cards}) == len(cards)
    assert len({card.sha256 for card in cards}) == len(cards)


def test_record_ids_of_the_design():
    assert definition("dice").record_id == "dice.hard.native.v1"
    assert definition("hd95").record_id == "hd95.native.v1"
    assert definition("nsd@2").record_id == "nsd@2.native.v1"
    assert definition("dice", grid="resampled").record_id == "dice.hard.resampled.v1"


def test_one_tolerance_has_one_spelling():
    assert definition("nsd@2.0") == definition("nsd@2") == definition("nsd@2e0")
    assert definition("nsd@2").tolerance_mm == 2.0
    assert definition("nsd@0.50").id == "nsd@0.5"
    assert definition("nsd@0.1").sha256 != definition("nsd@0.2").sha256


@pytest.mark.parametrize("item", [item.name for item in dataclasses.fields(Definition)])
def test_the_hash_covers_every_field(item):
    card = definition("hd95")
    changed = {
        "version": 2,
        "grid": "patch",
        "unit": "voxels",
        "higher_is_better": True,
        "empty_rule": EmptyRule(both="0", one="0"),
        "tolerance_mm": 1.0,
    }.get(item, "something else")
    assert dataclasses.replace(card, **{item: changed}).sha256 != card.sha256


def test_hash_is_64_hex_digits_and_stable():
    assert definition("dice").sha256 == definition("dice").sha256
    assert len(definition("dice").sha256) == 64
    assert set(definition("dice").sha256) <= set("0123456789abcdef")


def test_known_lists_every_id_and_the_tolerance_form():
    assert {"dice", "hd95_pooled", "lesion_f1.atlas2", "iou_genesis", "auc", "nsd@<mm>", "nsd_surfel@<mm>"} <= set(
        known()
    )
    assert known() == sorted(known())


@pytest.mark.parametrize(
    ("record_id", "says"),
    [
        ("dice.hard.native.v2", "computes 'dice.hard.native.v1'"),
        ("dice.hard.nativ.v1", "Did you mean 'dice.hard.native.v1'"),
        ("dise.hard.native.v1", "Did you mean 'dice.hard.native.v1'"),
        ("dice", "no metric record id"),
        ("nsd@0.native.v1", "positive number"),
        ("nsd@2.0.native.v1", "computes 'nsd@2.native.v1'"),
        ("nsd.native.v1", "positive number"),
        ("dice.hard@2.native.v1", "takes no tolerance"),
        ("", "no metric record id"),
    ],
)
def test_unknown_record_ids_are_refused(record_id, says):
    with pytest.raises(UserError, match=says):
        from_record_id(record_id)


def test_unknown_grid_is_refused():
    with pytest.raises(UserError, match="Did you mean 'native'"):
        definition("dice", grid="nativ")
