"""The leaderboard, called "the board": a folder of static files generated from records, claims and cards.

`build` makes it. It opens from a folder without a server, loads nothing from the network, and treats every text of a
record as untrusted.
"""

from __future__ import annotations

from harness.leaderboard.site import build

__all__ = ["build"]
