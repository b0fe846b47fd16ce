"""Lists of runs, page by page."""

from __future__ import annotations

from dataclasses import replace

from harness.leaderboard.reading import read_run
from harness.leaderboard.runlist import write_run_lists
from harness.leaderboard.summary import summarise
from harness.records.crew import Crew


def test_every_run_is_on_one_page_of_the_list(demo_runs, tmp_path):
    run = summarise(read_run(demo_runs / "scratch" / "record"), "scratch")
    runs = [replace(run, run_id=f"{number:016x}") for number in range(501)]
    counts = {"records": "501 records", "claims": "0 claims"}
    assert len(list(write_run_lists(runs, tmp_path, counts, Crew(1, 60)))) == 2
    first, second = ((tmp_path / name).read_text(encoding="utf-8") for name in ("runs.html", "runs-2.html"))
    for text in (first, second):
        assert "501 runs with a record" in text
    assert [first.count(f"runs/{one.run_id}/") for one in runs] == [1] * 500 + [0]
    assert [second.count(f"runs/{one.run_id}/") for one in runs] == [0] * 500 + [1]


def test_a_board_without_runs_has_an_empty_list(tmp_path):
    list(write_run_lists([], tmp_path, {"records": "0 records", "claims": "0 claims"}, Crew(1, 60)))
    assert "0 runs with a record" in (tmp_path / "runs.html").read_text(encoding="utf-8")
