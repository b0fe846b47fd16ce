"""Every shipped model card: the count it states is the network's, and (slowly) the network conforms."""

from __future__ import annotations

import json
import os

import pytest

from harness.adapters.conformance import check_card
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.library import all_model_cards, model_card
from harness.cards.model import ModelCard
from harness.checkpoints.deferring import DeferredInitialisation
from harness.cli import main
from harness.errors import UserError

SMALL = 2_000_000  # parameters
CARDS = [card for card in all_model_cards() if card.supported and not card.rule]


def networks() -> list[ModelCard]:
    """Return one card per different published network: folds and second files share theirs."""
    first: dict[str, ModelCard] = {}
    for card in CARDS:
        facts = (card.adapter, sorted(card.architecture.items(), key=str))
        first.setdefault(str(facts), card)
    return list(first.values())


@pytest.mark.parametrize("card", networks(), ids=lambda card: card.id)
def test_the_card_counts_the_parameters_of_the_published_network(card: ModelCard) -> None:
    with DeferredInitialisation():  # counting needs no values
        task = Task("published", len(card.contract.channels), patch=card.contract.patch)
        network = adapter(card.adapter).build(card, task, {})
    count = sum(tensor.numel() for tensor in network.parameters())
    same = [other for other in CARDS if (other.adapter, other.architecture) == (card.adapter, card.architecture)]
    assert {other.id: other.parameters for other in same} == {other.id: count for other in same}


def conformance_cases() -> list[object]:
    """Return the small networks for the slow set; the large ones take minutes each and are asked for by name."""
    ask = pytest.mark.skipif("HARNESS_ALL_CARDS" not in os.environ, reason="minutes each: set HARNESS_ALL_CARDS=1")
    return [pytest.param(card, id=card.id, marks=() if (card.parameters or 0) < SMALL else ask) for card in networks()]


@pytest.mark.slow
@pytest.mark.parametrize("card", conformance_cases())
def test_the_network_conforms(card: ModelCard) -> None:
    verdict = check_card(card, None, model_card(card.id)[1])
    assert not verdict.failures, verdict.text()


def test_what_is_not_supported_says_why() -> None:
    cards = [card for card in all_model_cards() if not card.supported]
    assert {card.id for card in cards} >= {"models_genesis.chest_ct_2d", "models_genesis.chest_xray_2d"}
    for card in cards:
        assert card.unsupported_reason
        with pytest.raises(UserError, match=rf"{card.id} is listed, not supported: "):
            check_card(card)


def test_what_is_no_network_says_how_to_run_it() -> None:
    rules = [card for card in all_model_cards() if card.rule]
    assert {card.id for card in rules} == {"baseline.prior", "baseline.threshold"}
    for card in rules:
        with pytest.raises(UserError, match=rf"{card.id} is a rule .*init=other"):
            check_card(card)


def test_the_list_says_of_every_variant_what_backs_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "models", "--json"]) == 0
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == {card.id for card in all_model_cards()}
    for card in all_model_cards():
        row = rows[card.id]
        assert all(row[name] for name in ("parameters", "licence", "source", "parity"))
        assert (row["parameters"] == "unknown") == (card.parameters is None)
        assert row["parity"].startswith("not supported: ") != card.supported
    assert "two-dimensional" in rows["models_genesis.chest_ct_2d"]["parity"]
