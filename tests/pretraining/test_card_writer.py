"""What was pretrained comes back through the same cards, safe reading and adapter as the authors' file."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import yaml

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.adapters.weights import locate
from harness.cards.library import index, model_card
from harness.checkpoints.hashing import state_sha256
from harness.errors import UserError
from harness.pretraining.card_writer import write_pretrained
from harness.pretraining.recipes import make_task
from harness.pretraining.seen import Seen, contamination, read_seen

DIGESTS = {"a": "a" * 64, "b": "b" * 64, "c": "c" * 64}


@pytest.fixture
def pretrained(volumes, dataset_card, tmp_path):
    """A network trained for two steps, written into tmp_path/out."""
    recipe = {"name": "models_genesis", "cubes": {"size": (16, 16, 16)}, "batch": 2}
    task = make_task(recipe, volumes, ["a", "b"], ["c"], 0)
    base = model_card("models_genesis.narrow8")[0]
    torch.manual_seed(1)
    network = task.network(base, {})
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    for batch in task.batches(0, 2):
        task.loss(network, batch).backward()
        optimizer.step()

    def write(folder=tmp_path / "out", name="mine"):
        return write_pretrained(
            folder,
            base=base,
            name=name,
            task=task,
            network=network,
            optimizer=optimizer.state_dict(),
            steps=2,
            seconds=1.5,
            seen=[Seen(dataset_card, DIGESTS, ("c",))],
        )

    return network, write


def test_round_trip_through_cards_and_adapter(pretrained):
    network, write = pretrained
    folder = write().parent
    card, home = model_card("models_genesis.mine", [folder])
    assert home == folder
    path = locate(card, home)  # verifies bytes and hash
    loaded = build(card, Task("published"), {}, path)
    assert state_sha256(loaded.network.state_dict()) == state_sha256(network.state_dict())
    assert loaded.report.counts == {**dict.fromkeys(loaded.report.counts, 0), "loaded": 106}
    fine_tuning = build(card, Task("segmentation", out_channels=3), {}, path)
    assert fine_tuning.report.counts["fresh"] == 2
    assert fine_tuning.report.encoder.value == 1.0


def test_the_file_has_the_published_layout(pretrained):
    _, write = pretrained
    path = write().with_name("mine.pt")
    assert path.read_bytes()[:2] == b"\x80\x02"  # a pickle stream, not a zip archive
    content = torch.load(path, weights_only=True)
    assert sorted(content) == ["epoch", "optimizer_state_dict", "state_dict"]
    assert content["epoch"] == 2
    assert len(content["state_dict"]) == 106
    assert all(name.startswith("module.") for name in content["state_dict"])
    assert len(content["optimizer_state_dict"]["state"]) == 64  # one momentum buffer per parameter


def test_the_card_tells_where_it_comes_from(pretrained):
    _, write = pretrained
    path = write()
    card = model_card("models_genesis.mine", [path.parent])[0]
    assert card.evidence == ("self_pretrained", "synthetic_data")
    assert card.parameters == 1193761
    assert card.contract.patch == (16, 16, 16)
    assert card.pretraining.datasets == ("blobs",)
    assert card.pretraining.steps == 2
    assert len(card.pretraining.fingerprint) == 64
    assert card.contamination[0].status == "unlabeled_overlap"
    assert card.licence == "CC0-1.0"
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["checkpoint"]["files"][0]["places"] == [
        {"kind": "beside_card", "where": "mine.pt", "official": False}
    ]


def test_contamination_is_found_by_content_under_another_name(pretrained, tmp_path):
    _, write = pretrained
    folder = write().parent
    run = {"x1": "a" * 64, "x2": "d" * 64, "x3": "c" * 64}
    assert contamination(folder, "other", run, ["x1", "x2"]).status == "unlabeled_overlap"
    assert "1 of 2 scored volumes" in contamination(folder, "other", run, ["x1", "x2"]).evidence
    assert contamination(folder, "other", run, ["x2", "x3"]).status == "none"  # c was held out
    assert "x1" in contamination(folder, "other", run, ["x2", "x3"]).evidence
    assert contamination(tmp_path, "other", run, ["x1"]).status == "unknown"
    (folder / "volumes.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="not a list of seen volumes"):
        read_seen(folder)


def test_names_that_cannot_be_used_are_refused_before_anything_is_written(pretrained, tmp_path):
    _, write = pretrained
    for name, complaint in (("Mine!", "lower-case"), ("chest_ct", "already")):
        with pytest.raises(UserError, match=complaint):
            write(name=name)
    assert not (tmp_path / "out").exists()
    assert "models_genesis.narrow8" in index("model")


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    """In a process of its own with a limit on the size of files: writing past it fails as on a full disk."""
    script = f"""
import resource, signal, sys, torch
from pathlib import Path
from harness.errors import HarnessError
from harness.pretraining.card_writer import write_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for legacy in (True, False):
    try:
        write_checkpoint(Path({str(tmp_path)!r}) / "big.pt", {{"x": torch.zeros(1_000_000)}}, legacy)
    except HarnessError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.count("Could not write") == 2, done
    assert list(tmp_path.iterdir()) == []
