from __future__ import annotations

import os

import pytest

from harness.records.crew import Crew
from harness.records.verify import verify_all


def test_a_crew_keeps_the_order_and_its_processes():
    words = [f"word {number}" for number in range(30)]
    with Crew(2, worth=10) as crew:
        assert list(crew.map(len, words[:5])) == [6] * 5
        assert set(crew.map(_place, words[:5])) == {os.getpid()}, "too little work to start a process for"
        assert list(crew.map(str.upper, words)) == [word.upper() for word in words]
        assert os.getpid() not in set(crew.map(_place, words[:5])), "the processes are there, so they are used"


def test_one_worker_is_this_process():
    with Crew(1, worth=0) as crew:
        assert set(crew.map(_place, ["a", "b"])) == {os.getpid()}


def test_an_error_of_a_worker_arrives():
    with pytest.raises(ZeroDivisionError), Crew(2, worth=1) as crew:
        list(crew.map((1).__truediv__, [1, 0]))


def test_honest_records_are_judged_the_same_with_every_interval_drawn_again(tools, tmp_path):
    for seed in range(3):
        tools.make(tmp_path / f"run{seed}", seed=seed).write(tmp_path / f"run{seed}" / "record")
    sampled, full = (verify_all([tmp_path], full=full) for full in (False, True))
    assert len(full) == 3
    assert all(verdict.ok for verdict in full)
    assert [verdict.to_json() for verdict in full] == [verdict.to_json() for verdict in sampled]


def _place(_: str) -> int:
    return os.getpid()
