from __future__ import annotations

import shutil

import pytest
import yaml

from harness.errors import UserError
from harness.records.archive import Archive
from harness.records.index import entries
from harness.records.objections import Objection, object_to, objections, standing
from harness.records.pack import PULL_REQUEST, pack
from harness.records.verify import verify, verify_all


def test_a_packed_run_can_be_sent_in(run, cards, tmp_path):
    target = pack(run, tmp_path / "out", cards=[cards], rescore=True)
    assert verify(target, full=True, cards=[cards]).ok
    assert all(verdict.ok for verdict in verify_all([tmp_path / "out"], cards=[cards]))
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*"))
    assert not [name for name in files if "prediction" in name and not name.endswith("predictions.txt")]
    text = (tmp_path / "out" / PULL_REQUEST).read_text(encoding="utf-8")
    assert "synthetic_boxes" in text
    assert "re-scored" in text
    assert text.count("- [x]") == 2


def test_several_runs_share_one_pull_request(run, tools, cards, tmp_path):
    pack(run, tmp_path / "out", cards=[cards])
    tools.make(tmp_path / "two", "scratch").write(tmp_path / "two" / "record")
    pack(tmp_path / "two", tmp_path / "out", cards=[cards])
    assert len(entries(tmp_path / "out" / "records")) == 2
    assert (tmp_path / "out" / PULL_REQUEST).read_text(encoding="utf-8").count("| synthetic_boxes |") == 2


@pytest.mark.parametrize("allowed", [True, False])
def test_pictures_of_scans_go_along_only_where_the_terms_allow(tools, cards, tmp_path, allowed):
    from harness.records.pictures import hash_pictures

    slices = tmp_path / "run" / "record" / "slices"
    slices.mkdir(parents=True)
    (slices / "best.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    tools.make(tmp_path / "x", pictures=hash_pictures(slices)).write(tmp_path / "run" / "record")
    mine = tmp_path / "cards"
    shutil.copytree(cards, mine)
    path = mine / "synthetic_boxes" / "card.yaml"
    card = yaml.safe_load(path.read_text(encoding="utf-8"))
    card["terms"]["redistribution"] = allowed
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    target = pack(tmp_path / "run", tmp_path / "out", cards=[mine])
    assert (target / "slices" / "best.png").exists() == allowed
    assert verify(target, cards=[mine]).ok


def test_what_a_submission_needs_must_be_declared(tools, cards, tmp_path):
    tools.make(tmp_path / "run", declarations=("adapter_unmodified",)).write(tmp_path / "run" / "record")
    with pytest.raises(UserError, match="test_data_not_trained"):
        pack(tmp_path / "run", tmp_path / "out", cards=[cards])
    assert not (tmp_path / "out").exists()


def test_closed_needs_known_cards_and_open_does_not(tools, tmp_path):
    tools.make(tmp_path / "closed", division="closed").write(tmp_path / "closed" / "record")
    with pytest.raises(UserError, match="no card is called"):
        pack(tmp_path / "closed", tmp_path / "out")
    tools.make(tmp_path / "open").write(tmp_path / "open" / "record")
    assert pack(tmp_path / "open", tmp_path / "out").is_dir()


def test_an_invalid_run_is_not_packed(run, tmp_path):
    (run / "record" / "log.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="log_sha256"):
        pack(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def event(**over):
    base = {
        "id": "wrong-window", "run_id": "0" * 16, "field": "protocol.intensity", "state": "open", "by": "a reviewer",
        "date": "2026-09-01", "text": "the window is the abdominal one",
    }  # fmt: skip
    return Objection(**{**base, **over})


def test_an_objection_is_opened_decided_and_kept(tmp_path):
    object_to(tmp_path, event())
    assert standing(objections(tmp_path)) == {}
    object_to(tmp_path, event(state="confirmed", outcome="demoted", text="so it is"))
    assert standing(objections(tmp_path)) == {"0" * 16: "demoted"}
    assert [one.state for one in objections(tmp_path)] == ["open", "confirmed"]
    object_to(tmp_path, event(id="mine", state="confirmed", outcome="withdrawn"))
    object_to(tmp_path, event(id="note", state="confirmed", outcome="flagged"))
    assert standing(objections(tmp_path)) == {"0" * 16: "withdrawn"}


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        (event(run_id="1" * 16), "another record"),
        (event(field="weights.sha256"), "another record"),
        (event(id="other", state="rejected"), "no objection"),
    ],
)
def test_events_must_follow_from_one_another(tmp_path, second, complaint):
    object_to(tmp_path, event())
    with pytest.raises(UserError, match=complaint):
        object_to(tmp_path, second)
    assert len(objections(tmp_path)) == 1


def test_a_decided_objection_stays_decided(tmp_path):
    object_to(tmp_path, event())
    object_to(tmp_path, event(state="rejected"))
    with pytest.raises(UserError, match="rejected already"):
        object_to(tmp_path, event(state="confirmed", outcome="flagged"))


def test_an_outcome_needs_a_confirmation(tmp_path):
    with pytest.raises(ValueError, match="outcome"):
        event(outcome="flagged")
    (tmp_path / "objections.jsonl").write_text('{"id": "x"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="line 1"):
        objections(tmp_path)


def test_archives_keep_objections_apart_from_records(run, tmp_path):
    archive = Archive(tmp_path / "records")
    archive.add(run)
    object_to(archive.root, event())
    assert all(verdict.ok for verdict in verify_all([archive.root]))
