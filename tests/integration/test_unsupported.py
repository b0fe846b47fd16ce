"""A model that is only listed is refused by every command that would work with it, before any data are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main

LISTED = "models_genesis.chest_ct_2d"
RUN = ["init=scratch", "data_root=absent"]


@pytest.mark.parametrize(
    "command",
    [
        ["run", f"model={LISTED}", "dataset=ct_headneck_oar", *RUN],
        ["plan", f"model={LISTED}", "dataset=ct_headneck_oar", *RUN],
        ["sweep", f"model=models_genesis.narrow8,{LISTED}", "dataset=ct_headneck_oar", *RUN],
        ["reproduce", "r104", f"model={LISTED}"],
        ["data", "prepare", "ct_headneck_oar", f"model={LISTED}", *RUN],
        ["pretrain", f"model={LISTED}", "dataset=ct_headneck_oar", "name=mine", "data_root=absent"],
    ],
    ids=lambda command: "-".join(command[: 1 + (command[0] == "data")]),
)
def test_a_listed_model_is_refused_first(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    said = capsys.readouterr().err
    assert f"{LISTED} is listed, not supported: it is two-dimensional" in said
    assert "Use models_genesis.chest_ct." in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
