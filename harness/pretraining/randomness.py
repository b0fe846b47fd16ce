"""Random numbers that depend on (seed, purpose, step, sample) and on nothing that happened before.

So a resumed run, or one with another number of workers, draws the same samples.
"""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["sample_generator", "sample_state"]


def _philox(seed: int, purpose: str, step: int, sample: int) -> np.random.Philox:
    # Key: which stream. Counter: which place in it; its two low words are left to the draws of one sample.
    return np.random.Philox(key=[seed, zlib.crc32(purpose.encode())], counter=[0, 0, sample, step])


def sample_state(seed: int, purpose: str, step: int, sample: int = 0) -> np.random.RandomState:
    """Return the random state of one sample, in the form MONAI's ``set_random_state(state=...)`` takes.

    Parameters
    ----------
    seed : int
        Of the run; not negative.
    purpose : str
        Keeps apart what must not share numbers, such as ``"train"`` and ``"evaluate"``.
    step, sample : int
        Step of the run and place in its batch; not negative.

    Examples
    --------
    >>> a = sample_state(0, "train", 3, 1).random_sample()
    >>> a == sample_state(0, "train", 3, 1).random_sample() != sample_state(0, "train", 3, 2).random_sample()
    True
    """
    return np.random.RandomState(_philox(seed, purpose, step, sample))


def sample_generator(seed: int, purpose: str, step: int, sample: int = 0) -> np.random.Generator:
    """Return the same stream as `sample_state`, as a NumPy generator."""
    return np.random.Generator(_philox(seed, purpose, step, sample))
