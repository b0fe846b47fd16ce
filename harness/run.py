"""One cell from start to record. The only place that sees the whole line; it reads top to bottom like the picture.

model card ─► weights ─► adapter ─► network ┐
                                            ├─► training ─► inference ─► scoring ─► record
data card ─► check ─► split ─► preprocess ──┘
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.adapters.weights import locate
from harness.cards.library import dataset_card, model_card
from harness.config import RunConfig
from harness.data.check import check
from harness.data.contract import meet, padded
from harness.data.layouts import find_cases
from harness.data.patches import PatchSource
from harness.data.placement import placed
from harness.data.preprocessing import prepare
from harness.data.roots import cache_folder, data_root, marked
from harness.data.splits import resolve
from harness.progress import say
from harness.recording.fine_tune import Facts, write_record
from harness.records.runfolder import RunFolder, claim_folder
from harness.training.device import Numerics, choose_device, seed_everything, use_determinism
from harness.training.distributed import World, join
from harness.training.evaluation import Evaluator, predict_and_score
from harness.training.loop import fit
from harness.training.objective import SegmentationLoss
from harness.training.regions import Regions
from harness.training.released import as_released
from harness.training.segmentation import SegmentationTask

__all__ = ["run"]


def run(config: RunConfig) -> Path:
    """Execute one cell, or go on where a killed one stopped; return the folder of its record.

    Parameters
    ----------
    config : RunConfig
        The cell, and where to run it.

    Raises
    ------
    UserError
        A card, the data, the weights or a setting is wrong. Nothing is half-written.
    HarnessError
        The machine is at fault, another process holds the run, or it diverged.
    """
    config.protocol.refuse()
    with join(config.device) as world, claim_folder(config.out / config.cell, follow=not world.is_main) as folder:
        if world.agree(folder.is_complete):
            say(f"already complete: {folder.record}")
            return folder.record
        with folder.at_work():
            return _execute(config, folder, world)


def _execute(config: RunConfig, folder: RunFolder, world: World) -> Path:
    protocol, workers = config.protocol, config.executor.workers
    model, model_folder = model_card(config.model, config.cards)
    data, data_folder = dataset_card(config.dataset, config.cards)
    meeting = meet(model.contract, data, protocol.input)
    with world.main_first():
        weights = locate(model, model_folder, config.weights) if config.init != "scratch" else None

    root = data_root(data, data_folder, config.data_root)
    data, cases = marked(data, root), find_cases(data, root)
    split = resolve(data, config.split, config.fold, config.label_fraction, config.subset_seed, ids=cases)
    released = config.init == "released"  # scored as it is: nothing is trained, and no training case is touched
    needed = sorted({*split.scored} if released else {*split.train, *split.val, *split.scored})
    with world.main_first():
        report = check(data, cases, needed=needed, workers=workers, cache=cache_folder(config.cache))
        report.refuse()
        used = {case: cases[case] for case in needed}
        rules = [*meeting.rules, *placed(used, allow=protocol.input.allow_unplaced)]
        begin = time.perf_counter()
        cache = prepare(data, used, report.facts, meeting.preprocessing, cache_folder(config.cache), workers=workers)
        prepare_seconds = time.perf_counter() - begin

    rules += padded({case: cache.case(case).image.shape[1:] for case in needed}, protocol.patches.size)
    for rule in rules if world.is_main else ():
        say(rule)

    device = choose_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    use_determinism(protocol.training.deterministic, device)
    seeds = seed_everything(config.seed)
    regions = Regions.of(data.classes, cache.label_values) if protocol.inference.activation == "sigmoid" else None
    outputs = len(regions.members) if regions else len(data.labels)
    task = Task("published" if released else "segmentation", len(data.channels), outputs, protocol.patches.size)
    built = build(model, task, protocol.network.get(model.adapter, {}), weights, answer=True)

    evaluator = Evaluator(cache, cases, data.classes, protocol.patches.size, protocol.inference, device)
    numerics = Numerics(protocol.training, device)
    if released:
        outcome = as_released(built.network, numerics)
    else:
        patches = PatchSource(cache, split.train, protocol.patches, protocol.augmentation, config.seed)
        objective = SegmentationLoss(protocol.training.loss, protocol.inference.activation)
        trainable = SegmentationTask(
            patches, objective, lambda network: evaluator.mean_dice(network, split.val), workers, regions
        )
        outcome = fit(
            built.network,
            trainable,
            protocol.training,
            folder.checkpoints,
            folder.log,
            numerics,
            built.parts,
            profile=config.profile,
        )

    sums = folder.sums if protocol.scoring.sums else None
    scored = predict_and_score(
        evaluator, built.network, split.scored, protocol.scoring.metrics, folder.predictions, sums
    )
    if not world.is_main:
        return folder.record
    facts = Facts(
        config=config,
        model=model,
        model_folder=model_folder,
        data=data,
        weights=weights,
        meeting=replace(meeting, rules=tuple(rules)),
        split=split,
        cases=cases,
        report=report,
        built=built,
        outcome=outcome,
        scored=scored,
        seeds=seeds,
        device=device,
        prepare_seconds=prepare_seconds,
    )
    return write_record(folder, facts)
