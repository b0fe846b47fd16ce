"""Records for the tests of the board: assembled and written by the records room, so that they verify like real ones."""

from __future__ import annotations

import json
import math
import random
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

from harness.cards.library import dataset_card
from harness.data.reading import read
from harness.data.splits import resolve
from harness.files import file_sha256, sha256_hex
from harness.records import fields
from harness.records.build import assemble
from harness.records.cases import CaseRow
from harness.records.environment import Environment
from harness.records.pictures import hash_pictures
from harness.records.schema import Attestation, Record
from harness.records.store import write
from harness.records.volumes import write_volumes
from harness.scoring.definitions import definition

CASES = ("pt_282", "pt_332", "pt_60", "pt_83")
CLASSES = ("brainstem", "spinal_cord", "right_parotid", "left_parotid", "esophagus", "larynx", "mandible")
HASH = "0" * 64

_CPU = ("env.cuda", "env.cudnn", "env.driver", "hardware.gpu", "hardware.gpu_count", "hardware.gpu_memory")
ENVIRONMENT = Environment(
    harness=fields.Harness(version="0.1.0", commit="a" * 40, dirty=False),
    env=fields.Env(python="3.11.7", torch="2.6.0", cuda=None, cudnn=None, monai="1.5.0", driver=None, lock_sha256=HASH),
    hardware=fields.Hardware(gpu=None, gpu_count=None, gpu_memory=None, cpu="a processor", cpu_count=2, ram=8.0),
    reasons=dict.fromkeys(_CPU, "run on a CPU"),
    packages="",
)


def own(*parts: object) -> str:
    """A hash that no other forged run shares; runs with equal predictions or weights would be taken for copies."""
    return sha256_hex("/".join(map(str, parts)))


def rows_of(
    quality: float, seed: int, cases: Sequence[str] = CASES, classes: Sequence[str] = CLASSES, mark: str = ""
) -> list[CaseRow]:
    """Scores around ``quality``; the last case lacks the structure before the last in both masks."""
    rng = random.Random(f"{quality}/{seed}")
    dice, hd95 = definition("dice").record_id, definition("hd95").record_id
    rows = []
    for case in cases:
        for label, name in enumerate(classes, start=1):
            absent = case == cases[-1] and label == len(classes) - 1
            size = 400 + 20 * label
            hit = round(size * min(0.99, max(0.0, quality - 0.02 * (label % 3) + rng.gauss(0, 0.03))))
            wrong = (0, 0, 0) if absent else (hit, size - hit, size - hit)
            value = None if absent else 2 * hit / (2 * hit + 2 * (size - hit))
            distance = None if absent else round(abs(rng.gauss(12 * (1 - quality), 1)) + 0.1, 6)
            for metric, score in ((dice, value), (hd95, distance)):
                rows.append(
                    CaseRow(
                        case, label, name, metric, score, "absent_in_both" if absent else None,
                        *wrong, sum(wrong[::2]), sum(wrong[:2]), 1.5, 1.5, 2.5, 0.8, own(case, mark),
                    )
                )  # fmt: skip
    return rows


def log_of(steps: int, seed: int, *, diverges: bool = False) -> str:
    rng = random.Random(seed)
    lines = []
    for step in range(0, steps, 20):
        loss = 1.6 * math.exp(-step / 150) + 0.35 + rng.gauss(0, 0.03)
        last = diverges and step + 20 >= steps
        lines.append({"step": step, "loss": None if last else loss, "lr": 3e-3, "seconds": step * 0.15})
        if step % 200 == 0:
            lines.append({"step": step, "metric": 1 - loss / 2, "role": "val"})
    return "".join(json.dumps(line) + "\n" for line in lines)


def pictures(folder: Path, cases: Sequence[str]) -> dict[str, str]:
    """Write three small pictures named as `harness.records.pictures` names them."""
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for place, (which, case) in enumerate(zip(("best", "median", "worst"), cases, strict=False)):
        image = Image.new("RGB", (240, 200), (16, 16, 18))
        pen = ImageDraw.Draw(image)
        pen.ellipse((40, 30, 200, 170), fill=(110, 110, 112))
        pen.ellipse((90, 70, 150, 120), outline=(86, 180, 233), width=2)
        pen.ellipse((90 + 4 * place, 72, 150 + 6 * place, 124), outline=(230, 159, 0), width=2)
        path = folder / f"{which}_{case}.png"
        image.save(path)
        hashes[path.name] = file_sha256(path)
    return hashes


