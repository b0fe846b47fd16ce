"""What the board says of pretraining: readings beside trivial answers, openness with evidence, retrained here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from harness.cards.library import all_dataset_cards, all_model_cards
from harness.leaderboard import build
from harness.leaderboard.check import check
from harness.leaderboard.openness import openness, retrained
from harness.leaderboard.pretexts import pretext_cards, readings
from harness.records.aggregate import aggregate
from harness.records.cases import CaseRow
from harness.records.pretext import PRETEXT_METRICS

SCORES = {"mse": 0.010, "mse_identity": 0.014, "mse_blur": 0.012, "accuracy": 0.4, "accuracy_majority": 0.5}


def rows(scores=SCORES, cases=("a", "b")):
    made = [
        CaseRow(case, 1, "volume", PRETEXT_METRICS[name].record_id, value)
        for case in cases
        for name, value in scores.items()
    ]
    return sorted(made)


def test_a_score_is_read_beside_its_trivial_answers():
    metrics = aggregate(rows(), policy="adopted", intervals=False)
    restored, classed = readings(metrics)
    assert (restored.value, restored.better) == ("0.0100", "lower")
    assert [(value, answer) for _, value, answer in restored.trivial] == [
        ("0.0140", "the distorted cube itself"),
        ("0.0120", "the distorted cube under the best of some Gaussian filters"),
    ]
    assert restored.word.label == "better than every trivial answer"
    assert classed.word.label == "not better than a trivial answer"


def test_a_score_alone_says_nothing():
    (alone,) = readings(aggregate(rows({"mse": 0.1}), policy="adopted", intervals=False))
    assert alone.trivial == []
    assert alone.word.label == "no trivial answer recorded"


def test_every_definition_stands_before_what_it_is_compared_with():
    cards = pretext_cards()
    assert {card.id for card in cards} == set(PRETEXT_METRICS)
    place = {card.id: i for i, card in enumerate(cards)}
    assert all(place[card.baseline_of] < place[card.id] for card in cards if card.baseline_of)


@pytest.fixture(scope="module")
def families():
    found = {}
    for card in all_model_cards():
        found.setdefault(card.family, []).append(card)
    return found


def test_openness_says_what_the_cards_say_and_unknown_otherwise(families):
    datasets = {card.id: card for card in all_dataset_cards()}
    parts = {part.part: part for part in openness(families["med3d"], datasets)}
    assert parts["Weights"].state in {"public", "partly"}
    assert "huggingface" in parts["Weights"].evidence
    assert parts["Code"].state == "public"
    assert "https://github.com/Tencent/MedicalNet" in parts["Code"].evidence
    assert parts["Recipe"].state in {"partly", "not published"}
    assert {parts[name].state for name in ("Split", "Logs")} == {"unknown"}
    assert "the list of the 23 data sets was never published" in parts["Split"].evidence
    assert "unknown for" in parts["Split"].evidence
    assert all(part.evidence for part in parts.values())


def test_split_and_logs_are_as_public_as_the_cards_say(families):
    (card,) = [card for card in families["models_genesis"] if card.id == "models_genesis.chest_ct"]
    parts = {part.part: part for part in openness([card], {})}
    assert (parts["Split"].state, parts["Logs"].state) == ("public", "partly")
    assert "https://github.com/MrGiovanni/ModelsGenesis" in parts["Split"].evidence
    silent = card.model_copy(update={"pretraining": card.pretraining.model_copy(update={"split": None, "logs": None})})
    both = {part.part: part for part in openness([card, silent], {})}
    assert both["Split"].state == "partly"
    assert both["Split"].evidence.endswith("unknown for 1 of 2 weight sets")
    nothing = {part.part: part for part in openness([silent], {})}
    assert {nothing[name].state for name in ("Split", "Logs")} == {"unknown"}


def test_weights_that_were_made_here_say_nothing_about_what_the_authors_published(families):
    made = [card.model_copy(update={"evidence": ("self_pretrained",)}) for card in families["med3d"]]
    assert openness(made, {}) == []
    card = next(card for card in families["med3d"] if card.checkpoint)
    form = card.checkpoint.files[0].places[0].model_copy(update={"kind": "form"})
    file = card.checkpoint.files[0].model_copy(update={"places": (form,)})
    asked = card.model_copy(update={"checkpoint": card.checkpoint.model_copy(update={"files": (file,)})})
    assert openness([asked], {})[0].state == "on request"


def pretraining(arguments):
    arguments["kind"] = "pretrain"
    arguments["cases"] = rows()
    arguments["predictions"] = {}
    arguments["metric_order"] = [PRETEXT_METRICS[name].record_id for name in SCORES]
    arguments["policy"] = "adopted"
    known = {"label_map": None}
    arguments["dataset"] = arguments["dataset"].model_copy(update=known)
    arguments["reasons"] = {"dataset.label_map": "no labels were read", "predictions_sha256": "nothing was predicted"}


def test_a_board_shows_what_was_learnt_and_that_the_family_was_retrained(forge, tmp_path):
    record = forge.forge(
        tmp_path / "runs" / "one", init="scratch", evidence=("bundled_sample",), draw=False, change=pretraining
    )
    out = build([tmp_path / "runs"], tmp_path / "board", workers=1).parent
    run = (out / "runs" / record.run_id / "index.html").read_text(encoding="utf-8")
    assert "better than every trivial answer" in run
    assert "not better than a trivial answer" in run
    page = (out / "models" / "models_genesis.html").read_text(encoding="utf-8")
    assert "yes, 1 run; the longest took 600 steps on head_and_neck" in page
    assert f"../runs/{record.run_id}/index.html" in page
    other = (out / "models" / "med3d.html").read_text(encoding="utf-8")
    assert "no: this board has no record of it." in other
    assert "mse.restoration_blur.v1" in (out / "metrics.html").read_text(encoding="utf-8")
    assert check(out) == []


def test_a_withdrawn_or_failed_pretraining_is_no_retraining(forge, tmp_path, demo_runs):
    from harness.leaderboard.reading import read_run
    from harness.leaderboard.summary import summarise

    one = replace(summarise(read_run(demo_runs / "scratch" / "record"), "x"), kind="pretrain")
    assert retrained([one])[0].startswith("yes, 1 run")
    assert retrained([replace(one, standing="withdrawn")])[1] == []
    assert "1 pretraining run did not end well" in retrained([replace(one, status="failed")])[0]


def test_own_cards_reach_the_checks_and_the_pages_of_the_board(forge, tmp_path):
    shipped = next(card for card in all_model_cards() if card.id == "models_genesis.narrow8")
    card = shipped.model_copy(update={"id": "models_genesis.mine", "title": "Made here", "aliases": ()})
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "mine.yaml").write_text(yaml.safe_dump(card.model_dump(mode="json")), encoding="utf-8")
    record = forge.forge(tmp_path / "runs" / "a", model=("models_genesis", "mine"), init="scratch", draw=False)
    pages = []
    for cards in ((), (tmp_path / "cards",)):
        out = build([tmp_path / "runs"], tmp_path / f"board{len(cards)}", cards=cards, workers=1).parent
        pages.append((out / "runs" / record.run_id / "index.html").read_text(encoding="utf-8"))
        assert ("Made here" in (out / "models" / "models_genesis.html").read_text(encoding="utf-8")) == bool(cards)
    missing = "no card is called &#39;models_genesis.mine&#39;"
    assert missing in pages[0]
    assert missing not in pages[1]
