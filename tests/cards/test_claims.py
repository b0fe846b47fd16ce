"""The ledger beside the claims: every printed number has a place here, and the known traps are told where they bite."""

from __future__ import annotations

import pytest

from harness.cards.claim import About, Claim, Entry, Ledger, annotate
from harness.cards.library import claims, index
from harness.errors import UserError
from harness.records.comparison import compare
from harness.records.protocol import claim_protocol, not_public
from harness.resources import shipped
from harness.scoring.verdict import PROTOCOL_FIELDS

ROWS = claims().results
BY_ID = {row.id: row for row in ROWS}


def test_every_row_has_a_recipe_or_a_reason_and_a_verdict() -> None:
    protocols = {path.stem for path in (shipped("configs") / "protocol").glob("*.yaml")}
    experiments = {path.stem for path in (shipped("configs") / "experiment").glob("*.yaml")}
    states = {"not_attempted": 0, "not_reproducible_as_published": 0}
    for row in ROWS:
        about = row.about
        assert row.source
        assert bool(about.protocol) != bool(about.no_protocol), row.id
        assert about.protocol is None or about.protocol in protocols, row.id
        assert set(about.experiments) <= experiments, row.id
        found = compare(row, [])
        states[found.value.state] += 1
        assert (not_public(row) or about.not_attempted or "its unit is") in found.value.explanation, row.id
    assert states == {"not_attempted": 67, "not_reproducible_as_published": 110}
    assert sum(states.values()) == len(ROWS) == 177


def test_the_ledger_speaks_of_cards_that_exist() -> None:
    models, datasets = index("model"), index("dataset")
    for row in ROWS:
        named = {*row.about.models, *row.about.released} - {"none"}
        assert named <= set(models), row.id
        assert row.about.card is None or row.about.card in datasets, row.id
        assert set(row.about.beside) <= set(BY_ID), row.id


def test_every_stated_field_is_one_of_the_fourteen() -> None:
    for row in ROWS:
        assert set(row.about.stated) <= set(PROTOCOL_FIELDS), row.id
        known = claim_protocol(row)
        assert len(known) < len(PROTOCOL_FIELDS), row.id  # no source says all of it
        assert None not in known.values()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("r011", "mean of the five checkpoints NVIDIA released"),
        ("r010", "no run of BrainSegFounder's authors"),
        ("r135", "most likely soft"),
        ("r001", "The public PCT-Net saw 10,137"),
        ("r076", "is no Dice and no foreground IoU"),
        ("r007", "Two sources disagree"),
        ("r008", "learning rate 1e-3 and the arm from scratch with 1e-2"),
        ("r103", "prints 0.9110 where its own five folds average 0.9084"),
        ("r062", "The sign of the gain depends on the baseline"),
        ("r098", "from 92.73 to 91.80"),
        ("r009", "is LiTS, with labels"),
        ("r111", "cannot produce this value"),
        ("r156", "is no protocol"),
    ],
)
def test_the_known_traps_are_told(name: str, words: str) -> None:
    assert any(words in trap for trap in BY_ID[name].about.traps)


def test_two_sources_that_disagree_are_shown_together() -> None:
    assert {"r028", "r049"} <= set(BY_ID["r007"].about.beside)
    assert set(BY_ID["r011"].about.beside) >= {"r135", "r139", "r168"}


def test_a_claim_that_the_ledger_forgets_is_an_error() -> None:
    ledger = Ledger(schema_version="1.0", traps={}, entries=(Entry(claims="r001", about=About(not_attempted="x")),))
    with pytest.raises(UserError, match="says nothing about r002"):
        annotate([BY_ID["r001"], BY_ID["r002"]], ledger)
    with pytest.raises(UserError, match="r001, which no claim is called"):
        annotate([BY_ID["r002"]], ledger)


def test_a_trap_needs_an_explanation() -> None:
    with pytest.raises(ValueError, match="explained nowhere"):
        Ledger(schema_version="1.0", traps={}, entries=(Entry(claims="r001", about=About(traps=("x",))),))


def test_entries_add_up() -> None:
    first = Entry(claims="r001-r002", about=About(protocol="a", stated={"grid": "native"}, traps=("x",)))
    second = Entry(claims="r002", about=About(no_protocol="b", stated={"selection": "last"}, traps=("y",)))
    ledger = Ledger(schema_version="1.0", traps={"x": "one", "y": "two"}, entries=(first, second))
    one, two = annotate([BY_ID["r001"], BY_ID["r002"]], ledger)
    assert one.about == About(protocol="a", stated={"grid": "native"}, traps=("one",))
    merged = {"grid": "native", "selection": "last"}
    assert two.about == About(no_protocol="b", stated=merged, traps=("one", "two"))


def test_what_is_printed_stays_as_printed() -> None:
    import json

    printed = json.loads((shipped("claims") / "reported.json").read_text(encoding="utf-8"))["results"]
    assert [Claim.model_validate(row) for row in printed] == [row.model_copy(update={"about": About()}) for row in ROWS]


TRAPS = [
    # the eight: who must carry it, and what it says
    (
        lambda row: row.card == "brats2021" and row.fraction == pytest.approx(0.8971),
        "mean of the five checkpoints NVIDIA",
    ),
    (lambda row: row.card == "brats2021" and row.model in ("BrainSegFounder", "Swin UNETR"), "most likely soft"),
    (lambda row: "110k" in row.variant, "The public PCT-Net saw 10,137"),
    (lambda row: row.metric == "iou_genesis", "is no Dice and no foreground IoU"),
    (lambda row: row.value in (93.31, 71.75), "Two sources disagree on the data"),
    (lambda row: row.model == "BrainSegFounder" and row.value == 0.911, "prints 0.9110 where its own five folds"),
    (lambda row: row.model == "Models Genesis" and row.value in (71.8, 72.11, 69.5), "The sign of the gain depends"),
    (lambda row: row.model == "Med3D" and row.card != "lits", "learning rate 1e-3 and the arm from scratch with 1e-2"),
]


@pytest.mark.parametrize(("carries", "words"), TRAPS, ids=[words for _, words in TRAPS])
def test_a_trap_is_told_on_every_claim_that_it_concerns(carries, words) -> None:
    concerned = [row for row in ROWS if carries(row) and row.id != "r168"]  # r168: others ran and scored it
    assert concerned
    assert [row.id for row in concerned if not any(words in trap for trap in row.about.traps)] == []


def test_a_claim_is_not_read_together_with_itself() -> None:
    assert [row.id for row in ROWS if row.id in row.about.beside] == []
