"""Serving a board: pages over http, live reload, and nobody else's."""

from __future__ import annotations

import http.client
import shutil
import time
from urllib.parse import urlsplit

import pytest

from harness.errors import HarnessError
from harness.leaderboard.serve import LiveBoard


@pytest.fixture
def live(forge, tmp_path):
    forge.forge(tmp_path / "runs" / "a", draw=False)
    with LiveBoard([tmp_path / "runs"], tmp_path / "board", port=0, every=0.05) as running:
        yield running


def ask(live, path, host="127.0.0.1"):
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(live.address).port, timeout=10)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body.decode("utf-8", "replace"), answer.headers


def test_pages_and_files_are_served(live):
    status, page, headers = ask(live, "/index.html")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert 'src="/static/live.js" data-built="0"' in page
    assert "connect-src &#39;self&#39;" in page
    assert ask(live, "/")[0] == 200
    assert ask(live, "/static/board.css")[0] == 200
    assert ask(live, "/index.html#claims.model=x")[0] == 200


@pytest.mark.parametrize(
    "path", ["/../runs/a/record/record.json", "/%2e%2e/runs/a/run.json", "/static/", "/nowhere.html"]
)
def test_nothing_outside_and_no_listings(live, path):
    assert ask(live, path)[0] == 404


def test_other_host_names_are_refused(live):
    assert ask(live, "/index.html", host="board.evil.example")[0] == 403
    assert ask(live, "/index.html", host=f"localhost:{urlsplit(live.address).port}")[0] == 200


def test_a_new_record_rebuilds_the_board_and_tells_the_page(live, forge, tmp_path):
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(live.address).port, timeout=60)
    connection.request("GET", "/events?0", headers={"Host": "127.0.0.1"})
    stream = connection.getresponse()
    forge.forge(tmp_path / "b", init="scratch", draw=False)
    shutil.move(tmp_path / "b", tmp_path / "runs" / "b")
    line = b""
    while line != b"event: built\n":
        line = stream.readline()
        assert line, "the stream ended without news"
    connection.close()
    assert len(list((tmp_path / "board" / "runs").glob("*/index.html"))) == 2


def test_an_unbuildable_board_leaves_the_old_one_served(live, tmp_path):
    shutil.rmtree(tmp_path / "runs")
    time.sleep(0.5)
    assert ask(live, "/index.html")[0] == 200


def test_a_taken_port_is_an_error_of_the_machine(live, tmp_path):
    with pytest.raises(HarnessError, match="Cannot serve on port"):
        LiveBoard([tmp_path / "runs"], tmp_path / "other", port=urlsplit(live.address).port)
