from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from harness.errors import UserError
from harness.records.crosscheck import Summary, compare
from harness.records.verify import find_records, verify, verify_all


def put(tools, top, name, *args, **options):
    tools.make(top / name, *args, **options).write(top / name / "record")
    return top / name / "record"


def errors(verdicts):
    return {
        verdict.path.parent.name: {finding.check for finding in verdict.errors}
        for verdict in verdicts
        if not verdict.ok
    }


def test_honest_twins_and_seeds_pass(tools, tmp_path):
    for seed in (0, 1):
        put(tools, tmp_path, f"tuned{seed}", seed=seed)
        put(tools, tmp_path, f"scratch{seed}", "scratch", seed=seed)
    verdicts = verify_all([tmp_path])
    assert len(verdicts) == 4
    assert errors(verdicts) == {}
    assert {verdict.trust for verdict in verdicts} == {2}


def test_a_run_copied_under_another_seed_is_caught(tools, tmp_path):
    put(tools, tmp_path, "run", seed=0)
    later = datetime(2026, 8, 2, tzinfo=UTC)
    copy = put(tools, tmp_path, "copy", seed=1, predict_seed=0, created=later)
    assert verify(copy).ok  # by itself nothing is wrong with it
    verdicts = verify_all([tmp_path])
    assert errors(verdicts) == {"copy": {7}}
    assert next(verdict for verdict in verdicts if not verdict.ok).trust == 0


def test_the_same_cell_run_again_is_no_copy(tools, tmp_path):
    put(tools, tmp_path, "run")
    put(tools, tmp_path, "again", created=datetime(2026, 8, 3, tzinfo=UTC))
    assert errors(verify_all([tmp_path])) == {}


def test_networks_that_found_nothing_are_no_copies(tools, tmp_path):
    for seed in (0, 1):
        made = tools.make(tmp_path / "x", seed=seed, predict_seed=0)
        rows = [
            row._replace(
                tp=0, fp=0, fn=row.n_ref, n_pred=0,
                reason="absent_in_prediction" if row.n_ref else "absent_in_both",
                value=None if not row.n_ref else 0.0 if row.metric_id.startswith("dice") else 30.0,
            )
            for row in made.rows
        ]  # fmt: skip
        put(tools, tmp_path, f"empty{seed}", seed=seed, predict_seed=0, cases=rows)
    assert errors(verify_all([tmp_path / "empty0", tmp_path / "empty1"])) == {}


def test_a_pretrained_run_that_started_like_its_scratch_twin_is_caught(tools, tmp_path):
    scratch = tools.make(tmp_path / "s", "scratch")
    scratch.write(tmp_path / "s" / "record")
    weights = tools.parts()["weights"].model_copy(update={"state_sha256": scratch.record.weights.state_sha256})
    put(tools, tmp_path, "tuned", weights=weights)
    assert errors(verify_all([tmp_path])) == {"tuned": {7}}


def test_records_that_disagree_about_the_reference_are_caught(tools, tmp_path):
    for seed in range(3):
        put(tools, tmp_path, f"run{seed}", seed=seed)
    made = tools.make(tmp_path / "x", seed=3)
    rows = [row._replace(fn=row.fn + 1, n_ref=row.n_ref + 1) if row.class_id == 1 else row for row in made.rows]
    rows = [
        row._replace(value=2 * row.tp / (2 * row.tp + row.fp + row.fn))
        if row.class_id == 1 and row.metric_id.startswith("dice")
        else row
        for row in rows
    ]
    remapped = put(tools, tmp_path, "remapped", seed=3, cases=rows)
    assert verify(remapped, full=True).ok
    assert errors(verify_all([tmp_path])) == {"remapped": {4}}


def summary(run_id, **over):
    base = {
        "created": "2026", "kind": "fine_tune", "init": "scratch", "cell": run_id, "twin": run_id, "sweep": "s",
        "dataset": "d/f/l", "reference": "r", "state": run_id, "predictions": run_id, "headline": 0.8,
        "supersedes": None,
    }  # fmt: skip
    return Summary(run_id=run_id, **{**base, **over})


def test_a_seed_far_outside_its_band_is_for_a_person_to_look_at():
    values = np.array([0.80, 0.81, 0.79, 0.80, 0.805, 0.795])
    band = [summary(str(n), headline=float(v)) for n, v in enumerate(values)]
    assert compare(band) == {}
    (found,) = compare([*band, summary("odd", headline=0.95)]).items()
    assert found[0] == "odd"
    assert (found[1][0].check, found[1][0].level) == (9, "warning")


def test_a_correction_of_nothing_is_a_warning():
    assert compare([summary("a"), summary("b", supersedes="a")]) == {}
    assert [f.check for f in compare([summary("b", supersedes="gone")])["b"]] == [10]


def test_kinds_without_training_may_predict_the_same():
    copies = [summary("a", predictions="p", kind="eval_only"), summary("b", predictions="p", kind="eval_only")]
    assert compare(copies) == {}
    assert compare([summary("a", predictions="p"), summary("b", predictions="p")])


def test_two_references_with_equal_votes_are_both_suspects():
    assert set(compare([summary("a", reference="1"), summary("b", reference="2")])) == {"a", "b"}


def test_several_processes_find_the_same(tools, tmp_path):
    for seed in range(3):
        put(tools, tmp_path, f"run{seed}", seed=seed)
    (tmp_path / "run1" / "record" / "config.yaml").unlink()
    alone, together = verify_all([tmp_path]), verify_all([tmp_path], workers=2)
    assert [verdict.to_json() for verdict in alone] == [verdict.to_json() for verdict in together]
    assert [verdict.path for verdict in alone] == [verdict.path for verdict in together]


def test_a_file_that_is_no_record_is_an_invalid_one(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "record.json").write_text("{}", encoding="utf-8")
    (verdict,) = verify_all([tmp_path])
    assert not verdict.ok
    with pytest.raises(UserError, match="not valid"):
        verdict.refuse()


def test_nothing_to_verify_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no record"):
        verify_all([tmp_path])
    with pytest.raises(UserError, match="no folder"):
        verify_all([tmp_path / "nowhere"])


def test_a_record_can_be_named_by_file_folder_or_run(run):
    for path in (run, run / "record", run / "record" / "record.json"):
        assert verify(path).path == run / "record"
        assert [verdict.path for verdict in verify_all([path])] == [run / "record"]


def test_links_are_not_followed_in_circles(tmp_path, run):
    (run / "record" / "loop").symlink_to(run)
    assert list(find_records(run)) == [run / "record"]
