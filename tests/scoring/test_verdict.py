"""The one rule, branch by branch."""

import math

import numpy as np
import pytest

from harness.errors import UserError
from harness.scoring.verdict import (
    BLOCKING_FIELDS,
    PROTOCOL_FIELDS,
    gain_verdict,
    protocol_difference,
    suggested_margin,
    value_verdict,
)

NOT_PUBLIC = "not_reproducible_as_published"
ON_OTHERS = "seeds_then_cases"


def other_cases(shift=0.0, n_seeds=3, **more):
    """Scores around 0.80 + shift on 20 cases that are not the claim's."""
    table = 0.80 + shift + np.linspace(-0.01, 0.01, 20)[None, :] + np.array([[0.0], [-0.001], [0.001]])[:n_seeds]
    return {"runs": table.mean(axis=1), "case_scores": table, "same_cases": False, **more}


VALUE_TABLE = [
    # name, arguments, state, kind of interval
    ("inside", {"runs": [0.801, 0.800, 0.802]}, "reproduced", "seeds"),
    ("below", {"runs": [0.760, 0.761, 0.762]}, "lower", "seeds"),
    ("above", {"runs": [0.840, 0.841, 0.842]}, "higher", "seeds"),
    ("straddles the lower edge", {"runs": [0.788, 0.790, 0.792]}, "inconclusive", "seeds"),
    ("straddles the upper edge", {"runs": [0.808, 0.810, 0.812]}, "inconclusive", "seeds"),
    ("wide over both edges", {"runs": [0.75, 0.80, 0.85]}, "inconclusive", "seeds"),
    ("one seed, spot on", {"runs": [0.80]}, "inconclusive", "seeds"),
    ("one seed, far off", {"runs": [0.50]}, "inconclusive", "seeds"),
    ("two seeds", {"runs": [0.80, 0.8001]}, "inconclusive", "seeds"),
    ("no run", {"runs": []}, "not_attempted", None),
    ("weights not public", {"runs": [0.8, 0.8, 0.8], "not_public": "weights"}, NOT_PUBLIC, None),
    ("nothing public, no run", {"not_public": "the data"}, NOT_PUBLIC, None),
    ("released, equal", {"runs": [0.8004], "eval_only": True}, "reproduced", "versions"),
    ("released, lower", {"runs": [0.78], "eval_only": True}, "lower", "versions"),
    ("released, higher", {"runs": [0.82], "eval_only": True}, "higher", "versions"),
    ("released, versions disagree", {"runs": [0.80, 0.82], "eval_only": True}, "inconclusive", "versions"),
    ("other cases, inside", other_cases(), "reproduced", ON_OTHERS),
    ("other cases, lower", other_cases(-0.1), "lower", ON_OTHERS),
    ("other cases, higher", other_cases(+0.1), "higher", ON_OTHERS),
    ("other cases, edge", other_cases(-0.01), "inconclusive", ON_OTHERS),
    ("other cases, one seed", other_cases(n_seeds=1), "inconclusive", ON_OTHERS),
    ("other cases, released", other_cases(n_seeds=1, eval_only=True), "reproduced", "cases"),
]


@pytest.mark.parametrize(("name", "arguments", "state", "kind"), VALUE_TABLE, ids=[row[0] for row in VALUE_TABLE])
def test_value_verdicts(name, arguments, state, kind):
    found = value_verdict(reported=0.80, margin=0.01, **arguments)
    assert found.state == state
    assert found.interval_kind == kind
    words = state.replace("_", " ").split()[0]
    assert words in found.explanation.lower() or state == NOT_PUBLIC
    if kind is None:
        assert found.difference is None
        assert found.low is None
    if found.low is not None and found.high is not None:
        assert found.low <= found.difference <= found.high


