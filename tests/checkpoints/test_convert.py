"""Converting what is refused: its code runs where there is no network, and only tensors come out."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.checkpoints.convert import convert, provenance_path
from harness.checkpoints.convert_worker import NOT_ISOLATED, REFUSED, isolate, main
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
with open({str(marker)!r}, "w") as stream:
    stream.write(json.dumps([told, os.getpid(), sorted(os.environ)]))
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
def test_code_in_a_file_cannot_call_home(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    source, out, marker = tmp_path / "evil.pth", tmp_path / "w.safetensors", tmp_path / "executed"
    content = {"state_dict": WEIGHTS, "extra": Malicious(marker, home.port), "epoch": 3}
    torch.save(content, source)
    account = convert(source, out, prefix="net.")
    told, process, environment = json.loads(marker.read_text(encoding="utf-8"))
    assert told == "[Errno 101] Network is unreachable"
    assert home.calls == 0
    assert process != os.getpid()
    assert "HF_TOKEN" not in environment
    tensors = read(out).tensors
    assert sorted(tensors) == ["a.weight", "b.bias"]
    assert torch.equal(tensors["a.weight"], WEIGHTS["net.a.weight"])
    assert tensors["b.bias"].dtype == torch.bfloat16
    assert account == json.loads(provenance_path(out).read_text(encoding="utf-8"))
    assert account["source_sha256"] == file_sha256(source)
    assert account["sha256"] == file_sha256(out)
    assert account["dropped"] == {"epoch": "another top-level entry", "extra": "another top-level entry"}
    assert account["isolated"] is True
    torch.load(source, weights_only=False)  # the call home works: only the isolation kept it from arriving
    assert json.loads(marker.read_text(encoding="utf-8"))[:2] == ["reached", os.getpid()]


def work(folder: Path, key: str | None = None, prefix: str = "", *, trust: bool = True) -> int:
    """Run the worker's part in this process, which cannot be isolated: it holds threads (of torch)."""
    names = {"source": "w.pt", "tensors": "w.safetensors", "report": "report.json"}
    request: dict[str, Any] = {name: str(folder / file) for name, file in names.items()}
    return main({**request, "weights_key": key, "prefix": prefix, "trust": trust})


@pytest.fixture
def threads() -> Iterator[None]:
    """A second thread: a process with more than one cannot leave its user namespace."""
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    yield
    wait.set()
    thread.join()


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")  # of a class made here, in the old format
@pytest.mark.parametrize("zip_format", [True, False])
def test_a_module_whose_code_is_not_installed(
    tmp_path: Path, zip_format: bool, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs: dict[str, Any] = {"__name__": "authors_net", "nn": nn}
    exec("class Net(nn.Module):\n    pass", theirs)
    net = theirs["Net"]()
    net.body = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    net.tied = net.body[0]
    net.register_buffer("scratch", torch.zeros(2), persistent=False)
    expected = net.state_dict()
    module = types.ModuleType("authors_net")
    module.Net = theirs["Net"]  # type: ignore[attr-defined]
    with monkeypatch.context() as installed:
        installed.setitem(sys.modules, "authors_net", module)
        torch.save({"net": net, "lr": 0.1}, tmp_path / "w.pt", _use_new_zipfile_serialization=zip_format)
    assert work(tmp_path) == 0
    tensors = read(tmp_path / "w.safetensors").tensors
    assert sorted(tensors) == sorted(expected)
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report == {
        "weights_key": "net",
        "prefix": "",
        "dropped": {"lr": "another top-level entry"},
        "isolated": False,
    }


def test_where_isolation_is_not_allowed_nothing_is_opened(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or not can_isolate():
        pytest.skip("needs a user namespace in which to forbid further ones")
    source, marker = tmp_path / "evil.pth", tmp_path / "executed"
    torch.save({"state_dict": WEIGHTS, "x": Malicious(marker, 9)}, source)
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "-r", "sh", "-c", forbid, "sh", sys.executable, "-m", "harness", "weights", "convert"]
    given = [*command, str(source), str(tmp_path / "w.safetensors")]
    done = subprocess.run(given, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "was not opened" in done.stderr
    assert "--trust" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pth"]


def test_a_process_with_threads_cannot_be_isolated_and_says_so(
    tmp_path: Path, threads: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OSError, match="unshare"):
        isolate()
    torch.save(WEIGHTS, tmp_path / "w.pt")
    assert work(tmp_path, trust=False) == NOT_ISOLATED
    assert "unshare" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "prefix", "says"),
    [
        (None, "", "entries a, b hold tensors each"),
        ("c", "", "has no entry 'c'; its top level is a, b, lr"),
        ("a", "net.", "the tensor 'w' does not start with the prefix 'net.'"),
        ("lr", "", "holds no tensors there"),
    ],
)
def test_what_does_not_say_which_tensors_are_meant(
    tmp_path: Path, key: str | None, prefix: str, says: str, threads: None, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}, "lr": 1.0}, tmp_path / "w.pt")
    assert work(tmp_path, key, prefix) == REFUSED
    assert says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


@isolated
def test_a_damaged_file_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "w.pt"
    torch.save(WEIGHTS, source)
    source.write_bytes(source.read_bytes()[:300])
    with pytest.raises(UserError, match="ended with code 1"):
        convert(source, tmp_path / "w.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        convert(tmp_path / "absent.pt", tmp_path / "w.safetensors")
    source = tmp_path / "w.pt"
    torch.save(WEIGHTS, source)
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        convert(source, tmp_path / "w.pt")
    with pytest.raises(HarnessError, match="Cannot write to"):
        convert(source, source / "below" / "w.safetensors")
