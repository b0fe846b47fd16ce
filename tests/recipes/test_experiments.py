"""Every experiment composes, names what exists, and runs two steps on volumes made up in the layout of its data set."""

from __future__ import annotations

import functools
import itertools
import json
import socket
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from harness.cards.dataset import ids_sha256
from harness.cards.library import claims, dataset_card, index, model_card
from harness.config import RunConfig, compose, parse_run, run_config
from harness.data.synthesis.official import RECIPES
from harness.data.synthesis.writing import synthesize
from harness.data.synthetic import write
from harness.resources import shipped
from harness.sweep import expand
from harness.sweep.cells import card_of

FILES = sorted((shipped("configs") / "experiment").glob("*.yaml"))
NAMES = [path.stem for path in FILES]
STARTS = get_args(RunConfig.model_fields["init"].annotation)
RELEASED_OR_RULES = ("released", "other")  # nothing is trained, so there is neither a twin nor a second seed


@functools.cache
def config(name: str) -> RunConfig:
    content = compose("run", [f"experiment={name}"])
    start = content["init"] if content["init"] in STARTS else "pretrained"
    return parse_run({**content, "init": start})


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_composes_and_names_what_exists(name: str) -> None:
    found = config(name)
    assert found.registered is not None
    assert found.registered.id == name
    assert found.registered.title
    assert found.registered.note
    card, _ = dataset_card(found.dataset)
    assert found.split in {split.id for split in card.splits}
    assert (found.model in index("model")) != (found.registered.made_here is not None)
    by_id = {claim.id: claim for claim in claims().results}
    for claim in found.registered.claims:
        assert name in by_id[claim].about.experiments
        assert by_id[claim].about.protocol == found.protocol.name
    content = yaml.safe_load((shipped("configs") / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))
    released = content.get("init") == "released"
    assert (found.registered.margin == 0.001) == released
    if released and name.startswith("brats21"):
        assert found.model.endswith(f"fold{found.fold}")  # the weights of another fold have seen these cases


def test_every_experiment_that_the_ledger_names_attempts_the_claim() -> None:
    for claim in claims().results:
        for name in claim.about.experiments:
            registered = config(name).registered
            assert registered is not None
            assert claim.card == config(name).dataset, (claim.id, name)


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_becomes_cells_with_their_twins(name: str) -> None:
    cells = [cell.config for cell in expand([f"experiment={name}"])]
    assert all(cell.registered == config(name).registered for cell in cells)
    if config(name).init in RELEASED_OR_RULES:
        assert {cell.init for cell in cells} == {config(name).init}
        return
    assert len({cell.seed for cell in cells}) >= 3
    keys: dict[str, list[str]] = {}
    for cell in cells:
        same = cell.model_copy(update={"init": "scratch"}).sha256
        keys.setdefault(same, []).append(cell.init)
    assert {tuple(sorted(starts)) for starts in keys.values()} <= {("pretrained", "scratch"), ("scratch",)}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_is_planned_offline_and_says_what_is_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.plan import plan

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a plan asked the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    cells = expand([f"experiment={name}", f"out='{tmp_path}'"])
    made = plan(cells)
    assert len(made.cells) == len(cells)
    assert not list(tmp_path.iterdir())
    missing = "\n".join(made.missing)
    used = {cell.config.dataset for cell in cells}
    for dataset in used:
        card, _ = dataset_card(dataset)
        said = f"data {dataset} is not here: harness data add {dataset} FOLDER"
        assert (said in missing) != card.bundled
    wanted = {cell.config.model for cell in cells if cell.config.init in ("pretrained", "released")}
    for model in wanted:
        how = "harness pretrain" if config(name).registered.made_here else f"harness weights fetch {model}"
        assert f"weights {model} is not here: {how}" in missing
    assert len([line for line in made.missing if " is not here: " in line]) == len(wanted) + sum(
        not dataset_card(dataset)[0].bundled for dataset in used
    )
    for recipe in made.recipes:
        assert (recipe.footprint is None) == model_card_of_rule(recipe.model), recipe.problem


def model_card_of_rule(name: str) -> bool:
    return name.startswith("baseline.") and model_card(name)[0].rule is not None


def test_few_shots_are_two_five_and_fourteen_patients() -> None:
    from harness.data.splits import resolve

    card, _ = dataset_card("ct_headneck_oar")
    shares = {cell.config.label_fraction for cell in expand(["experiment=fewshot_headneck"])}
    assert sorted(len(resolve(card, None, 0, share).train) for share in shares) == [2, 5, 14]


def test_the_roles_of_the_hippocampus_are_those_of_a_hash() -> None:
    from harness.files import sha256_hex

    card, _ = dataset_card("msd_task04_hippocampus")
    split = next(split for split in card.splits if split.id == "hippocampus-208-roles")
    known = next(split for split in card.splits if split.id == "msd-hippocampus-voco-208-52")
    order = sorted(known.parts["train"], key=lambda case: sha256_hex(f"msd_task04_hippocampus/{case}"))
    assert split.parts == {
        "train": tuple(sorted(order[:140])),
        "val": tuple(sorted(order[140:168])),
        "test": tuple(sorted(order[168:])),
    }