def forge(
    home: Path,
    *,
    init: str = "pretrained",
    seed: int = 0,
    quality: float = 0.75,
    status: str = "complete",
    kind: str = "fine_tune",
    evidence: Sequence[str] = (),
    model: tuple[str, str] = ("models_genesis", "demo"),
    dataset: str = "head_and_neck",
    protocol: str = "demo_ct",
    cases: Sequence[str] = CASES,
    classes: Sequence[str] = CLASSES,
    text: str = "",
    source: str = "https://github.com/MrGiovanni/ModelsGenesis",
    draw: bool = True,
    attested: bool = False,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> Record:
    """Write one run's record to ``home/record``.

    ``text`` is put into every free text that a stranger could write; ``change`` may alter the arguments of `assemble`.
    """
    done = status == "complete"
    mark = own(init, seed, quality, model, dataset, protocol, text)
    rows = rows_of(quality, seed, cases, classes, mark) if done else []
    record_folder = home / "record"
    loaded = init == "pretrained"
    config = yaml.safe_dump({"note": f"a test{text}"}, allow_unicode=True)
    report = {
        "counts": {"loaded": 60, "adapted": 0, "fresh": 2, "missing": 0, "skipped": 2, "unused": 0},
        "encoder": {"loaded": 100, "total": 100, "fraction": 1.0},
        "decoder": {"loaded": 50, "total": 52, "fraction": 50 / 52},
        "floor": 1.0,
        "tensors": [],
    }
    home.mkdir(parents=True, exist_ok=True)
    log = home / "log.jsonl"
    log.write_text(log_of(600 if done else 180, seed, diverges=status == "diverged"), encoding="utf-8")
    arguments: dict[str, Any] = {
        "kind": kind,
        "model": fields.Model(
            id=model[0], variant=model[1], adapter_version=f"1{text}"[:200],
            parameters=fields.Parameters(total=1193761, trainable=1193761), init=init,
        ),
        "weights": fields.Weights(
            source=source + text if loaded else None,
            file=f"genesis.pt{text}"[:200] if loaded else None,
            bytes=4801234 if loaded else None,
            sha256="c" * 64 if loaded else None,
            licence=f"CC-BY-4.0{text}"[:200] if loaded else None,
            state_sha256=own("start", mark),
            loaded_fraction=1.0 if loaded else 0.0,
            loading_file_sha256=None,
            final_sha256=own("end", mark),
        ),
        "pretraining": fields.Pretraining(datasets=(f"unlabelled_ct{text}"[:200],)) if loaded else None,
        "contamination": fields.Contamination(status="none", evidence=f"other patients{text}") if loaded else None,
        "dataset": fields.Dataset(
            id=dataset, card_version=f"1{text}"[:200],
            fingerprint=fields.Fingerprint(all="3" * 64, scored=own(dataset, *cases)),
            n_cases=fields.CaseCounts(train=14, val=2, test=len(cases)),
            label_map={"0": "background", **{str(i): name for i, name in enumerate(classes, start=1)}},
            excluded=(fields.Excluded(case_id="pt_1", reason=f"no label{text}"),),
        ),
        "split": fields.Split(id="fixed", sha256="5" * 64, fold=0, n_folds=1, scored_role="test", label_fraction=1.0),
        "protocol": fields.Protocol(
            id=protocol, spacing="native", orientation="RAS",
            intensity=fields.Intensity(method="window", window=(-1000.0, 1000.0), to=(0.0, 1.0)),
            patch=(48, 48, 32), batch=2, patches_per_case=1, optimizer="adamw", lr=3e-3,
            schedule=f"cosine{text}"[:200], loss="dice + cross entropy", steps=600, epochs=85.7, samples_seen=1200,
            selection=fields.Selection(rule="last", note=f"none needed{text}"),
            inference=fields.Inference(
                overlap=0.5, blending="gaussian", window_batch=1, tta=(), ensemble_size=1, decision="argmax",
                post_processing=(),
            ),
        ),
        "seeds": fields.Seeds(python=seed, numpy=seed, torch=seed, data=seed, init=seed),
        "deterministic": fields.Deterministic(cudnn_benchmark=False, algorithms=True, tf32=False, amp="off"),
        "environment": ENVIRONMENT,
        "cost": fields.Cost(
            wall={"prepare": 5.0, "train": 92.0, "validate": 0.0, "infer": 8.0, "score": 4.0}, gpu_hours=None,
            peak_gpu_memory=None, allocator=None, seconds_per_case=0.8 if done else None, resumed=0,
        ),
        "submitter": fields.Submitter(
            handle=f"someone{text}"[:200], affiliation=f"somewhere{text}"[:200], relation="none"
        ),
        "cases": rows,
        "config_yaml": config,
        "loading": report if loaded else None,
        "log_path": log,
        "predictions": {case: own(case, mark) for case in cases} if done else {},
        "status": status,
        "status_reason": None if done else f"the loss became NaN at step 160{text}",
        "evidence": evidence,
        "config_overrides": (f"seed={seed}{text}",),
        "metric_order": [definition("dice").record_id, definition("hd95").record_id] if done else (),
        "pictures": pictures(record_folder / "slices", cases) if done and draw else {},
        "declarations": ("test_data_not_trained", "adapter_unmodified"),
        "created": datetime(2026, 8, 22, 10, seed % 60, tzinfo=UTC),
    }  # fmt: skip
    if change:
        change(arguments)
    record = assemble(**arguments)
    if attested:
        said = Attestation(
            level=3, by=f"a reviewer{text}"[:200], date="2026-08-23T00:00:00Z", method=f"scored again{text}",
            tool_commit="b" * 40,
        )  # fmt: skip
        record = record.model_copy(update={"attestations": (said,)})
    write(
        record_folder,
        record,
        arguments["cases"],
        arguments["config_yaml"],
        arguments["loading"],
        log,
        arguments["predictions"],
    )
    return record


def demo_runs(top: Path) -> Path:
    """What ``harness demo`` leaves: two twins with marks; and one run that diverged, one that never wrote a record."""
    marks = ("bundled_sample", "self_pretrained")
    forge(top / "pretrained", init="pretrained", quality=0.752, evidence=marks)
    forge(top / "scratch", init="scratch", quality=0.755, evidence=("bundled_sample",))
    forge(top / "diverged", init="pretrained", seed=1, status="diverged", evidence=marks)
    (top / "no_record").mkdir(parents=True)
    (top / "no_record" / "run.json").write_text(
        json.dumps({"state": "failed", "error": "The disk is full while writing the cache."}), encoding="utf-8"
    )
    return top


def viewed_runs(top: Path, *, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """One run on the bundled head and neck CT, whose two pictured cases lie in the record as volumes too."""
    card, home = dataset_card("ct_headneck_oar")
    split = resolve(card, "fixed-14-2-4", 0, 1.0, 0)
    slices = top / "viewed" / "record" / "slices"

    def spread(arguments: dict[str, Any]) -> None:
        for which, case in (("best", "pt_282"), ("median", "pt_332")):
            image, label = (read(home / part / f"{case}.nii.gz") for part in ("images", "labels"))
            predicted = np.where(np.roll(label.data, 2, axis=0) == 7, 0, np.roll(label.data, 2, axis=0))
            write_volumes(slices, f"{which}_{case}", image.data, label.data, predicted, image.grid, (-160.0, 240.0))
        arguments["pictures"] = hash_pictures(slices)
        arguments["split"] = arguments["split"].model_copy(update={"id": split.id, "sha256": split.sha256})
        counts = {"train": len(split.train), "val": len(split.val), "test": len(split.test)}
        arguments["dataset"] = arguments["dataset"].model_copy(
            update={"n_cases": fields.CaseCounts(**counts), "excluded": ()}
        )
        if change:
            change(arguments)

    forge(top / "viewed", dataset=card.id, evidence=("bundled_sample",), cases=split.scored, change=spread)
    return top


def floor_run(home: Path, *, dataset: str = "head_and_neck", quality: float = 0.3) -> Record:
    """A rule that trains nothing, on the cases of `forge`'s other runs."""

    def rule(arguments: dict[str, Any]) -> None:
        arguments["contamination"] = fields.Contamination(status="none", evidence="a rule without weights")
        arguments["reasons"] = {"pretraining": "a rule without weights"}
        arguments["evidence"] = ("bundled_sample",)
        arguments["protocol"] = arguments["protocol"].model_copy(update={"id": "floor", "optimizer": None, "lr": None})
        arguments["reasons"] |= dict.fromkeys(["protocol.optimizer", "protocol.lr"], "nothing was trained")

    return forge(
        home, init="other", kind="zero_training_baseline", model=("baseline", "prior"), dataset=dataset,
        quality=quality, draw=False, change=rule,
    )  # fmt: skip


ATTACKS = {
    "html": "</title></td></table><h1>owned</h1><script>alert(1)</script><img src=x onerror=alert(2)>",
    "attribute": '" onmouseover="alert(3)" style="position:fixed" x=\'',
    "svg": "]]></text><svg onload=alert(4)><use href='data:image/svg+xml,<svg/>'/><foreignObject>owned</foreignObject>",
    "template": "{{ 7331 * 7 }}{% for x in y %}${7331 * 7}<!-- --><![CDATA[",
    "bidi": "\u202egnp.exe\u202c \u2066\u2067\u200f\ufeff\x1b[31m\u0085",
    "huge": "A" * 3000,
    "arabic": " نموذج مدرب مسبقا <b>",
}


def attack_runs(top: Path) -> Path:
    """A run, a failed run and one without a record per attack, in every free text and every name that may hold it."""
    for place, (title, attack) in enumerate(ATTACKS.items()):
        short = attack[:60]
        # Names of cases and classes hold no control characters, and a case names a picture file, so no slash either.
        name = "".join(sign for sign in short if unicodedata.category(sign) != "Cc").replace("/", "|")
        names = {
            "text": attack,
            "model": (f"family{short}", f"variant{short}"),
            "dataset": f"data{short}",
            "protocol": f"protocol{short}",
            "classes": [f"organ{i} {name}" for i in range(3)],
            "cases": [f"case{i} {name}" for i in range(3)],
            "attested": True,
            "seed": place,
        }

        def spread(arguments, short=short):
            arguments["split"] = arguments["split"].model_copy(update={"id": f"split{short}"})
            arguments["loading"]["counts"] = {f"loaded{short}": 3}

        forge(top / f"{title} {short}".replace("/", "|"), change=spread, **names)
        forge(top / f"{title} failed", status="failed", init="scratch", **names)
        folder = top / f"{title} none"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"state": "failed", "error": attack}), encoding="utf-8")
    return top


def digest(folder: Path) -> dict[str, str]:
    """Relative path to hash of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): sha256_hex(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
