"""Every class of field, damaged: naively, and by somebody who recomputes every hash and id afterwards.

A mutation may be caught by another check than one would think of first, but it must be caught, and by none but the
checks named here (so that a test cannot pass because the damage was clumsy).
"""

from __future__ import annotations

import json

import pytest
import yaml

from harness.records.verify import verify

METRIC = "dice.hard.native.v1"


def text_edit(name, old, new):
    def damage(folder, tools):
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return damage


NAIVE = {
    "score": text_edit("record.json", '"value":0.', '"value":0.9'),
    "case row": text_edit("cases.csv", ",0.", ",0.9"),
    "case reason": text_edit("cases.csv", "absent_in_both", "not_annotated"),
    "hash": text_edit("record.json", '"sha256":"' + "c" * 64, '"sha256":"' + "d" * 64),
    "split": text_edit("record.json", '"id":"fixed"', '"id":"other"'),
    "unit": text_edit("record.json", '"unit":"fraction"', '"unit":"mm"'),
    "seed": text_edit("record.json", '"torch":0', '"torch":1'),
    "metric id": text_edit("record.json", "dice.hard.native.v1", "dice.hard.native.v2"),
    "definition": text_edit("record.json", '"definition_sha256":"', '"definition_sha256":"0'),
    "run id": text_edit("record.json", '"run_id":"', '"run_id":"0'),
    "date": text_edit("record.json", "2026-08-01", "2025-08-01"),
    "cost": text_edit("record.json", '"train":20.5', '"train":10.5'),
    "evidence": text_edit("record.json", '"evidence":["synthetic_data"]', '"evidence":[]'),
    "configuration": text_edit("config.yaml", "steps: 20", "steps: 40"),
    "load report": text_edit("loading.json", '"fraction": 1.0', '"fraction": 0.9'),
    "curve": text_edit("log.jsonl", '"loss": 0.7', '"loss": 0.1'),
    "predictions": text_edit("predictions.txt", "case_00", "case_09"),
    "NaN": text_edit("record.json", '"lr":1e-05', '"lr":NaN'),
    "infinity": text_edit("record.json", '"lr":1e-05', '"lr":Infinity'),
    "number as text": text_edit("record.json", '"steps":20', '"steps":"20"'),
    "unknown key": text_edit("record.json", '{"attestations"', '{"host":"node17","attestations"'),
    "typed trust": text_edit("record.json", '{"attestations"', '{"trust":3,"attestations"'),
    "repeated key": text_edit("record.json", '"kind":"fine_tune"', '"kind":"fine_tune","kind":"fine_tune"'),
    "spelling": text_edit("record.json", '"kind":"fine_tune"', '"kind": "fine_tune"'),
    "schema version": text_edit("record.json", '"schema_version":"1.0.0"', '"schema_version":"1.1.0"'),
    "rules version": text_edit("record.json", '"rules_version":"1"', '"rules_version":"2"'),
    "NaN in a case": text_edit("cases.csv", "dice.hard.native.v1,0.", "dice.hard.native.v1,nan,,,,,,,,,,,\n"),
    "no newline": lambda folder, tools: (folder / "cases.csv").write_text(
        (folder / "cases.csv").read_text(encoding="utf-8")[:-1], encoding="utf-8"
    ),
    "deleted cases": lambda folder, tools: (folder / "cases.csv").unlink(),
    "deleted configuration": lambda folder, tools: (folder / "config.yaml").unlink(),
    "deleted predictions": lambda folder, tools: (folder / "predictions.txt").unlink(),
    "deleted record": lambda folder, tools: (folder / "record.json").unlink(),
    "truncated": lambda folder, tools: (folder / "record.json").write_text(
        (folder / "record.json").read_text(encoding="utf-8")[:900], encoding="utf-8"
    ),
    "binary": lambda folder, tools: (folder / "record.json").write_bytes(b"\xff\xfe\x00"),
    "deeply nested": lambda folder, tools: (folder / "record.json").write_text("[" * 200_000, encoding="utf-8"),
    "a list": lambda folder, tools: (folder / "record.json").write_text("[]\n", encoding="utf-8"),
    "smuggled file": lambda folder, tools: (folder / "weights.pt").write_bytes(b"x"),
    "smuggled link": lambda folder, tools: (folder / "packages.txt").symlink_to("/etc/passwd"),
    "unnamed picture": lambda folder, tools: ((folder / "slices").mkdir(), (folder / "slices/x.png").write_bytes(b"x")),
}