def test_the_interval_is_a_t_interval_over_seeds_with_half_a_unit_of_rounding():
    plain = value_verdict(reported=0.80, margin=0.01, runs=[0.79, 0.80, 0.81])
    assert plain.high == pytest.approx(4.302652729911275 * 0.01 / math.sqrt(3), rel=1e-9)
    rounded = value_verdict(reported=0.80, margin=0.01, runs=[0.79, 0.80, 0.81], rounding=0.0001)
    assert rounded.high - plain.high == pytest.approx(0.00005)
    assert plain.low - rounded.low == pytest.approx(0.00005)


def test_rounding_decides_at_the_edge():
    arguments = {"reported": 0.80, "margin": 0.001, "runs": [0.80097], "eval_only": True}
    assert value_verdict(**arguments).state == "reproduced"
    assert value_verdict(**arguments, rounding=0.0001).state == "inconclusive"


def test_a_wide_interval_alone_never_passes():
    for spread in (0.02, 0.2, 2.0):
        assert value_verdict(reported=0.8, margin=0.01, runs=[0.8 - spread, 0.8, 0.8 + spread]).state == "inconclusive"


def test_edges_belong_to_the_margin():
    assert value_verdict(reported=0.5, margin=0.25, runs=[0.75], eval_only=True).state == "reproduced"
    assert value_verdict(reported=0.5, margin=0.25, runs=[0.25], eval_only=True).state == "reproduced"


def test_inconclusive_says_how_many_seeds_would_settle_it():
    wide = value_verdict(reported=0.80, margin=0.01, runs=[0.792, 0.800, 0.808])
    assert wide.state == "inconclusive"
    assert wide.seeds_needed == 5  # sd 0.008: half-width 1.24 sd = 0.0099 with five, 1.59 sd = 0.0127 with four
    assert f"{wide.seeds_needed} seeds would settle it" in wide.explanation
    hopeless = value_verdict(reported=0.80, margin=0.01, runs=[0.809, 0.81, 0.811])
    assert hopeless.seeds_needed is None
    assert "not even 100 seeds" in hopeless.explanation
    single = value_verdict(reported=0.80, margin=0.01, runs=[0.80])
    assert "2.48 sd with 3" in single.explanation
    assert single.low is None


@pytest.mark.parametrize("name", PROTOCOL_FIELDS)
@pytest.mark.parametrize("pretrained", [True, False])
def test_which_differences_block(name, pretrained):
    claim = dict.fromkeys(PROTOCOL_FIELDS, "a")
    difference = protocol_difference(claim, {**claim, name: "b"}, pretrained=pretrained)
    blocks = name in BLOCKING_FIELDS or (name == "weights" and pretrained)
    assert difference.fields[name] == "different"
    assert difference.comparable is not blocks
    assert difference.blocking == ((name,) if blocks else ())
    verdict = value_verdict(reported=0.8, margin=0.01, runs=[0.8, 0.801, 0.8], protocol=difference)
    assert verdict.state == ("not_comparable" if blocks else "reproduced")
    if blocks:
        assert verdict.difference is None
        assert name.replace("_", " ") in verdict.explanation


def test_unknown_fields_are_counted_and_do_not_block():
    difference = protocol_difference(
        {"grid": "native", "weights": None}, {"grid": "native", "weights": "x"}, pretrained=True
    )
    assert list(difference.fields) == list(PROTOCOL_FIELDS)
    assert len(PROTOCOL_FIELDS) == 14
    assert difference.fields["grid"] == "same"
    assert difference.n_unknown == 13
    assert difference.comparable


def test_misspelt_fields_are_refused():
    with pytest.raises(UserError, match="Did you mean 'threshold'"):
        protocol_difference({"treshold": 0.5}, {}, pretrained=False)


