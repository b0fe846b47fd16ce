"""One pretraining run from start to weights: unlabelled volumes, a pretext task, the shared loop, a checkpoint, a card.

The checkpoint has the published layout, so that the family's adapter loads it like the authors' own file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.adapters.build import Built
from harness.adapters.registry import adapter
from harness.cards.library import dataset_card, model_card
from harness.cards.model import ModelCard
from harness.checkpoints.hashing import state_sha256
from harness.config import PretrainConfig
from harness.data.check import check
from harness.data.contract import meet
from harness.data.layouts import find_cases
from harness.data.preprocessing import prepare
from harness.data.roots import cache_folder, data_root, marked
from harness.errors import unknown_name
from harness.pretraining.card_writer import check_name, write_pretrained
from harness.pretraining.recipes import make_task
from harness.pretraining.seen import Seen
from harness.pretraining.volumes import CachedVolumes
from harness.progress import say
from harness.recording.pretext import PretrainFacts, write_pretrain_record
from harness.records.runfolder import RunFolder, claim_folder
from harness.training.device import Numerics, choose_device, seed_everything, use_determinism
from harness.training.loop import fit

__all__ = ["Pretrained", "pretrain"]


@dataclass(frozen=True)
class Pretrained:
    """What came out.

    Attributes
    ----------
    model : str
        Id of the new weight set.
    card : Path
        Its card; the folder it lies in is what ``--cards`` takes.
    record : Path
        Folder of the record.
    """

    model: str
    card: Path
    record: Path


def pretrain(config: PretrainConfig) -> Pretrained:
    """Execute one pretraining run, or go on where a killed one stopped.

    Raises
    ------
    UserError
        A card, the data or a setting is wrong.
    HarnessError
        The machine is at fault, another process holds the run, or it diverged.
    """
    base, _ = model_card(config.model, config.cards)
    made = check_name(base, config.name)
    with claim_folder(config.out / config.cell) as folder:
        weights = folder.path / "weights"
        if folder.is_complete and (weights / "card.yaml").is_file():
            say(f"already complete: {weights}")
            return Pretrained(made, weights / "card.yaml", folder.record)
        with folder.at_work():
            _execute(config, base, folder, weights)
        return Pretrained(made, weights / "card.yaml", folder.record)


def _execute(config: PretrainConfig, base: ModelCard, folder: RunFolder, weights: Path) -> None:
    workers = config.executor.workers
    data, data_folder = dataset_card(config.dataset, config.cards)
    root = data_root(data, data_folder, config.data_root)
    data, cases = marked(data, root), find_cases(data, root)
    for case in config.held_out:
        if case not in cases:
            raise unknown_name(f"case of {data.id}", case, cases, "held_out names the volumes to measure on.")
    report = check(data, cases, workers=workers, cache=cache_folder(config.cache))
    report.refuse()
    meeting = meet(base.contract, data, config.input)
    begin = time.perf_counter()
    cache = prepare(data, cases, report.facts, meeting.preprocessing, cache_folder(config.cache), workers=workers)
    prepare_seconds = time.perf_counter() - begin

    device = choose_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    use_determinism(config.training.deterministic, device)
    seeds = seed_everything(config.seed)
    train = sorted(set(cases) - set(config.held_out))
    task = make_task(config.recipe, CachedVolumes(cache, cases), train, config.held_out, config.seed)
    task.workers = workers
    network = task.network(base, config.network)
    start_hash = state_sha256(network.state_dict())
    numerics = Numerics(config.training, device)
    outcome = fit(network, task, config.training, folder.checkpoints, folder.log, numerics)

    begin = time.perf_counter()
    scores = task.evaluate(network, device)
    evaluate_seconds = time.perf_counter() - begin
    images = {case: found.image_sha256 for case, found in report.facts.items()}
    write_pretrained(
        weights,
        base=base,
        name=config.name,
        task=task,
        network=network,
        optimizer=None,
        steps=outcome.steps,
        seconds=outcome.seconds["train"],
        seen=[Seen(data, images, config.held_out)],
    )
    facts = PretrainFacts(
        config=config,
        model=base,
        data=data,
        meeting=meeting,
        report=report,
        built=Built(network, adapter(base.adapter).version, start_hash, None),
        task=task,
        outcome=outcome,
        scores=scores,
        seeds=seeds,
        device=device,
        prepare_seconds=prepare_seconds,
        evaluate_seconds=evaluate_seconds,
    )
    write_pretrain_record(folder, facts)
