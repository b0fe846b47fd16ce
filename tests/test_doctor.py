"""The doctor finds what is wrong, says the command that mends it, and changes nothing."""

from __future__ import annotations

import json
import resource
from collections import namedtuple
from pathlib import Path

import pytest

from harness import doctor
from harness.cli import main
from harness.doctor import Finding, examine, to_json


def named(findings: list[Finding], what: str) -> Finding:
    return next(finding for finding in findings if finding.what == what)


def prepared(home: Path, length: int) -> Path:
    folder = home / "key" / "case"
    folder.mkdir(parents=True)
    (home / "key" / "settings.json").write_text("{}", encoding="utf-8")
    about = {"image.npy": {"dtype": "<f2", "shape": [1, 2, 3, 4], "offset": 128}}
    (folder / "spec.json").write_text(json.dumps({"arrays": about}), encoding="utf-8")
    (folder / "image.npy").write_bytes(b"0" * length)
    return folder


def test_every_finding_that_is_not_ok_says_what_mends_it(tmp_path: Path) -> None:
    findings = examine(tmp_path / "runs", tmp_path / "cache")
    assert {"python", "packages", "torch", "shared memory", "file descriptors", "cache"} <= {f.what for f in findings}
    assert all((finding.mend is None) == (finding.state == "ok") for finding in findings)
    assert named(findings, "packages").state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_cache_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = prepared(tmp_path / "whole", 128 + 48)
    assert named(examine(tmp_path, tmp_path / "whole"), "cache").found.startswith("1 prepared cases")
    (whole.parent / ".tmp-case").mkdir()
    assert "leftovers" in named(examine(tmp_path, tmp_path / "whole"), "cache").found
    cut = prepared(tmp_path / "cut", 128 + 47)
    assert main(["doctor", "--out", str(tmp_path), "--cache", str(tmp_path / "cut"), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["state"] == "problem"
    (cache,) = [finding for finding in said["findings"] if finding["what"] == "cache"]
    assert cache["mend"].startswith(f"rm -r {cut}")
    (cut / "spec.json").unlink()
    assert named(examine(tmp_path, tmp_path / "cut"), "cache").state == "problem"


def test_limits_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(1, 1, 1 << 20))
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 1 << 20))
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    findings = examine(tmp_path, tmp_path)
    assert "shm-size" in (named(findings, "shared memory").mend or "")
    assert named(findings, "file descriptors").mend == "ulimit -n 4096"
    assert named(findings, "disk of runs").state == "warning"
    assert named(findings, "extra slurm").mend == "pip install 'voxharness[slurm]'"
    assert to_json(findings)["state"] == "warning"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "hydra-core" else original(name))
    found = next(finding for finding in doctor._python() if finding.what == "packages")
    assert (found.state, found.mend) == ("problem", "pip install hydra-core")
