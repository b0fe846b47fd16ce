"""The errors a person can meet. Each says what happened with which values, why it is wrong, what to do next.

The command line turns them into one paragraph and an exit code; everything else that escapes is our own mistake.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["HarnessError", "UserError", "nearest", "unknown_name"]


class HarnessError(Exception):
    """The work failed although the input was right: disk full, no permission, a diverged run. Exit code 1."""

    exit_code = 1
    run_state = "failed"  # what a run that ends with this error is listed as


class UserError(HarnessError):
    """What the user gave is wrong: a name, a file, a setting, the data. Exit code 2."""

    exit_code = 2


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to ``name``, or None where nothing is close.

    >>> nearest("models_genesis.chest", ["models_genesis.chest_ct", "med3d.resnet10"])
    'models_genesis.chest_ct'
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UserError:
    """Build the error for a name nobody knows, with the nearest known one.

    Parameters
    ----------
    kind : str
        What the name should have named, such as ``"model"``.
    name : str
        The name as the user wrote it.
    known : iterable of str
        Every name that would have been accepted.
    hint : str
        One more sentence that says what to do.
    """
    names = sorted(known)
    guess = nearest(name, names)
    suggestion = f" Did you mean {guess!r}?" if guess else ""
    listing = f" Known: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}." if names else ""
    return UserError(f"There is no {kind} called {name!r}.{suggestion}{listing}{' ' + hint if hint else ''}")
