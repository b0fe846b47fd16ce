from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records.migrations import STEPS, known_versions, migrate
from harness.records.schema import SCHEMA_VERSION, Record, json_schema, parse_record
from harness.records.store import load
from harness.records.verify import verify

FROZEN = Path(__file__).parent / "data"


@pytest.mark.parametrize("version", known_versions())
def test_every_version_has_a_frozen_example_that_still_verifies(version, tmp_path):
    folder = FROZEN / version
    data = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert data["schema_version"] == version
    assert verify(folder, full=True).ok
    assert load(folder).schema_version == SCHEMA_VERSION
    shutil.copytree(folder, tmp_path / "copy")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    load(tmp_path / "copy")
    assert {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()} == before


def test_no_frozen_example_is_of_an_unknown_version():
    assert {path.name for path in FROZEN.iterdir()} == set(known_versions())


def older(data):
    data["seeds"] = {"torch": data.pop("seed")}
    return data


STEP = {"0.9.0": ("0.9.5", older), "0.9.5": (SCHEMA_VERSION, lambda data: {**data, "x": 1})}


def test_steps_are_chained_and_leave_the_stored_data_alone():
    stored = {"schema_version": "0.9.0", "rules_version": "1", "seed": 3}
    lifted = migrate(stored, STEP)
    assert lifted == {"schema_version": SCHEMA_VERSION, "rules_version": "1", "seeds": {"torch": 3}, "x": 1}
    assert stored == {"schema_version": "0.9.0", "rules_version": "1", "seed": 3}
    current = {"schema_version": SCHEMA_VERSION, "rules_version": "1"}
    assert migrate(current) is current
    assert known_versions(STEP) == ("0.9.0", "0.9.5", SCHEMA_VERSION)


@pytest.mark.parametrize("version", ["2.0.0", "0.1.0", None, 1, "1.0", "1.0.0 "])
def test_an_unknown_schema_version_is_refused(version):
    with pytest.raises(UserError, match="schema_version"):
        migrate({"schema_version": version, "rules_version": "1"}, STEPS)


@pytest.mark.parametrize("version", ["2", None, 1])
def test_an_unknown_rules_version_is_refused(version):
    with pytest.raises(UserError, match="rules_version"):
        migrate({"schema_version": SCHEMA_VERSION, "rules_version": version})


def example():
    return json.loads((FROZEN / SCHEMA_VERSION / "record.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("created", "2026-08-01"),
        ("created", "2026-08-01T12:00:00+02:00"),
        ("model.init", "random"),
        ("protocol.batch", 2.5),
        ("protocol.batch", "2"),
        ("protocol.batch", True),
        ("protocol.patch", [16, 16]),
        ("protocol.spacing", [1.0, 1.0, 0.0]),
        ("dataset.label_map", {"one": "left"}),
        ("weights.loaded_fraction", 1.2),
        ("weights.sha256", "C" * 64),
        ("evidence", ["looks_fine"]),
        ("status", "done"),
        ("cost.resumed", -1),
        ("harness.commit", "main"),
        ("supersedes", "0123456789abcdef"),
        ("status_reason", "all well"),
        ("metrics", []),
        ("seeds.extra", 1),
    ],
)
def test_what_the_schema_forbids_is_refused_with_its_place(path, value):
    data = example()
    *way, last = path.split(".")
    place = data
    for key in way:
        place = place[key]
    place[last] = value
    with pytest.raises(UserError) as caught:
        parse_record(json.dumps(data), "record.json")
    assert way[0] if way else last in str(caught.value)


def test_a_misspelt_key_comes_back_with_the_right_one():
    data = example()
    data["protocol"]["optimiser"] = data["protocol"].pop("optimizer")
    with pytest.raises(UserError, match="did you mean 'optimizer'"):
        parse_record(json.dumps(data), "record.json")


def test_a_metric_appears_once_and_hides_nothing():
    data = example()
    data["metrics"].append(data["metrics"][0])
    with pytest.raises(UserError, match="appears twice"):
        parse_record(json.dumps(data), "x")
    data = example()
    data["metrics"][0]["value"] = None
    with pytest.raises(UserError, match="exactly where no case"):
        parse_record(json.dumps(data), "x")


def test_the_exported_schema_is_about_this_record():
    schema = json.loads(json_schema())
    assert set(schema["properties"]) == set(Record.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Protocol"]["properties"]["lr"]["x-null-needs-a-reason"] is True
    assert "x-null-needs-a-reason" not in schema["$defs"]["Hardware"]["properties"]["cpu"]
    assert json_schema() == json_schema()


def test_the_room_imports_neither_torch_nor_monai():
    code = (
        "import sys, pkgutil, importlib, harness.records as room\n"
        "for module in pkgutil.iter_modules(room.__path__):\n"
        "    importlib.import_module(f'harness.records.{module.name}')\n"
        "print([name for name in ('torch', 'monai', 'hydra') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"