def test_precedence():
    blocked = protocol_difference({"grid": "a"}, {"grid": "b"}, pretrained=False)
    base = {"reported": 0.8, "margin": 0.01, "protocol": blocked}
    assert value_verdict(**base, runs=[0.8] * 3, not_public="split").state == NOT_PUBLIC
    assert value_verdict(**base).state == "not_attempted"
    assert value_verdict(**base, runs=[0.8] * 3).state == "not_comparable"
    assert "no GPU" in value_verdict(reported=0.8, margin=0.01, not_attempted="no GPU").explanation


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"margin": 0}, "margin"),
        ({"margin": -0.1}, "margin"),
        ({"margin": math.nan}, "margin"),
        ({"reported": math.nan}, "finite"),
        ({"rounding": -1}, "rounding"),
        ({"same_cases": False}, "case_scores"),
        ({"same_cases": False, "case_scores": [[0.8, 0.8]]}, "3 runs but 1 rows"),
    ],
)
def test_bad_arguments_are_refused(arguments, says):
    with pytest.raises(UserError, match=says):
        value_verdict(**{"reported": 0.8, "margin": 0.01, "runs": [0.8, 0.8, 0.8], **arguments})


def test_suggested_margins():
    assert suggested_margin(12) == 0.01
    assert suggested_margin(29) == 0.01
    assert suggested_margin(30) == 0.005
    assert suggested_margin(6, eval_only=True) == 0.001


CASES = np.random.default_rng(0).normal(0.8, 0.03, (3, 20))
GAIN_TABLE = [
    ("clear gain", CASES + 0.02 + 0.001 * CASES, CASES, True, "gain_confirmed"),
    ("clear loss", CASES - 0.02, CASES - 0.0001 * CASES, True, "loss"),
    ("nothing", CASES + np.where(np.arange(20) % 2, 0.01, -0.01), CASES, True, "no_gain_seen"),
    ("up on average, within noise", CASES + np.where(np.arange(20) % 2, 0.03, -0.02), CASES, True, "no_gain_seen"),
    ("down on average, within noise", CASES - np.where(np.arange(20) % 2, 0.03, -0.02), CASES, True, "no_gain_seen"),
    ("distance got smaller", 10 * CASES - 1 - CASES, 10 * CASES, False, "gain_confirmed"),
    ("distance got larger", 10 * CASES + 1 + CASES, 10 * CASES, False, "loss"),
    ("one seed", CASES[:1] + 0.02 + 0.01 * CASES[:1], CASES[:1], True, "gain_confirmed"),
    ("no twin", CASES, [], True, "not_attempted"),
    ("no run", [], [], True, "not_attempted"),
]


@pytest.mark.parametrize(
    ("name", "pretrained", "scratch", "higher", "state"), GAIN_TABLE, ids=[row[0] for row in GAIN_TABLE]
)
def test_gain_verdicts(name, pretrained, scratch, higher, state):
    found = gain_verdict(pretrained, scratch, higher_is_better=higher, claimed=0.01 if higher else -0.01)
    assert found.state == state
    assert found.explanation
    if state != "not_attempted":
        sign = {"gain_confirmed": 1, "loss": -1}.get(state)
        assert sign is None or np.sign(found.gain) == sign
        assert found.claimed == pytest.approx(0.01)
        assert found.share_of_claim == pytest.approx(found.gain / 0.01)


def test_gain_against_the_claim():
    gains = CASES * 0 + np.linspace(0.01, 0.03, 20) + np.array([[-0.001], [0.0], [0.001]])
    found = gain_verdict(CASES + gains, CASES, claimed=0.02)
    assert found.claim_inside is True
    assert found.sd_over_seeds == pytest.approx(0.001)
    assert gain_verdict(CASES + gains, CASES, claimed=0.1).claim_inside is False
    assert gain_verdict(CASES + gains, CASES).share_of_claim is None
    assert "one seed says nothing" in gain_verdict(CASES[:1] + gains[:1], CASES[:1]).explanation


def test_twins_need_the_same_seeds_and_cases():
    with pytest.raises(UserError, match=r"\(3, 20\).*\(2, 20\)"):
        gain_verdict(CASES, CASES[:2])
