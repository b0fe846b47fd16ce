from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from harness.files import sha256_hex
from harness.records import environment
from harness.records.environment import describe, installed_packages
from harness.records.privacy import leaks


def test_a_cpu_is_described_without_its_name():
    found = describe()
    assert found.env.python == ".".join(map(str, sys.version_info[:3]))
    assert found.env.monai == metadata.version("monai")
    assert found.hardware.gpu is None
    assert found.reasons["hardware.gpu"] == found.reasons["env.cuda"] == "run on a CPU"
    assert found.hardware.cpu_count >= 1
    assert found.hardware.ram > 0.1
    parts = [part.model_dump(mode="json") for part in (found.harness, found.env, found.hardware)]
    assert not list(leaks([*parts, found.packages]))


def test_torch_is_asked_only_where_it_was_imported():
    code = (
        "import sys; from harness.records.environment import describe; describe('cuda'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "False"


def test_a_gpu_is_described_by_what_torch_says(monkeypatch):
    properties = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=80 * 2**30)
    torch = SimpleNamespace(
        version=SimpleNamespace(cuda="12.4"),
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 90100)),
        cuda=SimpleNamespace(get_device_properties=lambda device: properties),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(environment, "_driver", lambda: None)
    found = describe("cuda:0")
    assert (found.hardware.gpu, found.hardware.gpu_memory, found.hardware.gpu_count) == (properties.name, 80.0, 1)
    assert (found.env.cuda, found.env.cudnn) == ("12.4", "90100")
    assert found.reasons == {"env.driver": "the driver does not say"}


def test_the_lock_is_the_hash_of_every_distribution():
    packages = installed_packages()
    assert f"numpy=={metadata.version('numpy')}\n" in packages
    assert packages.splitlines() == sorted(set(packages.splitlines()))
    assert describe().env.lock_sha256 == sha256_hex(packages)


def git(folder, *arguments):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "code.py").write_text("x = 1\n", encoding="utf-8")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    monkeypatch.setattr(environment, "_PROJECT", tmp_path)
    return tmp_path


def test_a_clean_checkout_says_its_commit(checkout):
    found = describe().harness
    assert re.fullmatch(r"[0-9a-f]{40}", found.commit)
    assert not found.dirty
    (checkout / "runs").mkdir()
    (checkout / "runs" / "record.json").write_text("{}", encoding="utf-8")
    assert not describe().harness.dirty  # results lie beside the code and do not change it


@pytest.mark.parametrize("change", ["edited", "added"])
def test_changed_code_is_dirty(checkout, change):
    name = "code.py" if change == "edited" else "new.py"
    (checkout / "harness" / name).write_text("x = 2\n", encoding="utf-8")
    assert describe().harness.dirty


def test_outside_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_PROJECT", tmp_path)
    assert describe().harness.commit == "unknown"
    (tmp_path / ".git").mkdir()  # a broken repository
    assert describe().harness.commit == "unknown"
