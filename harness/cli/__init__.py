"""The command line: thin and lazy. A command's module is imported when the command is called, never for ``--help``.

Each module of this folder offers ``configure(parser)`` and ``execute(arguments) -> int``.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from harness import __version__
from harness.errors import HarnessError, UserError, unknown_name

__all__ = ["COMMANDS", "main"]

# name: (module in this folder, one line of help)
COMMANDS = {
    "demo": ("demo", "the whole line on the bundled real volumes, ending in a board"),
    "list": ("listing", "models, datasets, protocols, experiments, claims or runs"),
    "plan": ("plan", "what a run or a sweep would do and take: downloads, steps, memory; runs nothing"),
    "run": ("run", "one cell: fine-tune, predict, score, record"),
    "eval": ("eval", "released fine-tuned weights, scored as they are"),
    "sweep": ("sweep", "many cells: runs what has no record yet, here, on Slurm or on Ray"),
    "pretrain": ("pretrain", "a pretext task on unlabelled volumes; writes a checkpoint and its card"),
    "predict": ("predict", "label maps for a folder of scans, by the network of a finished run"),
    "compare": ("compare", "a printed number beside the runs that speak to it, explained"),
    "reproduce": ("reproduce", "a printed number: its experiment, plan, runs and verdict"),
    "score": ("score", "label maps made by anything, against references"),
    "rescore": ("rescore", "a finished run by other metrics, from its predictions"),
    "record": ("record", "verify, show, pack, review, contest or import records"),
    "leaderboard": ("leaderboard", "build the board from records, claims and cards; serve, check or export it"),
    "data": ("data", "add, check, prepare, describe, export or synthesize a data set"),
    "weights": ("weights", "list, fetch, verify, add, inspect or convert checkpoint files"),
    "adapter": ("adapter", "start or check a model's adapter; the published network on one input, for parity"),
    "doctor": ("doctor", "what this machine has and lacks, and the commands that mend it"),
    "selftest": ("selftest", "parity, precision, resume, memory and speed on this machine's device"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 the work failed, 2 wrong input, 75 asked to stop."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 gets a question mark, not a traceback
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    try:
        return _dispatch(given)
    except HarnessError as error:
        if debug:
            raise
        sys.stderr.write(f"harness: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("harness: interrupted. The same command goes on where it stopped.\n")
        return 130
    except BrokenPipeError:
        # the reader of our output has gone; keep Python from complaining about it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug:
            raise
        sys.stderr.write(
            f"harness: the machine refused: {error.strerror or error}"
            f"{f' ({error.filename})' if error.filename else ''}. Free space or fix permissions, then run it again.\n"
        )
        return 1


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        return 0
    if given[0] == "--version":
        sys.stdout.write(f"harness {__version__}\n")
        return 0
    name, rest = given[0], given[1:]
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS, "`harness --help` shows them all.")
    module = importlib.import_module(f"harness.cli.{COMMANDS[name][0]}")
    parser = Parser(prog=f"harness {name}", description=COMMANDS[name][1].capitalize() + ".")
    module.configure(parser)
    code: int = module.execute(parser.parse_args(rest))
    return code


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are our errors, so that they look and exit like all others."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise instead of leaving the process."""
        raise UserError(f"{self.prog}: {message}. `{self.prog} --help` shows how to call it.")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: harness COMMAND …",
            "",
            "Runs published pretrained 3D medical-imaging models and tells whether their reported gain is real.",
            "",
            *lines,
            "",
            "`harness COMMAND --help` explains one command. --debug shows the traceback of an error.",
            "Exit codes: 0 done, 1 the work failed, 2 the input is wrong, 75 asked to stop: the same command goes on.",
            "",
        ]
    )