NARROW = {
    "models_genesis": ("models_genesis.narrow8", (16, 16, 16)),
    "models_genesis_nnunet": ("nnunet_small.test", (32, 64, 64)),
    "pctnet": ("mis_fm.pctnet_narrow8", (32, 64, 64)),
    "fmunet": ("mis_fm.fmunet_narrow8", (16, 32, 32)),
    "med3d": ("med3d.resnet10_narrow8", (16, 16, 16)),
    "brainsegfounder": ("brainsegfounder.ssl_narrow12", (64, 32, 32)),
    "baseline": ("baseline.unet_small", (16, 16, 16)),
}


@functools.cache
def twin_of(dataset: str, folder: Path) -> str:
    """Write a card of few made-up cases with the labels, channels, layout and splits of a data set; return its id."""
    card, home = dataset_card(dataset)
    name = f"{dataset}_twin"
    if card.id not in RECIPES:
        write(folder / name, cases=5, channels=len(card.channels), name=name)
        splits = yaml.safe_load((folder / name / "splits.yaml").read_text(encoding="utf-8"))
        (folder / name / "splits.yaml").write_text(
            yaml.safe_dump([{**splits[0], "id": split.id} for split in card.splits]), encoding="utf-8"
        )
        return name
    content = yaml.safe_load((home / "card.yaml").read_text(encoding="utf-8")) | {"id": name}
    known = sorted({case for split in card.splits for ids in split.parts.values() for case in ids})
    ids = known or [f"{number:03d}" for number in range(1, 6)]
    sizes = [{part: 2 if part == "train" else 1 for part in split.parts} for split in card.splits]
    written = synthesize(dataset, folder / name / "data", ids=ids, cases=max(5, *(sum(one.values()) for one in sizes)))
    splits = []
    for split, size in zip(card.splits, sizes, strict=True):
        left = iter(written)
        parts = {part: tuple(itertools.islice(left, number)) for part, number in size.items()}
        hashes = {part: ids_sha256(ids) for part, ids in parts.items()}
        splits.append({**split.model_dump(mode="json"), "parts": parts, "sha256": hashes})
    (folder / name / "card.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    plain = json.loads(json.dumps([{k: v for k, v in split.items() if v not in (None, {}, ())} for split in splits]))
    (folder / name / "splits.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    return name


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins")
    content: dict[str, Any] = yaml.safe_load(
        (shipped("model_cards") / "models_genesis.nnunet_luna16.yaml").read_text(encoding="utf-8")
    )
    content |= {"id": "nnunet_small.test", "checkpoint": None, "aliases": [], "parameters": None}
    content["architecture"] |= {"base_features": 4}
    (folder / "nnunet_small.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_runs_two_steps_on_its_synthetic_twin(name: str, twins: Path, tmp_path: Path) -> None:
    from harness.records.verify import verify
    from harness.run import run

    asked = config(name)
    card, _ = card_of(asked)
    kind = str(card.architecture["network"]) if card.adapter == "mis_fm" else card.adapter
    model, patch = NARROW[kind]
    if card.rule:
        model = asked.model
    dataset = twin_of(asked.dataset, twins)
    data = twins / dataset / "data"
    metrics = [metric for metric in asked.protocol.scoring.metrics if metric in ("dice", "soft_dice", "iou_genesis")]
    overrides = {
        "model": model,
        "dataset": dataset,
        "init": "other" if card.rule else "scratch",
        "label_fraction": 1.0,
        "cards": f"['{twins}']",
        "data_root": f"'{data if data.is_dir() else twins / dataset}'",
        "cache": f"'{twins / 'cache'}'",
        "out": f"'{tmp_path / 'runs'}'",
        "executor.workers": 0,
        "protocol.patches.size": list(patch),
        "protocol.patches.batch": 2,
        "protocol.inference.patch": list(patch),
        "protocol.inference.overlap": 0.0,
        "protocol.inference.tta": "none",
        "protocol.training.steps": 2,
        "protocol.training.selection.every": 2,
        "protocol.input.allow_modality_mismatch": "true",
        "protocol.scoring.metrics": metrics,
    }
    if kind == "brainsegfounder":  # the slowest by far: fewer windows
        overrides["protocol.input.spacing"] = "native"
    folder = run(run_config([f"experiment={name}", *(f"{key}={value}" for key, value in overrides.items())]))
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert record["protocol"]["steps"] == (0 if card.rule else 2)
    assert record["protocol"]["id"] == asked.protocol.name
    assert record["division"] == "open"
    assert record["evidence"] == ["synthetic_data"]
    assert record["experiment"]["id"] == name
    assert record["experiment"]["margin"] == asked.registered.margin
    verdict = verify(folder, cards=[twins], data_root=data if data.is_dir() else twins / dataset)
    assert verdict.ok, verdict.errors
