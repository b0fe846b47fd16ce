"""Steps to a target, where a run that never got there is a bound and not a number."""

from __future__ import annotations

import json

import pytest

from harness.records.convergence import Arrival, Point, Ratio, scores, speed_up, to_target

LOG = [
    {"step": 10, "loss": 0.5, "lr": 0.1, "seconds": 1.0, "samples": 20},
    {"step": 10, "metric": 0.4, "role": "val", "seconds": 1.0, "samples": 20},
    {"step": 20, "metric": 0.8, "role": "val", "seconds": 2.0, "samples": 40},
    {"step": 30, "metric": 0.6, "role": "val", "seconds": 3.0, "samples": 60},
]


def test_validations_are_read_out_of_the_log() -> None:
    points = scores("\n".join(map(json.dumps, LOG)) + "\n")
    assert points == [Point(10, 1.0, 20, 0.4), Point(20, 2.0, 40, 0.8), Point(30, 3.0, 60, 0.6)]
    assert scores('{"step": 1, "metric": 0.5, "role": "val"}\n') == [Point(1, None, None, 0.5)]


@pytest.mark.parametrize(("target", "step", "reached"), [(0.4, 10, True), (0.41, 20, True), (0.81, 30, False)])
def test_the_first_validation_that_is_good_enough(target: float, step: int, reached: bool) -> None:
    found = to_target(list(reversed(scores("\n".join(map(json.dumps, LOG))))), target)
    assert (found.step, found.samples, found.reached) == (step, 2 * step, reached)


def test_a_ratio_says_what_is_known() -> None:
    soon, late = Arrival(0.8, True, 10, 2.0, 20), Arrival(0.8, True, 40, 5.0, 80)
    never = Arrival(0.8, False, 100, 9.0, 200)
    assert speed_up(soon, late) == Ratio(4.0, "exactly")
    assert speed_up(soon, late, "seconds") == Ratio(2.5, "exactly")
    assert speed_up(soon, never) == Ratio(10.0, "at least")
    assert speed_up(never, soon) == Ratio(0.1, "at most")
    assert speed_up(never, never) is None
    with pytest.raises(ValueError, match="cannot be compared"):
        speed_up(soon, Arrival(0.7, True, 10, 2.0, 20))
    with pytest.raises(ValueError, match="no validation was logged"):
        to_target([], 0.5)
