from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError, UserError
from harness.records.cases import read_cases
from harness.records.store import load, write
from harness.records.verify import verify


def test_writing_the_same_record_again_does_nothing(tools, tmp_path):
    made = tools.make(tmp_path)
    made.write(tmp_path / "record")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "record").iterdir()}
    made.write(tmp_path / "record")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "record").iterdir()} == before


def test_another_record_is_never_written_over(tools, tmp_path):
    tools.make(tmp_path).write(tmp_path / "record")
    before = (tmp_path / "record" / "record.json").read_bytes()
    with pytest.raises(UserError, match="never overwritten"):
        tools.make(tmp_path, seed=1).write(tmp_path / "record")
    assert (tmp_path / "record" / "record.json").read_bytes() == before


@pytest.mark.parametrize("what", ["rows", "loading", "log", "predictions", "packages"])
def test_files_that_the_record_was_not_made_of_are_refused(tools, tmp_path, what):
    made = tools.make(tmp_path)
    rows, loading, predictions, packages = list(made.rows), made.loading, dict(made.predictions), None
    if what == "rows":
        rows[0] = rows[0]._replace(seconds=77.0)
    elif what == "loading":
        loading = {**loading, "floor": 0.5}
    elif what == "log":
        made.log.write_text("{}\n", encoding="utf-8")
    elif what == "predictions":
        predictions["case_00"] = "0" * 64
    else:
        packages = "numpy==1.0\n"
    with pytest.raises(UserError, match="differ from what the record was assembled from"):
        write(tmp_path / "r", made.record, rows, made.config, loading, made.log, predictions, packages=packages)
    assert not (tmp_path / "r").exists()


def test_a_private_path_in_the_log_is_refused_before_anything_is_written(tools, tmp_path):
    leaking = tmp_path / "leaking.jsonl"
    leaking.write_text('{"step": 0, "note": "/home/ada/x"}\n', encoding="utf-8")
    made = tools.make(tmp_path, log_path=leaking)
    with pytest.raises(UserError, match=r"log\.jsonl"):
        made.write(tmp_path / "record")
    assert not (tmp_path / "record").exists()


def test_pictures_are_hashed_into_the_record(tools, tmp_path):
    slices = tmp_path / "record" / "slices"
    slices.mkdir(parents=True)
    (slices / "best.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    from harness.records.pictures import hash_pictures

    made = tools.make(tmp_path, pictures=hash_pictures(slices))
    made.write(tmp_path / "record")
    assert verify(tmp_path / "record").ok
    (slices / "best.png").write_bytes(b"\x89PNG\r\n\x1a\nother")
    assert [finding.field for finding in verify(tmp_path / "record").errors] == ["slices/best.png"]
    (slices / "best.png").unlink()  # withheld, because the terms of the data forbid to pass it on
    assert verify(tmp_path / "record").ok


def test_a_missing_picture_is_refused(tools, tmp_path):
    with pytest.raises(UserError, match=r"best\.png"):
        tools.make(tmp_path, pictures={"best.png": "0" * 64}).write(tmp_path / "record")


def test_the_list_of_packages_is_kept_and_checked(tools, tmp_path):
    from harness.files import sha256_hex

    packages = "numpy==2.2.6\ntorch==2.6.0\n"
    env = tools.environment.env.model_copy(update={"lock_sha256": sha256_hex(packages)})
    environment = type(tools.environment)(
        tools.environment.harness, env, tools.environment.hardware, tools.environment.reasons, packages
    )
    tools.make(tmp_path, environment=environment).write(tmp_path / "record", packages=packages)
    assert verify(tmp_path / "record").ok
    (tmp_path / "record" / "packages.txt").write_text("numpy==1.0\n", encoding="utf-8")
    assert [finding.field for finding in verify(tmp_path / "record").errors] == ["env.lock_sha256"]


def test_a_kill_while_writing_leaves_no_record_and_the_next_try_completes_it(tools, tmp_path):
    made = tools.make(tmp_path)
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "cases.csv").write_text("torn", encoding="utf-8")  # what an earlier, killed attempt left
    with pytest.raises(UserError, match="no record"):
        load(tmp_path / "record")
    made.write(tmp_path / "record")
    assert verify(tmp_path / "record").ok
    assert read_cases(tmp_path / "record" / "cases.csv")


def exit_code_of(work: Callable[[], object], before: Callable[[], object]) -> int:
    """Run ``work`` in a forked process after ``before``: 0 done, 1 the machine's fault, 2 the user's, 3 a bug."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            before()
            work()
            status = 0
        except HarnessError as error:
            status = error.exit_code
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_full_disk_leaves_no_record(tools, tmp_path):
    """A limit of the file size stands for the full disk: the record itself, written last, does not fit."""

    def fill():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3500, 3500))

    made = tools.make(tmp_path)
    assert exit_code_of(lambda: made.write(tmp_path / "record"), fill) == 1
    left = sorted(path.name for path in (tmp_path / "record").iterdir())
    assert "cases.csv" in left
    assert not [name for name in left if name.startswith(".tmp") or name == "record.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="drops root to meet a folder without permission")
@pytest.mark.parametrize("mode", [0o555, 0o700])
def test_no_permission_is_the_machines_fault(tools, mode):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to everybody else
        Path(folder).chmod(0o755)
        made = tools.make(Path(folder) / "made")
        closed = Path(folder) / "closed"
        closed.mkdir(mode=mode)
        assert exit_code_of(lambda: made.write(closed / "record"), lambda: os.setuid(65534)) == 1
        assert list(closed.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "null", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 100_000])
def test_what_is_no_record_is_refused_in_words(tmp_path, text):
    (tmp_path / "record.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError):
        load(tmp_path)


def test_the_record_is_the_one_spelling_of_its_json(run):
    text = (run / "record" / "record.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
