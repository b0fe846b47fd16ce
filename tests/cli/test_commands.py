"""The command line as a person meets it: what it prints, what it imports, how it exits."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import COMMANDS, main

HEAVY = ("torch", "monai", "scipy", "pandas", "hydra", "numba", "SimpleITK", "nibabel", "pydantic", "numpy")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *(["list", what] for what in ("models", "datasets", "claims", "protocols"))],
)
def test_help_and_lists_import_nothing_heavy_and_cost_little(arguments: list[str]) -> None:
    code = (
        "import sys; from harness.cli import main; code = main(sys.argv[1:]);"
        f"sys.stderr.write(','.join(name for name in {HEAVY!r} if name in sys.modules)); sys.exit(code)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, encoding="utf-8", check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stderr == ""
    assert done.stdout
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu < 1.0  # the figure asked for (0.15 s when warm) is measured by benchmarks/startup.py on a quiet machine


def test_a_terminal_without_utf8_gets_its_answer() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "harness", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    assert "usage: harness COMMAND ?" in done.stdout


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    assert f"usage: harness {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lst"], "Did you mean 'list'"),
        (["list", "modls"], "invalid choice: 'modls'"),
        (["list"], "required: what"),
        (["run", "model=models_genesis.narow8", "dataset=ct_headneck_oar"], "Did you mean 'models_genesis.narrow8'"),
        (["run", "model=models_genesis.narrow8", "dataset=ct_headnek_oar"], "Did you mean 'ct_headneck_oar'"),
        (["run", "model=models_genesis.narrow8", "dataset=ct_headneck_oar", "protocol=dmo_ct"], "protocol=demo_ct"),
        (["record", "verify", "nowhere"], "There is no folder nowhere"),
        (["record", "show", "nowhere"], "no record"),
        (["weights", "inspect", "nowhere.pt"], "There is no checkpoint file at nowhere.pt"),
        (["list", "models", "--cards", "nowhere"], "There is no folder of cards at nowhere"),
    ],
)
def test_wrong_input_exits_with_2_and_one_paragraph(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("harness: ")
    assert says in error
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in ("lock", "run.json")]


def test_debug_shows_where_it_came_from() -> None:
    with pytest.raises(Exception, match="There is no command"):
        main(["lst", "--debug"])


def test_cfg_prints_the_composed_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--cfg", "model=models_genesis.narrow8", "dataset=ct_headneck_oar", "seed=5"]) == 0
    text = capsys.readouterr().out
    assert "seed: 5" in text
    assert "steps: 550" in text


def test_lists_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "models", "--json"]) == 0
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["models_genesis.chest_ct"]["parameters"] == "19.1 M"


def test_a_checkpoint_is_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"state_dict": {"a.weight": torch.zeros(2, 3)}}, tmp_path / "w.pt")
    assert main(["weights", "inspect", str(tmp_path / "w.pt"), "--key", "state_dict"]) == 0
    assert "a.weight  (2, 3)  float32" in capsys.readouterr().out
