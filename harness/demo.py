"""The whole line on the bundled real volumes: pretrain, fine-tune both twins, record, board.

Fixed step counts, never seconds. The weights are demo weights and the data a bundled sample; every record says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.config import pretrain_config, run_config
from harness.leaderboard import build
from harness.pretrain import pretrain
from harness.progress import say
from harness.run import run

__all__ = ["Demo", "demo"]

_MODEL = "models_genesis.narrow8"
_HELD_OUT = "lidc_0314"


@dataclass(frozen=True)
class Demo:
    """What the demo made: its folder, the folder with the card of the weights, both records, the board's first page."""

    out: Path
    cards: Path
    pretrained: Path
    scratch: Path
    board: Path


def demo(out: Path, seed: int = 0, overrides: tuple[str, ...] = (), pretrain_overrides: tuple[str, ...] = ()) -> Demo:
    """Run the demo, or go on where it was interrupted.

    Parameters
    ----------
    out : Path
        Everything goes below it, the cache of prepared volumes included.
    seed : int
        Of pretraining and of both twins.
    overrides : tuple of str
        More Hydra overrides for the two fine-tuning runs, such as ``debug=smoke``.
    pretrain_overrides : tuple of str
        The same for pretraining, such as ``training.steps=10``.
    """
    where = [f"out={out / 'runs'}", f"cache={out / 'cache'}", f"seed={seed}"]
    say("1/4 pretraining on unlabelled CT (no labels are read)")
    made = pretrain(
        pretrain_config(
            [
                f"model={_MODEL}",
                "name=demo",
                f"held_out=[{_HELD_OUT}]",
                "recipe.cubes.size=[32,32,32]",
                "recipe.batch=2",
                "training.steps=60",
                "training.optimizer.lr=1e-3",
                *where,
                *pretrain_overrides,
            ]
        )
    )
    cell = ["dataset=ct_headneck_oar", "protocol=demo_ct", *where, *overrides]
    say("2/4 fine-tuning from the pretrained weights")
    pretrained = run(run_config([f"model={made.model}", "init=pretrained", f"cards=[{made.card.parent}]", *cell]))
    say("3/4 the twin: the same from scratch")
    scratch = run(run_config([f"model={made.model}", "init=scratch", f"cards=[{made.card.parent}]", *cell]))
    say("4/4 the board")
    board = build([out / "runs"], out / "board", cards=[made.card.parent])
    return Demo(out, made.card.parent, pretrained, scratch, board)
