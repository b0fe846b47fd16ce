"""What scoring imports, and that compiled kernels survive where nothing can be written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent.parent
TINY = """
import numpy as np
from harness.scoring import score
a = np.zeros((6, 6, 6), np.uint8); a[1:4, 1:4, 1:4] = 1; b = np.roll(a, 1, 0)
rows = score(a, b, (1, 1, 1), {"a": [1]}, ["dice", "hd95", "nsd@1"])
assert rows[0]["value"] == 2 / 3, rows
"""


def run(code, root=ROOT, **environment):
    # Isolated from the caller's site settings; only the package under test is put on the path.
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=240,
    )


def imported(code):
    found = run(code + "\nimport json, sys; print(json.dumps(sorted(sys.modules)))")
    assert found.returncode == 0, found.stderr
    return set(json.loads(found.stdout.splitlines()[-1]))


def test_importing_costs_no_compiler_and_no_scipy():
    modules = imported("import harness.scoring, harness.scoring.summary, harness.scoring.verdict, harness.scoring.soft")
    assert "numpy" in modules
    assert not modules & {"numba", "scipy", "torch", "monai", "pandas", "nibabel"}


def test_scoring_needs_neither_torch_nor_monai():
    modules = imported(TINY)
    assert "numba" in modules
    assert not modules & {"torch", "monai", "pandas", "scipy.spatial", "scipy.stats", "scipy.ndimage"}


@pytest.mark.skipif(os.name != "posix", reason="permissions are set the POSIX way")
def test_read_only_installation(tmp_path):
    """Kernels compile without a cache where neither the package, nor the home folder, nor any other may be written."""
    root = tmp_path / "site"
    shutil.copytree(
        ROOT / "harness" / "scoring", root / "harness" / "scoring", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("__init__.py", "errors.py", "files.py", "machine.py"):
        shutil.copy(ROOT / "harness" / name, root / "harness" / name)
    home = tmp_path / "home"
    home.mkdir()
    # A file in place of each cache folder stops root as well as anybody else.
    (root / "harness" / "scoring" / "__pycache__").write_text("", encoding="utf-8")
    (home / ".cache").write_text("", encoding="utf-8")
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "NUMBA_CACHE_DIR": ""}
    found = run(
        "import numpy as np; from harness.scoring.tree import z_order\n"
        "print(z_order(np.array([[1, 0, 0], [0, 1, 1]], np.int32)).tolist())",
        root,
        **environment,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "[1, 6]"
    assert not list(root.rglob("*.nbi"))
