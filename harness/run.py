"""One cell from start to record. The only place that sees the whole line; it reads top to bottom like the picture.

model card ─► weights ─► adapter ─► network ┐
                                            ├─► training ─► inference ─► scoring ─► record
data card ─► check ─► split ─► preprocess ──┘
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.adapters.weights import locate
from harness.cards.library import dataset_card, model_card
from harness.config import RunConfig
from harness.data.contract import meet
from harness.data.opening import Division, open_cell
from harness.data.patches import PatchSource
from harness.data.roots import cache_folder
from harness.errors import UserError
from harness.progress import say
from harness.recording.fine_tune import Facts, write_record
from harness.records.runfolder import RunFolder, claim_folder
from harness.training.device import Numerics, set_up
from harness.training.distributed import World, join
from harness.training.evaluation import Evaluator, predict_and_score
from harness.training.loop import fit
from harness.training.objective import SegmentationLoss
from harness.training.regions import Regions
from harness.training.released import as_released
from harness.training.segmentation import SegmentationTask
from harness.training.zero_training import RuleEvaluator, look

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
    model_card(config.model, config.cards)[0].refuse_unsupported()
    with join(config.device) as world, claim_folder(config.out / config.cell, follow=not world.is_main) as folder:
        if world.agree(folder.is_complete):
            say(f"already complete: {folder.record}")
            return folder.record
        with folder.at_work():
            return _execute(config, folder, world)


def _execute(config: RunConfig, folder: RunFolder, world: World) -> Path:
    protocol, workers = config.protocol, config.executor.workers
    released = config.init == "released"  # scored as it is: nothing is trained, and no training case is touched
    model, model_folder = model_card(config.model, config.cards)
    model.refuse_start(config.init)
    card, card_folder = dataset_card(config.dataset, config.cards)
    meeting = meet(model.contract, card, protocol.input)
    with world.main_first():
        weights = locate(model, model_folder, config.weights) if config.init in ("pretrained", "released") else None
        data = open_cell(
            card,
            card_folder,
            meeting,
            protocol.input,
            Division(config.split, config.fold, config.label_fraction, config.subset_seed),
            (1, 1, 1) if model.rule else protocol.patches.size,  # a rule sees whole scans and pads nothing
            scored_only=released,
            root=config.data_root,
            cache=cache_folder(config.cache),
            workers=workers,
        )
    if protocol.training.selection.rule == "best_val" and not (data.split.val or released or model.rule):
        raise UserError(
            f"selection.rule is best_val, and the split {data.split.id} has no validation cases to choose by. Use "
            "protocol.training.selection.rule=last, or a split with a val part."
        )
    for rule in data.rules if world.is_main else ():
        say(rule)

    device, seeds = set_up(config.device, config.threads, protocol.training.deterministic, config.seed)
    classes, sigmoid = data.card.classes, protocol.inference.activation == "sigmoid"
    regions = Regions.of(classes, data.cache.label_values) if sigmoid else None
    outputs = len(regions.members) if regions else len(data.card.labels)
    task = Task("published" if released else "segmentation", len(data.card.channels), outputs, protocol.patches.size)
    if model.rule:  # no network: the training cases are looked at once
        built, outcome = look(model.rule, data.cache, data.split.train)
    else:
        built = build(model, task, protocol.network.get(model.adapter, {}), weights, answer=True)

    numerics = Numerics(protocol.training, device)
    judge = RuleEvaluator if model.rule else Evaluator
    evaluator = judge(data.cache, data.cases, classes, protocol.patches.size, protocol.inference, device)
    if released:
        outcome = as_released(built.network, numerics)
    elif not model.rule:
        patches = PatchSource(data.cache, data.split.train, protocol.patches, protocol.augmentation, config.seed)
        objective = SegmentationLoss(protocol.training.loss, protocol.inference.activation)
        validate = partial(evaluator.mean_dice, cases=data.split.val)
        trainable = SegmentationTask(patches, objective, validate, workers, regions)
        places = (folder.checkpoints, folder.log)
        outcome = fit(
            built.network, trainable, protocol.training, *places, numerics, built.parts, profile=config.profile
        )

    sums = folder.sums if protocol.scoring.sums else None
    scored = predict_and_score(
        evaluator, built.network, data.split.scored, protocol.scoring.metrics, folder.predictions, sums
    )
    if not world.is_main:
        return folder.record
    return write_record(
        folder, Facts(config, model, model_folder, data, weights, built, outcome, scored, seeds, device)
    )
