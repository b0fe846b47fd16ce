"""The ground everything stands on: atomic files, canonical bytes, errors with suggestions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError, UserError, nearest, unknown_name
from harness.files import atomic_path, canonical_json, file_sha256, sha256_hex, write_json, write_text
from harness.resources import shipped


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "x.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    with pytest.raises(RuntimeError, match="half way"):
        stop_half_way(target)
    assert target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["x.nii.gz"]


def stop_half_way(target: Path) -> None:
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("half way")


def test_published_files_follow_the_umask(tmp_path: Path) -> None:
    code = (
        "import os; os.umask(0o027); from pathlib import Path; from harness.files import write_text;"
        f"write_text(Path({str(tmp_path / 'x.txt')!r}), 'a')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "x.txt").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file-size limit stands for a full disk: the write fails in the middle."""
    code = f"""
import resource, signal
from pathlib import Path
from harness.files import write_text
from harness.errors import HarnessError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(Path({str(tmp_path / "big.txt")!r}), "x" * 100_000)
except HarnessError as error:
    print(error.exit_code, error)
"""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8")
    assert result.stdout.startswith("1 Could not write")
    assert "Nothing was left half-written" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop to a user without permission")
def test_no_permission_is_the_machines_fault(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(0o755)
    code = f"""
import os
from pathlib import Path
from harness.files import write_text
from harness.errors import HarnessError
os.setegid(65534); os.seteuid(65534)
try:
    write_text(Path({str(tmp_path / "x.txt")!r}), "x")
except HarnessError as error:
    print(error.exit_code, error)
"""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8")
    assert "1 Could not write" in result.stdout
    assert "Permission denied" in result.stdout


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": [1, None], "a": 0.1}) == '{"a":0.1,"b":[1,null]}\n'
    assert canonical_json({"a": 0.1, "b": [1, None]}) == canonical_json({"b": [1, None], "a": 0.1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_hashes_agree_between_text_bytes_and_file(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "é\n")
    assert file_sha256(tmp_path / "x") == sha256_hex("é\n") == sha256_hex("é\n".encode())
    write_json(tmp_path / "y.json", {"a": 1})
    assert (tmp_path / "y.json").read_text(encoding="utf-8") == '{\n "a": 1\n}\n'


def test_errors_know_their_exit_codes_and_the_nearest_name() -> None:
    assert (HarnessError.exit_code, UserError.exit_code) == (1, 2)
    assert nearest("resnet5", ["resnet50", "unet"]) == "resnet50"
    assert nearest("zzz", ["resnet50"]) is None
    text = str(unknown_name("model", "resnet5", ["resnet50"], "Look."))
    assert text == "There is no model called 'resnet5'. Did you mean 'resnet50'? Known: resnet50. Look."


def test_shipped_data_are_found() -> None:
    assert (shipped("configs") / "run.yaml").is_file()
    assert (shipped("claims") / "reported.json").is_file()
