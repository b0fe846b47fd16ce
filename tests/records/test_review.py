"""A results repository before and after a pull request, and the answer that the workflow posts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from harness.cli import main
from harness.records.archive import Archive
from harness.records.objections import Objection, object_to, objections
from harness.records.pack import pack
from harness.records.review import review

ROOT = Path(__file__).parents[2]


@pytest.fixture
def base(run, cards, tmp_path):
    """A repository with one pretrained run."""
    Archive(tmp_path / "base").add(run, cards=[cards])
    return tmp_path / "base"


@pytest.fixture
def head(base, tools, cards, tmp_path):
    """The same, and the twin from scratch."""
    shutil.copytree(base, tmp_path / "head")
    tools.make(tmp_path / "twin", "scratch").write(tmp_path / "twin" / "record")
    Archive(tmp_path / "head").add(tmp_path / "twin", cards=[cards])
    return tmp_path / "head"


def test_a_new_twin_is_shown_in_its_cell_beside_the_run_that_was_there(base, head, cards):
    answer = review(base, head, cards=[cards])
    assert answer.ok
    (place,) = answer.new
    assert "/scratch/" in place
    assert "1 new record, 1 cell." in answer.text
    (row,) = [line for line in answer.text.splitlines() if line.startswith("| synthetic_boxes")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1].endswith("pretrained")
    assert "no twin" not in row
    assert "1, of all runs 1 new" in row
    assert cells[8] == "synthetic_data"
    assert float(cells[4]) != float(cells[5])
    assert f"| `{place.rpartition('/')[2]}` |" in answer.text


def test_nothing_new_is_nothing_wrong(base, cards):
    answer = review(base, base, cards=[cards])
    assert answer.ok
    assert answer.new == ()


def test_a_first_record_has_no_base(base, cards, tmp_path):
    answer = review(tmp_path / "nowhere", base, cards=[cards])
    assert answer.ok
    assert "no twin" in answer.text


def edit(head):
    path = next(head.rglob("record.json"))
    data = json.loads(path.read_text(encoding="utf-8"))
    data["metrics"][0]["value"] = 0.99
    path.write_text(json.dumps(data), encoding="utf-8")


def delete(head):
    shutil.rmtree(next(head.rglob("pretrained/*")))


def smuggle(head):
    lines = (head / "index.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (head / "index.txt").write_text(lines[0], encoding="utf-8")


def silence(head):
    (head / "objections.jsonl").write_text("", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [(edit, "metrics"), (delete, "deleted"), (smuggle, "copied in"), (silence, "lines were removed")],
)
def test_what_must_not_be_merged_is_said(base, head, cards, change, complaint):
    event = {
        "id": "x", "run_id": "0" * 16, "field": "record", "state": "open", "by": "me", "date": "2026-09-01",
        "text": "odd",
    }  # fmt: skip
    for root in (base, head):
        object_to(root, Objection(**event))
    change(head)
    answer = review(base, head, cards=[cards])
    assert not answer.ok
    assert "cannot be merged" in answer.text
    assert complaint in answer.text


def test_a_strangers_text_cannot_speak_for_the_machine(base, head, cards):
    (head / "evil" / "@admin <img src=x> [a](b)").mkdir(parents=True)
    (head / "evil" / "@admin <img src=x> [a](b)" / "record.json").write_text("{}", encoding="utf-8")
    answer = review(base, head, cards=[cards])
    assert not answer.ok
    assert not set("@<>[]") & set(answer.text)


def test_the_commands(base, head, run, cards, tmp_path, capsys):
    wanted = review(base, head, cards=[cards]).text
    told = ["record", "review", str(base), str(head), "--cards", str(cards), "--out", str(tmp_path / "answer.md")]
    assert main(told) == 0
    assert capsys.readouterr().out == wanted == (tmp_path / "answer.md").read_text(encoding="utf-8")
    edit(head)
    assert main(told) == 1
    assert main(["record", "pack", str(run), "--out", str(tmp_path / "out"), "--cards", str(cards)]) == 0
    assert (tmp_path / "out" / "PULL_REQUEST.md").is_file()
    words = ["record", "object", str(base), "--run", "0" * 16, "--id", "wrong", "--by", "me", "--text", "it is wrong"]
    assert main(words) == 0
    assert [event.state for event in objections(base)] == ["open"]
    assert main([*words, "--state", "confirmed"]) == 2  # a confirmed one has an outcome
    assert len(objections(base)) == 1


def test_a_packed_run_passes_the_review(run, cards, tmp_path):
    pack(run, tmp_path / "out", cards=[cards])
    assert review(tmp_path / "none", tmp_path / "out" / "records", cards=[cards]).ok


def test_the_workflow_calls_the_command_and_cannot_write():
    flow = yaml.safe_load((ROOT / ".github/workflows/results.yml").read_text(encoding="utf-8"))
    assert flow["permissions"] == {"contents": "read"}
    steps = flow["jobs"]["review"]["steps"]
    (script,) = [step["run"] for step in steps if "record review" in step.get("run", "")]
    assert "harness record review base/results/records head/results/records" in script
    assert all(step["with"]["persist-credentials"] is False for step in steps if "checkout" in step.get("uses", ""))
    assert not [step for step in steps if "${{" in step.get("run", "")]  # nothing of a stranger's in a script
    comment = yaml.safe_load((ROOT / ".github/workflows/results-comment.yml").read_text(encoding="utf-8"))
    assert comment[True]["workflow_run"]["workflows"] == [flow["name"]]  # YAML reads `on` as true
    assert not [step for step in comment["jobs"]["post"]["steps"] if "uses" in step or "${{" in step["run"]]