@pytest.mark.parametrize("name", NAIVE)
def test_naive_damage_is_caught(run, tools, name):
    folder = run / "record"
    assert verify(folder).ok
    NAIVE[name](folder, tools)
    verdict = verify(folder)
    assert not verdict.ok
    assert verdict.trust == 0


def field(path, value):
    def change(data):
        *way, last = path.split(".")
        place = data
        for key in way:
            place = place[int(key)] if key.isdigit() else place[key]
        place[int(last) if last.isdigit() else last] = value(place[last]) if callable(value) else value

    return lambda folder, tools: tools.reseal(folder, change)


def rows(change, *, aggregates=True, record=None):
    def damage(folder, tools):
        tools.rewrite(folder, change)
        tools.reseal(folder, record, aggregates=aggregates)

    return damage


def edit_json(name, change):
    def damage(folder, tools):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        change(content)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
        tools.reseal(folder)

    return damage


def edit_config(change, record=None):
    def damage(folder, tools):
        content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        change(content)
        (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        tools.reseal(folder, record)

    return damage


def swap_predictions(folder, tools):
    lines = (folder / "predictions.txt").read_text(encoding="utf-8").splitlines()
    (first, a), (second, b) = (line.split("\t") for line in lines[:2])
    (folder / "predictions.txt").write_text(
        "\n".join([f"{first}\t{b}", f"{second}\t{a}", *lines[2:]]) + "\n", encoding="utf-8"
    )
    tools.reseal(folder)


def is_dice(row):
    return row.metric_id == METRIC


def bomb(folder, tools):
    text = "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n"
    (folder / "config.yaml").write_text(text, encoding="utf-8")


# name -> (damage, checks that may catch it)
RESEALED = {
    "score": (field("metrics.0.value", lambda v: v + 0.01), {3}),
    "score in percent": (field("metrics.0.value", lambda v: v * 100), {3}),
    "class score": (field("metrics.0.per_class.left.value", lambda v: v + 0.01), {3}),
    "class left out": (field("metrics.0.per_class", lambda v: {"left": v["left"]}), {3}),
    "cases counted": (field("metrics.0.n_cases", 6), {3}),
    "undefined hidden": (field("metrics.0.n_undefined", 0), {3}),
    "interval": (field("metrics.0.ci95", lambda v: [v[0] + 0.01, v[1]]), {3}),
    "interval taken away": (
        lambda f, t: t.reseal(f, lambda d: d["metrics"][0].update(ci95=None, ci95_method=None)), {3}),
    "interval of other draws": (field("metrics.0.ci95_method.seed", 7), {3}),
    "unit": (field("metrics.0.unit", "mm"), {3, 4}),
    "direction": (field("metrics.1.higher_is_better", True), {3}),
    "averaging": (field("metrics.0.averaging", "pooled"), {3}),
    "policy": (field("metrics.0.policy", "brats2021"), {3, 4}),
    "unknown policy": (field("metrics.0.policy", "mine"), {3}),
    "empty rule": (field("metrics.0.empty_rule.both_empty", "1.0"), {3}),
    "grid": (field("metrics.0.grid", "patch"), {3}),
    "definition hash": (field("metrics.0.definition_sha256", "0" * 64), {5}),
    "metric version": (
        rows(lambda r: r._replace(metric_id="dice.hard.native.v2") if is_dice(r) else r, aggregates=False,
             record=lambda d: d["metrics"][0].update(id="dice.hard.native.v2")), {3}),
    "metric id": (
        rows(lambda r: r._replace(metric_id="iou.hard.native.v1") if is_dice(r) else r, aggregates=False,
             record=lambda d: d["metrics"][0].update(id="iou.hard.native.v1")), {4, 5}),
    "metric dropped from the rows": (rows(lambda r: r if is_dice(r) else None, aggregates=False), {2, 3}),
    "case score": (rows(lambda r: r._replace(value=0.99) if is_dice(r) and r.value else r), {4}),
    "case score above one": (rows(lambda r: r._replace(value=1.5) if is_dice(r) and r.value else r), {3, 4}),
    "case score negative": (rows(lambda r: r._replace(value=-1.0) if not is_dice(r) and r.value else r), {4}),
    "counts of one metric": (rows(lambda r: r._replace(tp=r.tp + 1, fn=r.fn - 1) if is_dice(r) else r), {4}),
    "counts that do not add up": (rows(lambda r: r._replace(n_ref=r.n_ref + 5)), {4}),
    "counts taken away": (rows(lambda r: r._replace(tp=None)), {4}),
    "miss explained away": (
        rows(lambda r: r._replace(value=None, reason="absent_in_both") if r.case_id == "case_00" else r), {4}),
    "miss not annotated": (
        rows(lambda r: r._replace(value=None, reason="not_annotated", tp=0) if r.case_id == "case_00" else r), {4}),
    "reason beside a measured value": (
        rows(lambda r: r._replace(reason="absent_in_reference") if r.case_id == "case_00" else r),
        {4},
    ),
    "spacing": (rows(lambda r: r._replace(spacing_x=-3.0)), {4}),
    "spacing of one row": (rows(lambda r: r._replace(spacing_x=1.0) if r.class_id == 1 else r), {4}),
    "row dropped": (rows(lambda r: None if (r.case_id, r.class_id) == ("case_00", 1) and is_dice(r) else r,
                         aggregates=False), {2, 3}),
    "case dropped": (rows(lambda r: None if r.case_id == "case_04" else r), {2}),
    "case renamed": (rows(lambda r: r._replace(case_id="case_07") if r.case_id == "case_04" else r), {2, 8}),
    "class renamed": (rows(lambda r: r._replace(class_name="easy") if r.class_id == 1 else r), {2}),
    "class renumbered": (rows(lambda r: r._replace(class_id=3) if r.class_id == 1 else r), {2}),
    "failed case in a complete run": (
        rows(lambda r: r._replace(value=None, reason="failed") if r.case_id == "case_00" else r), {2}),
    "predictions swapped": (swap_predictions, {2}),
    "prediction hash of a row": (rows(lambda r: r._replace(prediction_sha256="9" * 64)), {2}),
    "number of cases": (field("dataset.n_cases.test", 4), {2}),
    "label map": (field("dataset.label_map", {"0": "background", "1": "right", "2": "left"}), {2}),
    "split hash": (field("split.sha256", "0" * 64), {5}),
    "role": (field("split.scored_role", "val_independent"), {2}),
    "weights hash": (lambda f, t: t.reseal(f, lambda d: (d["weights"].update(sha256="8" * 64),
                                                         d.update(division="closed"))), {5}),
    "mark taken away": (field("evidence", []), {5}),
    "seed": (field("seeds", {"python": 1, "numpy": 1, "torch": 1, "data": 1, "init": 1}), {1}),
    "init": (field("model.init", "released"), {1}),
    "protocol name": (field("protocol.id", "paper"), {1}),
    "other configuration": (edit_config(lambda c: c.update(seed=5)), {1}),
    "configuration of another model": (edit_config(lambda c: c.update(model="med3d.resnet10")), {1}),
    "loaded fraction": (field("weights.loaded_fraction", 0.5), {7}),
    "load report": (edit_json("loading.json", lambda c: c["encoder"].update(fraction=0.2)), {7}),
    "too little loaded": (lambda f, t: (edit_json("loading.json", lambda c: c["encoder"].update(fraction=0.2))(f, t),
                                        field("weights.loaded_fraction", 0.2)(f, t)), {7}),
    "selected by the scored cases": (
        lambda f, t: t.reseal(f, lambda d: (d["split"].update(scored_role="val_independent"),
                                            d["dataset"]["n_cases"].update(val=5),
                                            d["protocol"]["selection"].update(rule="best_val"))), {8}),
    "absolute path": (field("contamination.evidence", "see /home/ada/notes.txt"), {11}),
    "Windows path": (field("contamination.evidence", r"see C:\Users\ada\notes.txt"), {11}),
    "override with a path": (field("config_overrides", ["data_root=/mnt/nas/btcv"]), {11}),
    "host name": (field("hardware.cpu", "node17.cluster.local"), {11}),
    "user and host": (field("submitter.handle", "ada@node17"), {11}),
    "path in a reason": (field("reasons", lambda v: v | {"submitter.affiliation": "see ~/secret"}), {11}),
    "path in the configuration": (edit_config(lambda c: c.update(cache="/scratch/ada/cache")), {11}),
    "path in the load report": (edit_json("loading.json", lambda c: c.update(file="/data/ada/w.pt")), {11}),
    "path as a case id": (rows(lambda r: r._replace(case_id="/data/x/" + r.case_id)), {2, 11}),
    "silent null": (lambda f, t: t.reseal(f, lambda d: d["reasons"].pop("submitter.affiliation")), {1}),
    "null instead of a hash": (field("weights.final_sha256", None), {1}),
    "reason for a fact": (field("reasons", lambda v: v | {"protocol.lr": "secret"}), {1}),
    "other division": (field("division", "semi-open"), {1}),
    "YAML bomb": (bomb, {1}),
    "NaN in the configuration": (lambda f, t: (f / "config.yaml").write_text("lr: .nan\n", encoding="utf-8"), {1}),
}  # fmt: skip


@pytest.mark.parametrize("name", RESEALED)
def test_careful_damage_is_caught_by_the_check_it_belongs_to(run, tools, cards, name):
    folder = run / "record"
    damage, allowed = RESEALED[name]
    damage(folder, tools)
    verdict = verify(folder, full=True, cards=[cards])
    assert not verdict.ok
    assert {finding.check for finding in verdict.errors} <= allowed, [str(finding) for finding in verdict.errors]
    assert verdict.trust == 0


def test_resealing_alone_breaks_nothing(run, tools, cards):
    before = (run / "record" / "record.json").read_text(encoding="utf-8")
    tools.reseal(run / "record", aggregates=True)
    assert (run / "record" / "record.json").read_text(encoding="utf-8") == before
    verdict = verify(run / "record", full=True, cards=[cards])
    assert verdict.findings == ()
    assert verdict.trust_name == "re-aggregated"


def test_an_attestation_changes_no_id_and_lifts_no_level(run, tools):
    folder = run / "record"
    data = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    note = {"level": 5, "by": "me", "date": "2026-08-02T00:00:00Z", "method": "looked", "tool_commit": "x"}
    data["attestations"] = [{**note, "signature": None}]
    (folder / "record.json").write_text(
        json.dumps(data, sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8"
    )
    verdict = verify(folder)
    assert verdict.ok
    assert verdict.trust == 2


@pytest.mark.parametrize("code", [{"dirty": True}, {"commit": "unknown"}])
def test_unknown_code_is_never_more_than_self_run(run, tools, code):
    tools.reseal(run / "record", lambda data: data["harness"].update(code))
    verdict = verify(run / "record")
    assert verdict.ok
    assert verdict.trust_name == "self-run"
