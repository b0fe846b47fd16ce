"""Preparing with real processes that are killed, start together, or may not write."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from harness.data.preprocessing import prepare
from harness.data.settings import IntensityRule, Preprocessing

SETTINGS = Preprocessing(intensity=IntensityRule(rule="window", window=(-1000, 1000), to=(0, 1)))

# What a child process runs: the same call as ours, on the same scans.
CHILD = """
import importlib.util, os, pickle, resource, sys
spec = importlib.util.spec_from_file_location("conftest", {conftest!r})
conftest = importlib.util.module_from_spec(spec)
sys.modules["conftest"] = conftest
spec.loader.exec_module(conftest)
from pathlib import Path
from harness.data.preprocessing import prepare
from harness.data.settings import Preprocessing
from harness.errors import HarnessError
scans = conftest.Scans(Path({scans!r}))
scans.cases = pickle.loads(Path({facts!r}).read_bytes())
settings = Preprocessing.model_validate_json({settings!r})
{before}
print("ready", flush=True)
try:
    prepare(conftest.make_card({{0: "background", 1: "one"}}), scans.cases, scans.cases, settings, Path({root!r}))
except HarnessError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def large_scans(scans):
    rng = np.random.default_rng(0)
    for index in range(12):
        image = rng.integers(-1000, 1000, (64, 64, 64)).astype(np.int16)
        scans.add(f"case{index:02}", image, (image > 900).astype(np.uint8))
    return scans


@pytest.fixture
def start(large_scans, tmp_path, monkeypatch):
    """Start a child that prepares into a folder; ``before`` are statements that it runs first."""
    import pickle

    facts = tmp_path / "facts.pickle"
    conftest = sys.modules[type(large_scans).__module__]
    monkeypatch.setitem(sys.modules, "conftest", conftest)
    monkeypatch.setattr(conftest.Scan, "__module__", "conftest")
    facts.write_bytes(pickle.dumps(large_scans.cases))
    children = []

    def start_child(root, before=""):
        code = CHILD.format(
            conftest=str(Path(__file__).with_name("conftest.py")),
            scans=str(large_scans.folder),
            facts=str(facts),
            settings=SETTINGS.model_dump_json(),
            root=str(root),
            before=before,
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            cwd=Path.cwd(),
        )
        children.append(child)
        return child

    yield start_child
    for child in children:
        child.kill()
        child.communicate()


def files(root):
    """Every file and folder below ``root``; unlike ``rglob``, bears that some vanish while it looks."""
    return [Path(where) / name for where, folders, names in os.walk(root) for name in (*folders, *names)]


def contents(root):
    """Every prepared file by its place under the root, and its bytes."""
    return {path.relative_to(root): path.read_bytes() for path in files(root) if path.suffix in (".npy", ".json")}


def finished(root):
    return [path for path in files(root) if path.name == "spec.json" and ".tmp-" not in str(path)]


def leftovers(root):
    return [path for path in files(root) if path.name.startswith(".tmp-")]


@pytest.fixture
def open_folder():
    """A folder that every user may reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def undisturbed(card_with, large_scans, tmp_path):
    root = tmp_path / "undisturbed"
    prepare(card_with({0: "background", 1: "one"}), large_scans.cases, large_scans.cases, SETTINGS, root)
    return contents(root)


def wait_for(condition, child):
    deadline = time.monotonic() + 60
    while not condition():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def test_a_killed_preparation_goes_on_where_it_was(start, undisturbed, tmp_path):
    root = tmp_path / "cache"
    caught_in_the_act = 0
    for wanted in (1, 5, 9):
        child = start(root)
        wait_for(lambda wanted=wanted: len(finished(root)) >= wanted and leftovers(root), child)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        caught_in_the_act += bool(leftovers(root))
        whole = contents(root)
        kept = {path: bytes_ for path, bytes_ in whole.items() if ".tmp-" not in str(path)}
        assert kept.items() <= undisturbed.items()  # what is there under its final name is whole
        assert len([path for path in kept if path.name == "spec.json"]) >= wanted
    assert caught_in_the_act  # else this test has shown nothing about writes
    before = {path: path.stat().st_mtime_ns for path in root.rglob("image.npy") if ".tmp-" not in str(path)}

    child = start(root)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    assert contents(root) == undisturbed
    assert not leftovers(root)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in root.rglob("image.npy")}.items()


def test_of_two_processes_one_prepares_and_the_other_waits(start, undisturbed, tmp_path):
    root = tmp_path / "cache"
    children = [start(root) for _ in range(2)]
    said = [child.communicate(timeout=120)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    assert sum("Preparing 12 cases" in text for text in said) == 1
    assert sum("Preparing" in text for text in said) == 1
    assert contents(root) == undisturbed


def test_a_process_that_comes_later_waits_and_a_killed_one_holds_nobody_up(start, undisturbed, tmp_path):
    root = tmp_path / "cache"
    home = root / next(iter(undisturbed)).parts[0]
    home.mkdir(parents=True)
    first = start(
        root,
        f"import filelock, time; lock = filelock.FileLock({str(home / '.lock')!r}); lock.acquire(); "
        "print('held', flush=True); time.sleep(600)",
    )
    assert first.stdout.readline() == "held\n"
    second = start(root)
    assert "Another process prepares" in second.stderr.readline()
    assert not finished(root)
    first.kill()
    second.communicate(timeout=120)
    assert second.returncode == 0
    assert contents(root) == undisturbed


def test_a_file_size_limit_leaves_nothing_half_written(start, undisturbed, tmp_path):
    root = tmp_path / "cache"
    child = start(root, "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))")
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 1, errors
    assert "File too large" in output
    assert "then run the same command again" in output
    assert not leftovers(root)
    assert not list(root.rglob("*.npy"))
    child = start(root)
    child.communicate(timeout=120)
    assert child.returncode == 0
    assert contents(root) == undisturbed


def test_a_full_disk_keeps_the_finished_cases_and_leaves_nothing_half_written(start, undisturbed, tmp_path):
    root = tmp_path / "small"
    root.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(root)], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("needs root and the right to mount a small tmpfs; the file-size limit above is tested everywhere")
    try:
        child = start(root)
        output, errors = child.communicate(timeout=120)
        assert child.returncode == 1, errors
        assert "No space left on device" in output
        assert "more than the disk has room for" in errors
        assert not leftovers(root)
        kept = contents(root)
        assert len([path for path in kept if path.name == "spec.json"]) >= 3
        assert kept.items() <= undisturbed.items()
    finally:
        subprocess.run(["umount", str(root)], check=True)


AS_NOBODY = "os.seteuid(65534) if os.geteuid() == 0 else None"


def test_a_folder_that_may_not_be_written_is_an_error_of_the_machine(start, open_folder):
    root = open_folder / "cache"
    root.mkdir()
    root.chmod(0o555)
    child = start(root, AS_NOBODY)
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 1, errors
    assert "Permission denied" in output
    assert not list(root.iterdir())


def test_a_complete_cache_is_read_without_being_written(start, undisturbed, open_folder, tmp_path):
    root = open_folder / "cache"
    shutil.copytree(tmp_path / "undisturbed", root)
    for path in (root, *files(root)):
        path.chmod(0o555 if path.is_dir() else 0o444)
    child = start(root, AS_NOBODY)
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, output + errors
