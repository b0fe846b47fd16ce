from __future__ import annotations

import json

import numpy as np
import pytest

from harness.errors import UserError
from harness.files import canonical_json
from harness.records.build import config_sha256
from harness.records.cases import read_cases, to_csv
from harness.records.fields import Cost, Weights
from harness.records.identity import cell_key, result_id, run_id, sweep_key, twin_key
from harness.records.store import load


def test_a_record_round_trips_byte_for_byte(maker, tmp_path):
    made = maker(tmp_path)
    path = made.write(tmp_path / "record")
    assert path.read_text(encoding="utf-8") == canonical_json(json.loads(path.read_text(encoding="utf-8")))
    assert load(tmp_path / "record") == made.record
    assert read_cases(tmp_path / "record" / "cases.csv") == sorted(
        made.rows, key=lambda r: (r.case_id, r.class_id, r.class_name, r.metric_id)
    )


def test_aggregates_are_those_of_the_rows(maker, tmp_path):
    made = maker(tmp_path)
    dice = made.record.metrics[0]
    assert dice.id == "dice.hard.native.v1"
    rows = [row for row in made.rows if row.metric_id == dice.id]
    per_case = {}
    for row in rows:
        if row.value is not None:
            per_case.setdefault(row.case_id, []).append(row.value)
    assert dice.value == pytest.approx(np.mean([np.mean(values) for values in per_case.values()]), abs=1e-12)
    assert (dice.n_cases, dice.n_undefined) == (5, 1)  # case 3 has no second structure, and none was predicted
    assert dice.per_class["right"].n == 4
    assert dice.ci95[0] < dice.value < dice.ci95[1]
    assert dice.empty_rule.both_empty == "skip"


def test_the_order_of_the_rows_changes_nothing(maker, tmp_path):
    made = maker(tmp_path)
    shuffled = list(made.rows)
    np.random.default_rng(0).shuffle(shuffled)
    again = maker(tmp_path, cases=[type(made.rows[0])(*row) for row in shuffled])
    assert again.record == made.record
    assert to_csv(made.rows) == to_csv(reversed(made.rows))


def test_result_id_is_the_science_and_run_id_is_everything(maker, tmp_path):
    made = maker(tmp_path)
    base = made.record
    dearer = Cost(**{**base.cost.model_dump(), "resumed": 3, "wall": {**base.cost.wall, "train": 99.0}})
    resumed = maker(tmp_path, cost=dearer).record
    assert resumed.result_id == base.result_id
    assert resumed.run_id != base.run_id
    slower = maker(tmp_path, cases=[row._replace(seconds=9.0) for row in made.rows]).record
    assert slower.result_id == base.result_id
    assert slower.run_id != base.run_id
    rows = list(made.rows)
    rows[0] = rows[0]._replace(value=rows[0].value - 1e-9)
    assert maker(tmp_path, cases=rows).record.result_id != base.result_id
    final = base.weights.model_copy(update={"final_sha256": "f" * 64})
    assert maker(tmp_path, weights=final).record.result_id != base.result_id


def test_ids_ignore_what_comes_later(maker, tmp_path):
    data = maker(tmp_path).record.to_json()
    assert run_id({**data, "attestations": [{"level": 3}], "run_id": "x"}) == data["run_id"]
    assert result_id(data) == data["result_id"]


def test_twins_and_repeats_share_their_keys(maker, tmp_path):
    tuned, scratch = maker(tmp_path).record, maker(tmp_path, "scratch").record
    other_seed = maker(tmp_path, seed=1).record
    assert twin_key(tuned) == twin_key(scratch)
    assert cell_key(tuned) != cell_key(scratch)
    assert twin_key(tuned) != twin_key(other_seed)
    assert sweep_key(tuned) == sweep_key(other_seed) != sweep_key(scratch)


def test_from_scratch_the_implied_reasons_are_given(maker, tmp_path):
    record = maker(tmp_path, "scratch").record
    assert record.reasons["pretraining"] == "from scratch"
    assert record.reasons["weights.loading_file_sha256"] == "nothing was loaded"
    assert record.reasons["cost.gpu_hours"] == "run on a CPU"
    assert "weights.source" not in record.reasons


def test_a_null_without_a_reason_is_refused(maker, tmp_path):
    with pytest.raises(UserError, match=r"submitter\.affiliation"):
        maker(tmp_path, reasons={})
    with pytest.raises(UserError, match=r"protocol\.lr"):
        maker(tmp_path, reasons={"submitter.affiliation": "not given", "protocol.lr": "why"})


def test_pretrained_weights_must_be_named(maker, tmp_path):
    bare = Weights(state_sha256="d" * 64, loaded_fraction=1.0, final_sha256="1" * 64)
    with pytest.raises(UserError, match=r"weights\.sha256"):
        maker(tmp_path, weights=bare)


def test_a_scratch_run_has_no_file(maker, tmp_path):
    loaded = maker(tmp_path).record.weights
    with pytest.raises(UserError, match="from scratch"):
        maker(tmp_path, "scratch", weights=loaded)


def test_a_failed_run_is_a_record_too(maker, tmp_path):
    lost = Weights(state_sha256=None, loaded_fraction=0.0, final_sha256=None)
    record = maker(
        tmp_path,
        "scratch",
        status="failed",
        status_reason="No space left on device: /home/ada/runs/x/last.pt",
        weights=lost,
        cases=[],
        predictions={},
    ).record
    assert record.metrics == ()
    assert record.status_reason == "No space left on device: <path>"
    assert record.reasons["weights.final_sha256"] == "the run ended as failed"
    with pytest.raises(UserError, match="complete run has scores"):
        maker(tmp_path, cases=[])


def test_a_missing_row_is_an_error(maker, tmp_path):
    made = maker(tmp_path)
    with pytest.raises(UserError, match="has no row"):
        maker(tmp_path, cases=made.rows[1:])
    with pytest.raises(UserError, match="two rows"):
        maker(tmp_path, cases=[*made.rows, made.rows[0]])


def test_a_private_path_is_refused(maker, tmp_path):
    with pytest.raises(UserError, match="config_overrides"):
        maker(tmp_path, config_overrides=("data_root=/home/ada/btcv",))


def test_the_layout_of_the_configuration_does_not_matter():
    assert config_sha256("a: 1\nb: [0.5, 2]\n") == config_sha256("# note\nb:\n- 0.5\n- 2\na: 1\n")
    assert config_sha256("a: 1\n") != config_sha256("a: 2\n")
    with pytest.raises(UserError, match="not valid YAML"):
        config_sha256("a: [1")
