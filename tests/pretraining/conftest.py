"""Seeded volumes with structure: smooth bodies with edges, in [0, 1], as caches give them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from harness.cards.dataset import DatasetCard
from harness.cards.library import model_card
from harness.pretraining.volumes import Loaded, Together


def body(shape, seed, channels=1):
    """Blobs of tissue in air, (channels, *shape), float32."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.standard_normal((channels, *shape)), (0, 3, 3, 3))
    smooth = smooth / smooth.std()
    tissue = np.where(smooth > 0.3, 0.5 + 0.1 * smooth, 0.02)
    return np.clip(tissue + 0.02 * random.standard_normal(tissue.shape), 0, 1).astype(np.float32)


@pytest.fixture
def volumes():
    """Four volumes of different shapes, one smaller than most cubes."""
    shapes = {"a": (40, 36, 30), "b": (44, 40, 20), "c": (36, 40, 34), "small": (20, 22, 18)}
    return {case: Loaded(body(shape, seed)) for seed, (case, shape) in enumerate(shapes.items())}


@pytest.fixture
def dataset_card():
    """A data set card of unlabelled CT."""
    return DatasetCard.model_validate(
        {
            "id": "blobs",
            "title": "Blobs",
            "version": "1",
            "task": "unlabelled",
            "modality": ["CT"],
            "body": "none",
            "channels": ["CT"],
            "layout": {"kind": "unlabelled"},
            "evidence": ["synthetic_data"],
            "terms": {"licence": "CC0-1.0", "attribution": "none", "how_to_get": "made here", "redistribution": True},
            "citation": "none",
        }
    )


NARROW = {
    "mis_fm.fmunet_abk1k": {"feature_channels": [8, 8, 16, 16, 16], "dropout": 0.0},
    "mis_fm.pctnet_ct10k": {"feature_channels": [8, 8, 16, 16, 16], "num_heads": [2, 2, 2], "window_sizes": [2, 2, 2]},
}


@pytest.fixture
def narrow():
    """Shipped cards with the same architecture in few channels, and no file."""

    def make(name):
        card = model_card(name)[0]
        return card.model_copy(update={"architecture": {**card.architecture, **NARROW[name]}, "checkpoint": None})

    return make


@pytest.fixture
def labelled():
    """Two labelled data sets as ``dataset/case``: tissue or not, and air, soft tissue, dense tissue."""

    def make(seed, classes):
        image = body((28, 34, 32), seed)
        smooth = ndimage.gaussian_filter(image[0], 1)
        label = np.digitize(smooth, (0.3, 0.62)[: classes - 1]).astype(np.uint8)
        return Loaded(image, label)

    parts = {
        "two": {f"t{n}": make(n, 2) for n in range(3)},
        "three": {f"h{n}": make(10 + n, 3) for n in range(3)},
    }
    return Together(parts)
