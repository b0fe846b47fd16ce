"""A real headless Chromium (Debian's ``chromium`` and ``chromium-driver``), and boards to look at with it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib.util
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from harness.errors import HarnessError
from harness.leaderboard import build, niivue

AXE = "axe-core@4.10.3"
_PATIENCE = 270
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


class Browser:
    """Chromium with a few words for what the tests do with it."""

    def __init__(self, profile: Path, *flags: str) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*(flags or FLAGS), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.look(1280, 900)

    def look(self, width: int, height: int, scheme: str = "light", medium: str = "screen") -> None:
        """Set the size of the window, the colour scheme and the medium."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": features})

    def allow_scripts(self, *, allowed: bool) -> None:
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not allowed})

    def open(self, address: str) -> None:
        """Open a page afresh, even where only its fragment differs from the last one."""
        self.driver.get("about:blank")
        self.driver.get(address)

    def js(self, code: str, *arguments: object) -> object:
        return self.driver.execute_script(code, *arguments)

    def find(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str):
        return self.driver.find_elements("css selector", selector)

    def messages(self) -> list[str]:
        """Everything the console said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Every address that was asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if url != "about:blank"]

    def shown(self, selector: str) -> list[str]:
        """Return the text of every visible element."""
        code = (
            "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility()).map(e => e.innerText)"
        )
        return self.js(code, selector)  # type: ignore[return-value]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="session")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that has WebGL, drawn by the processor; slower, so only for what needs it."""
    drawn = ("--enable-unsafe-swiftshader", "--use-angle=swiftshader")
    flags = (*(flag for flag in FLAGS if flag != "--disable-gpu"), *drawn)
    browser = Browser(tmp_path_factory.mktemp("painter"), *flags)
    # The page draws before it counts as loaded, and a busy processor takes its time over that.
    browser.driver.set_script_timeout(_PATIENCE)
    browser.driver.set_page_load_timeout(_PATIENCE)
    browser.driver.command_executor.client_config.timeout = _PATIENCE + 10
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="session")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser without WebGL."""
    browser = Browser(tmp_path_factory.mktemp("flat"), *FLAGS, "--disable-3d-apis")
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    chromium.look(1280, 900)
    chromium.allow_scripts(allowed=True)
    chromium.messages()
    chromium.requests()
    return chromium


@pytest.fixture(scope="session")
def forge() -> ModuleType:
    path = Path(__file__).parent.parent / "leaderboard" / "forge.py"
    spec = importlib.util.spec_from_file_location("browser_forge", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def board(forge: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("board")
    return build([forge.demo_runs(top / "runs")], top / "board").parent


@pytest.fixture(scope="session")
def attacked(forge: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("attacked")
    return build([forge.attack_runs(top / "runs")], top / "board").parent


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; yields its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def over_http(board: Path) -> Iterator[str]:
    with serving(board) as address:
        yield address


@pytest.fixture(scope="session")
def viewed(forge: ModuleType, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """A board with the real viewer; the package is fetched once into pytest's cache."""
    top = tmp_path_factory.mktemp("viewed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(pytestconfig.cache.mkdir("viewer")))
        try:
            niivue.fetch()
        except HarnessError as error:
            if "viewer" in os.environ.get("HARNESS_REQUIRE", "").split(","):
                pytest.fail(f"the viewer is required by HARNESS_REQUIRE, but {error}")
            pytest.skip(str(error))
        return build([forge.viewed_runs(top / "runs")], top / "board", viewer=True).parent


@pytest.fixture(scope="session")
def viewed_over_http(viewed: Path) -> Iterator[str]:
    with serving(viewed) as address:
        yield address


@pytest.fixture(params=["file", "http"])
def viewed_root(request: pytest.FixtureRequest, viewed: Path) -> str:
    """The address of that board, once from its folder and once from a server."""
    return viewed.as_uri() if request.param == "file" else request.getfixturevalue("viewed_over_http")


@pytest.fixture(scope="session", params=["file", "http"])
def root(request: pytest.FixtureRequest, board: Path) -> str:
    """The address of the board, once from its folder and once from a server."""
    return board.as_uri() if request.param == "file" else request.getfixturevalue("over_http")


@pytest.fixture(scope="session")
def pages(board: Path) -> list[str]:
    """One page of each kind, relative to the board."""
    run = next(p for p in sorted(board.glob("runs/*/index.html")) if (p.parent / "slices").is_dir())
    failed = next(p for p in sorted(board.glob("runs/*/index.html")) if not (p.parent / "slices").is_dir())
    cell = next(board.glob("cells/*.html"))
    of_runs = next(board.glob("datasets/head_and_neck*.html"))
    return [
        "index.html", "runs.html", "claims/r001.html", "models/index.html", "models/models_genesis.html",
        "datasets/index.html", "datasets/ct_headneck_oar.html", "metrics.html", "plots.html", "method.html",
        run.relative_to(board).as_posix(), cell.relative_to(board).as_posix(), failed.relative_to(board).as_posix(),
        of_runs.relative_to(board).as_posix(),
    ]  # fmt: skip


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """The source of axe-core, fetched once by npm into pytest's cache."""
    home = Path(pytestconfig.cache.mkdir("axe"))
    source = home / "node_modules" / "axe-core" / "axe.min.js"
    if not source.is_file():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed")
        command = ["npm", "install", "--prefix", str(home), "--ignore-scripts", "--no-audit", "--no-fund", AXE]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"npm could not fetch {AXE}: {done.stderr[-200:]}")
    return source.read_text(encoding="utf-8")
