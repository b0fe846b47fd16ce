"""``harness data``: remember where a data set lies, check, prepare and export it, describe a file, make volumes up."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.run import add_config_arguments, overrides_of
from harness.errors import UserError
from harness.machine import processors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.data.case import Case
    from harness.data.volume import Volume

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="remember where a data set lies")
    check = actions.add_parser("check", help="open every case and compare it with the card; exit 2 on any error")
    prepare = actions.add_parser("prepare", help="preprocess every case once for a model and a protocol")
    prepare.add_argument("id", metavar="ID")
    add_config_arguments(prepare, "model=… protocol=… data_root=… cache=…, as for `harness run`")
    export = actions.add_parser("export", help="write it with its split as another program wants it")
    for action in (add, check, export):
        action.add_argument("id", metavar="ID", help="of the data set: `harness list datasets`")
        action.add_argument("--cards", type=Path, action="append", default=[], metavar="DIR")
    add.add_argument("path", type=Path, metavar="PATH")
    for action in (check, export):
        action.add_argument("--root", type=Path, metavar="PATH", help="where it lies, if not where it was added")
        action.add_argument("--workers", type=int, default=processors())
    export.add_argument("--to", required=True, choices=["nnunet"], help="nnU-Net v2")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    export.add_argument("--split", metavar="ID", help="of the card; its first by default")
    export.add_argument("--label-fraction", type=float, default=1.0, help="share of the training cases")
    export.add_argument("--subset-seed", type=int, default=0, help="which share")
    check.add_argument("--json", action="store_true", help="machine-readable output")
    check.add_argument("--html", type=Path, metavar="FILE", help="also write a page with three slices of every case")
    check.add_argument("--fresh", action="store_true", help="open every file again, also those that did not change")
    describe = actions.add_parser("describe", help="what one file holds, as it is read here; exit 2 if it cannot be")
    describe.add_argument("file", type=Path, metavar="FILE", help="a volume, or a folder with one DICOM series")
    describe.add_argument("--json", action="store_true", help="machine-readable output")
    synthesize = actions.add_parser("synthesize", help="write tiny made-up volumes, for trying things without data")
    synthesize.add_argument(
        "id",
        nargs="?",
        metavar="ID",
        help="write them as this public data set lies on disk, or `nnunet` for a folder of nnU-Net; "
        "without it a set with a card of its own",
    )
    synthesize.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new data set's own folder")
    synthesize.add_argument("--cases", type=int, default=6)
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument("--channels", type=int, help="of a set with a card of its own; 1 by default")
    synthesize.add_argument(
        "--fault", metavar="NAME", help="with ID: a fault that copies of it have; a wrong name lists them"
    )
    synthesize.add_argument("--shape", type=int, nargs=3, metavar="N", help="with ID: voxels per stored axis")


def execute(arguments: argparse.Namespace) -> int:
    """Run the action."""
    actions = {
        "add": _add,
        "check": _check,
        "describe": _describe,
        "export": _export,
        "prepare": _prepare,
        "synthesize": _synthesize,
    }
    return actions[arguments.action](arguments)


def _prepare(arguments: argparse.Namespace) -> int:
    from harness.cards.library import dataset_card, model_card
    from harness.config import run_config
    from harness.data.check import check
    from harness.data.contract import meet
    from harness.data.layouts import locate_set
    from harness.data.opening import prepare_checked
    from harness.data.roots import cache_folder

    config = run_config([*overrides_of(arguments), f"dataset={arguments.id}"], arguments.config_dir)
    model, _ = model_card(config.model, config.cards)
    model.refuse_unsupported()
    card, folder = dataset_card(config.dataset, config.cards)
    choice, workers, home = config.protocol.input, config.executor.workers, cache_folder(config.cache)
    meeting = meet(model.contract, card, choice)
    card, cases = locate_set(card, folder, config.data_root)
    report = check(card, cases, workers=workers, cache=home)
    report.refuse()
    cache, rules, _ = prepare_checked(card, cases, report, meeting, choice, cache=home, workers=workers)
    ready = cache.require(next(iter(cache))).parent
    lines = [*rules, f"{len(cache)} cases of {card.id} are ready for {model.id} in {ready}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from harness.cards.library import dataset_card
    from harness.data.export import export_nnunet
    from harness.data.layouts import locate_set
    from harness.data.roots import cache_folder

    card, folder = dataset_card(arguments.id, arguments.cards)
    card, cases = locate_set(card, folder, arguments.root)
    done = export_nnunet(
        card,
        cases,
        arguments.out,
        split=arguments.split,
        label_fraction=arguments.label_fraction,
        subset_seed=arguments.subset_seed,
        workers=arguments.workers,
        cache=cache_folder(),
    )
    lines = [
        f"{len(done.train)} training and {len(done.test)} test cases of {card.id} in {arguments.out}.",
        "Name the folder DatasetNNN_NAME below $nnUNet_raw."
        + (
            f" Copy splits_final.json ({done.folds} folds) to $nnUNet_preprocessed/DatasetNNN_NAME before training."
            if done.folds
            else " The split has no validation cases: train with fold `all`."
        ),
    ]
    if done.ignored:
        lines.append(f"Structures are undrawn in {', '.join(done.ignored)}; their background is nnU-Net's `ignore`.")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _add(arguments: argparse.Namespace) -> int:
    from harness.cards.library import dataset_card
    from harness.data.archives import refuse_archive
    from harness.data.layouts import find_cases
    from harness.data.roots import remember

    card, _ = dataset_card(arguments.id, arguments.cards)
    if arguments.path.is_file():
        refuse_archive(card, arguments.path)
    found = find_cases(card, arguments.path)
    file = remember(card.id, arguments.path)
    sys.stdout.write(f"{card.id}: {len(found)} cases below {arguments.path}, remembered in {file}\n")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from harness.cards.library import dataset_card
    from harness.data.check import check
    from harness.data.layouts import locate_set
    from harness.data.roots import cache_folder, data_root

    card, folder = dataset_card(arguments.id, arguments.cards)
    card, cases = locate_set(card, folder, arguments.root)
    pictures: dict[str, bytes] = {}

    def keep_picture(case: Case, image: Volume, labels: NDArray[Any] | None) -> None:
        from harness.data.page import draw

        pictures[case.id] = draw(image, labels)

    report = check(
        card,
        cases,
        workers=arguments.workers,
        cache=None if arguments.fresh else cache_folder(),
        look=None if arguments.html is None else keep_picture,
        root=data_root(card, folder, arguments.root),
    )
    if arguments.html is not None:
        from harness.data.page import write_page

        write_page(arguments.html, card, cases, report, pictures)
        sys.stderr.write(f"harness: wrote {arguments.html}\n")
    if arguments.json:
        sys.stdout.write(json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
    else:
        made_up = (
            f"These are made-up volumes in the layout of {card.id}.\n" if "synthetic_data" in card.evidence else ""
        )
        sys.stdout.write(_table(report, card.labels) + made_up)
    return 2 if report.errors else 0


def _table(report: Any, names: Mapping[int, str]) -> str:
    lines = [f"{'case':<16} {'shape':<16} {'spacing (mm)':<20} labels"]
    for case, facts in report.facts.items():
        shape = "x".join(map(str, facts.shape))
        spacing = "x".join(f"{step:.3g}" for step in facts.spacing)
        labels = " ".join(f"{value}:{count}" for value, count in (facts.label_histogram or {}).items())
        lines.append(f"{case:<16} {shape:<16} {spacing:<20} {labels}")
    for case, facts in report.facts.items():
        if facts.not_annotated:
            undrawn = ", ".join(names[value] for value in facts.not_annotated)
            lines.append(f"not annotated in {case}, so ignored in loss and score: {undrawn}")
    lines += [f"{finding.level}: {finding}" for finding in report.findings]
    verdict = f"{len(report.errors)} errors" if report.errors else f"no error; fingerprint {report.fingerprint()}"
    return "\n".join([*lines, f"{report.dataset}: {len(report.facts)} cases, {verdict}"]) + "\n"


def _describe(arguments: argparse.Namespace) -> int:
    from harness.data.describe import describe

    found = describe(arguments.file)
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return 0
    width = max(map(len, found))
    sys.stdout.write("".join(f"{name:<{width}}  {_words(value)}\n" for name, value in found.items()))
    return 0


def _words(value: Any) -> str:
    """Write a value for people: unknown for None, numbers short, a matrix in rows, a mapping as pairs."""
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_words(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return ("; " if any(isinstance(item, list) for item in value) else " ").join(map(_words, value))
    return str(value)


def _synthesize(arguments: argparse.Namespace) -> int:
    if arguments.id is None:
        return _own_card(arguments)
    from harness.cards.library import dataset_card
    from harness.data.synthesis.writing import GENERIC, faults_of, synthesize

    if arguments.channels is not None:
        raise UserError(f"--channels is for a set with a card of its own; those of {arguments.id} are given.")
    faults_of(arguments.id)  # an id that cannot be written is refused before its card is looked for
    named: set[str] = set()
    if arguments.id != GENERIC:
        card, _ = dataset_card(arguments.id)
        named = {case for split in card.splits for ids in split.parts.values() for case in ids}
    cases = synthesize(
        arguments.id,
        arguments.out,
        ids=sorted(named),
        cases=arguments.cases,
        fault=arguments.fault,
        seed=arguments.seed,
        shape=arguments.shape,
    )
    use = f"harness data add {arguments.id} {arguments.out}"
    if arguments.id == GENERIC:
        use = f"--cards {arguments.out.resolve()}, dataset=synthetic_nnunet"
    sys.stdout.write(f"{len(cases)} made-up cases in {arguments.out}\n\nUse them with {use}\n")
    return 0


def _own_card(arguments: argparse.Namespace) -> int:
    from harness.data.folders import new_folder
    from harness.data.synthetic import write

    if arguments.fault is not None or arguments.shape is not None:
        raise UserError("--fault and --shape are for the layouts of public data sets; name one: `data synthesize ID`.")
    channels = 1 if arguments.channels is None else arguments.channels
    with new_folder(arguments.out) as folder:
        card = write(folder, cases=arguments.cases, channels=channels, seed=arguments.seed)
    sys.stdout.write(
        f"{arguments.out / 'card.yaml'}\n\nUse it with --cards {arguments.out.resolve().parent}, dataset={card.id}\n"
    )
    return 0
