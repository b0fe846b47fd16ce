"""Scores one can trust: overlap, surfaces, lesions, empty-mask policies, statistics and verdicts. No torch here."""

from __future__ import annotations

from harness.scoring.case import score
from harness.scoring.definitions import Definition, definition, from_record_id, known

__all__ = ["Definition", "definition", "from_record_id", "known", "score"]
