"""Converting what is refused: its code runs where there is no network, and only tensors come out."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.checkpoints.convert import convert, provenance_path
from harness.checkpoints.convert_worker import NOT_ISOLATED, isolate
from harness.checkpoints.reading import read
from harness.errors import HarnessError, UserError
from harness.files import file_sha256

WEIGHTS = {"net.a.weight": torch.arange(6.0).reshape(2, 3), "net.b.bias": torch.ones(4, dtype=torch.bfloat16)}


def can_isolate() -> bool:
    code = "from harness.checkpoints.convert_worker import isolate; isolate()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


isolated = pytest.mark.skipif(not can_isolate(), reason="this machine allows no user and network namespaces")


class Malicious:
    """Pickles into code that leaves a marker, with what became of its call home."""

    def __init__(self, marker: Path, port: int) -> None:
        self.code = f"""
import json, os, socket
try:
    socket.create_connection(("127.0.0.1", {port}), 5).close()
    told = "reached"
except OSError as error:
    told = str(error)
open({str(marker)!r}, "w").write(json.dumps([told, os.getpid(), sorted(os.environ)]))
"""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (self.code,)


class Home:
    """A server on this machine that counts who calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            connection.close()
            self.calls += 1


@pytest.fixture
def home() -> Iterator[Home]:
    server = Home()
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.socket.shutdown(socket.SHUT_RDWR)
    server.socket.close()
    thread.join()


@isolated
@pytest.mark.parametrize("zip_format", [True, False])
def test_code_in_a_file_cannot_call_home(
    tmp_path: Path, home: Home, zip_format: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    source, out, marker = tmp_path / "evil.pth", tmp_path / "w.safetensors", tmp_path / "executed"
    content = {"state_dict": WEIGHTS, "extra": Malicious(marker, home.port), "epoch": 3}
    torch.save(content, source, _use_new_zipfile_serialization=zip_format)
    account = convert(source, out, prefix="net.")
    told, process, environment = json.loads(marker.read_text())
    assert told == "[Errno 101] Network is unreachable"
    assert home.calls == 0
    assert process != os.getpid()
    assert "HF_TOKEN" not in environment
    tensors = read(out).tensors
    assert sorted(tensors) == ["a.weight", "b.bias"]
    assert torch.equal(tensors["a.weight"], WEIGHTS["net.a.weight"])
    assert tensors["b.bias"].dtype == torch.bfloat16
    assert account == json.loads(provenance_path(out).read_text())
    assert account["source_sha256"] == file_sha256(source)
    assert account["sha256"] == file_sha256(out)
    assert account["dropped"] == {"epoch": "another top-level entry", "extra": "another top-level entry"}
    assert account["isolated"] is True
    if zip_format:  # the call home works: only the isolation kept it from arriving
        torch.load(source, weights_only=False)
        assert json.loads(marker.read_text())[:2] == ["reached", os.getpid()]


@isolated
def test_a_module_whose_code_is_not_installed(tmp_path: Path) -> None:
    folder = tmp_path / "authors"
    folder.mkdir()
    (folder / "authors_net.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))\n        self.tied = self.body[0]\n"
    )
    code = "import sys, torch, authors_net; torch.save({'net': authors_net.Net(), 'lr': 0.1}, sys.argv[1])"
    source, out = tmp_path / "w.pt", tmp_path / "w.safetensors"
    subprocess.run([sys.executable, "-c", code, source], check=True, cwd=folder)
    convert(source, out)
    expected = nn.Sequential(OrderedDict(body=nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))).state_dict()
    names = {*expected, "tied.weight", "tied.bias"}
    assert set(read(out).tensors) == names


def test_where_isolation_is_not_allowed_nothing_is_opened(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or not can_isolate():
        pytest.skip("needs a user namespace in which to forbid further ones")
    source, marker = tmp_path / "evil.pth", tmp_path / "executed"
    torch.save({"state_dict": WEIGHTS, "x": Malicious(marker, 9)}, source)
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "-r", "sh", "-c", forbid, "sh", sys.executable, "-m", "harness", "weights", "convert"]
    given = [*command, str(source), str(tmp_path / "w.safetensors")]
    done = subprocess.run(given, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "was not opened" in done.stderr
    assert "--trust" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pth"]
    trusted = subprocess.run([*given, "--trust"], capture_output=True, text=True, check=False)
    assert trusted.returncode == 0, trusted.stderr
    assert "WITHOUT isolation" in trusted.stdout
    assert marker.exists()


def test_a_process_with_threads_cannot_be_isolated_and_says_so() -> None:
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    try:
        with pytest.raises(OSError, match="unshare"):
            isolate()
    finally:
        wait.set()
        thread.join()
    assert NOT_ISOLATED != 0


@isolated
def test_what_cannot_be_converted_leaves_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "w.pt", tmp_path / "w.safetensors"
    torch.save({"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}, "lr": 1.0}, source)
    with pytest.raises(UserError, match="entries a, b hold tensors each"):
        convert(source, out)
    with pytest.raises(UserError, match="has no entry 'c'; its top level is a, b, lr"):
        convert(source, out, "c")
    with pytest.raises(UserError, match="'w' does not start with the prefix 'net.'"):
        convert(source, out, "a", "net.")
    source.write_bytes(source.read_bytes()[:300])
    with pytest.raises(UserError, match="ended with code 1"):
        convert(source, out, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        convert(tmp_path / "absent.pt", tmp_path / "w.safetensors")
    source = tmp_path / "w.pt"
    torch.save(WEIGHTS, source)
    with pytest.raises(UserError, match="ends in .safetensors"):
        convert(source, tmp_path / "w.pt")
    with pytest.raises(HarnessError, match="Cannot write to"):
        convert(source, source / "below" / "w.safetensors")
