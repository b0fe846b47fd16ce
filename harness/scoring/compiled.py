"""How kernels are compiled: once per machine, kept on disk, without the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["compiled"]


def compiled(signature: Any = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for one signature, or for whatever it is called with if there is none.

    The machine code is kept in ``__pycache__`` beside the source or, where that cannot be written to, in the user's
    cache (``NUMBA_CACHE_DIR`` names another place). A machine without any writable place compiles in memory: seconds
    lost per process, nothing else.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        options = {"nogil": True, "error_model": "numpy"}
        signatures = None if signature is None else [signature]
        try:
            kernel: Callable[..., Any] = njit(signatures, cache=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            kernel = njit(signatures, **options)(function)
        return kernel

    return decorate
