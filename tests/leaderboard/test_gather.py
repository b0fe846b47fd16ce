"""Finding records."""

from __future__ import annotations

import json

import pytest

from harness.leaderboard.gather import find, signature


def test_places_are_named_from_the_folder_that_was_searched(forge, tmp_path):
    forge.forge(tmp_path / "sweep" / "a", draw=False)
    for top, place in ((tmp_path, "sweep/a"), (tmp_path / "sweep", "a"), (tmp_path / "sweep" / "a", "a")):
        found, broken = find([top])
        assert [item.place for item in found] == [place]
        assert broken == []


def test_working_folders_are_not_searched(forge, tmp_path):
    forge.forge(tmp_path / "a" / "checkpoints" / "b", draw=False)
    forge.forge(tmp_path / ".hidden", draw=False)
    assert find([tmp_path]) == ([], [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state": "failed", "error": "boom"}, "failed: boom"),
        ({"state": "diverged", "error": None}, "diverged: no reason noted"),
        ({"state": "running"}, None),
        ([], "cannot be read"),
    ],
)
def test_runs_without_a_record(tmp_path, content, said):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text(json.dumps(content), encoding="utf-8")
    _, broken = find([tmp_path])
    assert [item.why for item in broken] == ([] if said is None else [broken[0].why])
    assert said is None or said in broken[0].why


def test_the_signature_moves_when_a_record_arrives(forge, tmp_path):
    before = signature([tmp_path])
    assert before == signature([tmp_path])
    forge.forge(tmp_path / "a", draw=False)
    assert signature([tmp_path]) != before
