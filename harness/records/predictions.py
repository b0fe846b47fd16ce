"""The identity of a predicted label map: its shape and labels, whatever file or integer type holds them."""

from __future__ import annotations

from collections.abc import Mapping

from harness.data.fingerprint import label_map_sha256

__all__ = ["label_map_sha256", "predictions_text"]


def predictions_text(predictions: Mapping[str, str]) -> str:
    """Return the content of ``predictions.txt``: case id, tab, hash of its label map, sorted."""
    return "".join(f"{case}\t{predictions[case]}\n" for case in sorted(predictions))
