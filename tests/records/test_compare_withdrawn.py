"""``harness compare`` over a folder with objections: what was withdrawn is named and counts nowhere."""

from __future__ import annotations

import json

from harness.cards.library import claims
from harness.cli import main
from harness.records.objections import Objection, object_to


def test_a_withdrawn_record_is_named_and_speaks_to_no_claim(tools, tmp_path, capsys) -> None:
    claim = next(row for row in claims().results if row.id == "r062")
    family, variant = claim.about.models[0].split(".")
    made = {}
    for seed in (0, 1):
        parts = tools.parts("pretrained", seed)
        over = {
            "evidence": (),
            "model": parts["model"].model_copy(update={"id": family, "variant": variant}),
            "dataset": parts["dataset"].model_copy(update={"id": claim.card}),
            "config_yaml": "{}\n",
        }
        run = tools.make(tmp_path / "files" / str(seed), "pretrained", seed=seed, **over)
        run.write(tmp_path / "runs" / str(seed) / "record")
        made[seed] = run.record.run_id

    def answer() -> tuple[set[str], str]:
        assert main(["compare", claim.id, "--json", "--runs", str(tmp_path / "runs")]) == 0
        found = capsys.readouterr()
        return set(json.loads(found.out)["comparison"]["run_ids"]), found.err

    assert answer() == (set(made.values()), "")
    said = Objection(
        id="mine", run_id=made[0], field="record", state="confirmed", outcome="withdrawn", by="me", date="2026-08-01",
        text="the window was wrong",
    )  # fmt: skip
    object_to(tmp_path / "runs", said)
    assert answer() == ({made[1]}, f"left out: {made[0]}: withdrawn\n")
