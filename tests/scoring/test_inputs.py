"""What cannot be scored is refused with a sentence that says what to do."""

import numpy as np
import pytest

from harness.errors import UserError
from harness.scoring import score

ONES = np.ones((3, 4, 5), np.uint8)
GOOD = {
    "prediction": ONES,
    "reference": ONES,
    "spacing": (1.0, 2.0, 3.0),
    "classes": {"organ": [1]},
    "metrics": ["dice"],
}


def test_the_good_input_is_good():
    (row,) = score(**GOOD)
    assert row["value"] == 1.0
    assert row["class"] == "organ"
    assert row["metric"] == "dice"
    assert row["state"] == "both"
    assert row["spacing"] == (1.0, 2.0, 3.0)
    assert row["diagonal_mm"] == pytest.approx(np.sqrt(3**2 + 8**2 + 15**2))
    assert type(row["tp"]) is int


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prediction": ONES.astype(np.float32)}, "float32.*argmax"),
        ({"reference": ONES.astype(complex)}, "complex"),
        ({"prediction": np.array([[["a"]]])}, "label map holds whole numbers"),
        ({"prediction": ONES[:2]}, r"\(2, 4, 5\).*\(3, 4, 5\).*resampled"),
        ({"prediction": ONES[0], "reference": ONES[0]}, "three axes"),
        ({"prediction": ONES[None], "reference": ONES[None]}, "three axes"),
        ({"prediction": ONES[:0], "reference": ONES[:0]}, "at least one"),
        ({"spacing": (1, 2)}, "three positive numbers"),
        ({"spacing": (1, 2, 0)}, "three positive numbers"),
        ({"spacing": (1, 2, -1)}, "three positive numbers"),
        ({"spacing": (1, 2, float("nan"))}, "three positive numbers"),
        ({"spacing": (1, 2, float("inf"))}, "three positive numbers"),
        ({"spacing": 1.0}, "three positive numbers"),
        ({"spacing": "abc"}, "three positive numbers"),
        ({"spacing": None}, "three positive numbers"),
        ({"classes": {}}, "must map each name"),
        ({"classes": ["organ"]}, "must map each name"),
        ({"classes": {"organ": []}}, "'organ'.*at least one whole number"),
        ({"classes": {"organ": [1.5]}}, "'organ'.*whole number"),
        ({"classes": {"organ": 1}}, "'organ'.*list"),
        ({"metrics": []}, "No metric"),
        ({"metrics": "dice"}, r"list of ids, such as \['dice'\]"),
        ({"metrics": ["dise"]}, "Did you mean 'dice'"),
        ({"metrics": ["hd_95"]}, "Did you mean 'hd95'"),
        ({"metrics": [None]}, "NoneType"),
        ({"metrics": ["nsd"]}, "positive number of millimetres"),
        ({"metrics": ["nsd@0"]}, "positive number of millimetres"),
        ({"metrics": ["nsd@-1"]}, "positive number of millimetres"),
        ({"metrics": ["nsd@two"]}, "'two'.*positive number"),
        ({"metrics": ["nsd@nan"]}, "positive number"),
        ({"metrics": ["nsd_surfel@inf"]}, "positive number"),
        ({"metrics": ["dice@2"]}, "'dice' takes no tolerance"),
        ({"metrics": ["nds@2"]}, "no metric called 'nds@2'"),
        ({"metrics": ["soft_dice"]}, "needs probabilities.*harness.scoring.soft"),
        ({"metrics": ["auc"]}, "needs case scores"),
        ({"not_annotated": ["liver"]}, "no class called 'liver'"),
    ],
)
def test_bad_input_is_refused(change, says):
    with pytest.raises(UserError, match=says):
        score(**{**GOOD, **change})


def test_numpy_labels_and_generators_are_welcome():
    classes = {"organ": np.array([1, 2]), "other": range(3, 5), "one": {7}}
    rows = score(ONES, ONES, np.array([1, 1, 1]), classes, (metric for metric in ["dice", "iou"]))
    assert [row["class"] for row in rows] == ["organ", "organ", "other", "other", "one", "one"]


def test_rows_answer_under_the_name_they_were_asked_by():
    rows = score(ONES, ONES, (1, 1, 1), {"organ": [1]}, ["nsd@2.0", "nsd@2", "dice", "dice"])
    assert [row["metric"] for row in rows] == ["nsd@2.0", "nsd@2", "dice"]


def test_inputs_are_not_changed():
    rng = np.random.default_rng(0)
    prediction, reference = rng.integers(-3, 4, (2, 6, 7, 8)).astype(np.int16)
    before = prediction.copy(), reference.copy()
    score(prediction, reference, (1, 1, 1), {"a": [-2], "b": [1, 2]}, ["dice", "hd95", "hd95_surfel"])
    assert np.array_equal(prediction, before[0])
    assert np.array_equal(reference, before[1])


def test_not_annotated_classes_have_no_value():
    rows = score(ONES, ONES * 0, (1, 1, 1), {"a": [1], "b": [1]}, ["dice", "hd95"], not_annotated=["b"])
    assert [row["state"] for row in rows] == ["ref_empty", "ref_empty", "not_annotated", "not_annotated"]
    assert np.isnan([row["value"] for row in rows[2:]]).all()
    assert rows[2]["n_pred"] == 60
