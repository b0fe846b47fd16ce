"""The viewer of volumes: what its page holds, whom it is kept from, and where its library comes from."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import tarfile

import nibabel
import numpy as np
import pytest

from harness.cli import main
from harness.data.reading import read
from harness.errors import HarnessError
from harness.leaderboard import build, niivue
from harness.leaderboard.check import check
from harness.leaderboard.reading import read_run
from harness.leaderboard.render import CSP, VIEWER_CSP
from harness.leaderboard.runpage import write_run_page
from harness.leaderboard.summary import summarise
from harness.leaderboard.viewer import difference
from harness.records.pictures import hash_pictures

PARTS = ("image", "reference", "prediction")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package like NiiVue's, in a cache of its own; the pinned hash is that of this one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("package/dist/niivue.umd.js", "package/package.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    path = niivue.package_path()
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "package", "package")
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(niivue, "_SHA512", digest)
    return path


def volumes_of(script):
    """What a browser would have after a script: part to array and affine."""
    text = script.read_text(encoding="utf-8")
    held = json.loads(text[text.index(' = {"') + 3 :].rstrip(";\n"))
    found = {}
    for part, packed in held.items():
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(packed)))
        found[part] = (np.asarray(image.dataobj), image.affine)
    return found


def test_the_page_holds_what_the_record_holds_and_what_differs(forge, package, tmp_path):
    runs = forge.viewed_runs(tmp_path / "runs")
    out = build([runs], tmp_path / "board", workers=1, viewer=True).parent
    assert check(out) == []
    (page,) = out.glob("runs/*/viewer.html")
    text = page.read_text(encoding="utf-8")
    assert "bundled sample: not a reproduction" in text
    assert VIEWER_CSP.replace("'", "&#39;") in text
    assert 'href="viewer.html"' in (page.parent / "index.html").read_text(encoding="utf-8")
    assert "data:" not in (page.parent / "index.html").read_text(encoding="utf-8")
    scripts = sorted(page.parent.glob("volumes/*.js"))
    assert [script.stem for script in scripts] == ["best_pt_282", "median_pt_332"]
    held = volumes_of(scripts[0])
    for part in PARTS:
        file = read(runs / "viewed" / "record" / "slices" / f"best_pt_282.{part}.nii.gz")
        assert np.array_equal(held[part][0], file.data)
        assert np.allclose(held[part][1], file.grid.matrix, atol=1e-4)
    reference, prediction, differs = (held[part][0] for part in ("reference", "prediction", "difference"))
    assert np.array_equal(differs != 0, reference != prediction)
    assert set(np.unique(differs)) == {0, 1, 2, 3}
    assert (out / "static" / "niivue" / "LICENSE.txt").read_text(encoding="utf-8").count("BSD 2-Clause") == 1
    assert (out / "static" / "niivue" / "niivue.umd.js").is_file()


@pytest.mark.slow
def test_the_same_bytes_twice_and_only_where_it_is_asked_for(forge, package, tmp_path):
    runs = forge.viewed_runs(tmp_path / "runs")
    boards = [tmp_path / "one", tmp_path / "two"]
    for out in boards:
        assert main(["leaderboard", "build", str(runs), "--out", str(out), "--viewer"]) == 0
    assert forge.digest(boards[0]) == forge.digest(boards[1])
    assert list(boards[0].glob("runs/*/viewer.html"))
    assert main(["leaderboard", "build", str(runs), "--out", str(boards[0])]) == 0
    assert not list(boards[0].glob("runs/*/viewer.html"))
    assert not (boards[0] / "static" / "niivue").exists()
    (page,) = boards[0].glob("runs/*/index.html")
    assert "--viewer" in page.read_text(encoding="utf-8")


def page_of(runs, board):
    """The page of the one run, written alone: a whole board has hundreds of others."""
    data = read_run(runs / "viewed" / "record")
    summary = summarise(data, "viewed")
    write_run_page(data, summary, board, {"records": "1 record", "claims": "0 claims"}, viewer=True)
    return board / "runs" / summary.run_id / "index.html"


def test_data_that_may_not_be_passed_on_never_reach_a_viewer(forge, tmp_path):
    def elsewhere(arguments):
        arguments["dataset"] = arguments["dataset"].model_copy(update={"id": "nobody_knows_it"})

    page = page_of(forge.viewed_runs(tmp_path / "runs", change=elsewhere), tmp_path / "board")
    assert sorted(path.name for path in page.parent.iterdir() if path.suffix not in {".json", ".csv", ".txt"}) == [
        "config.yaml", "index.html", "log.jsonl", "slices",
    ]  # fmt: skip
    assert "viewer" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("fault", ["bomb", "no gzip", "other grid", "floats"])
def test_a_strangers_file_that_is_no_such_volume_is_not_passed_on(forge, tmp_path, fault):
    def spoil(arguments):
        slices = tmp_path / "runs" / "viewed" / "record" / "slices"
        path = slices / "best_pt_282.image.nii.gz"
        volume = read(path)
        affine, data = volume.grid.matrix, volume.data
        if fault == "no gzip":
            path.write_bytes(b"<script>alert(1)</script>")
        elif fault == "bomb":
            path.write_bytes(gzip.compress(bytes(64 << 20)))
        else:
            affine[0, 3] += 5.0 if fault == "other grid" else 0.0
            nibabel.save(nibabel.Nifti1Image(data.astype(np.float32 if fault == "floats" else np.uint8), affine), path)
        arguments["pictures"] = hash_pictures(slices)

    page = page_of(forge.viewed_runs(tmp_path / "runs", change=spoil), tmp_path / "board")
    assert [path.stem for path in page.parent.glob("volumes/*")] == ["median_pt_332"]


@pytest.mark.slow
def test_without_the_package_the_board_is_built_and_says_so(forge, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho no network here >&2\nexit 1\n", encoding="utf-8")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")
    out = build([forge.viewed_runs(tmp_path / "runs")], tmp_path / "board", workers=1, viewer=True).parent
    said = capsys.readouterr().err
    assert "built without the viewer" in said
    assert "no network here" in said
    assert not list(out.glob("runs/*/viewer.html"))
    assert check(out) == []


def test_another_package_is_refused_and_deleted(package):
    package.write_bytes(package.read_bytes() + b"x")
    with pytest.raises(HarnessError, match="SHA-512"):
        niivue.fetch()
    assert not package.exists()


def test_the_viewer_may_show_pictures_of_its_script_and_nothing_more():
    assert VIEWER_CSP != CSP
    assert VIEWER_CSP.replace(" data: blob:", "", 1) == CSP


def test_every_kind_of_difference_has_its_number():
    found = difference(np.array([[0, 2], [2, 2]]), np.array([[2, 0], [2, 1]]))
    assert found.tolist() == [[2, 1], [0, 3]]
