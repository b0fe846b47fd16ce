"""Preparing batches ahead of the step that needs them, in threads, without changing their order or content."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["ahead"]

T = TypeVar("T")


def ahead(batch: Callable[[int], T], start: int, stop: int, workers: int) -> Iterator[T]:
    """Yield ``batch(step)`` for every step in ``range(start, stop)``, in order.

    Parameters
    ----------
    batch : callable
        A pure function of the step, safe to call from threads.
    start, stop : int
        First step, and one past the last.
    workers : int
        Threads (NumPy and torch release the lock while they copy and transform); 0 makes each batch when asked.
    """
    if workers <= 0:
        yield from map(batch, range(start, stop))
        return
    with ThreadPoolExecutor(workers, "batches", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for step in range(start, stop):
                waiting.append(pool.submit(batch, step))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
