"""Work that compiled code does in threads, task by task, until it is done, fails or is interrupted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Task = TypeVar("Task")
Memory = TypeVar("Memory")


def run(
    tasks: Iterable[Task],
    make_memory: Callable[[], Memory],
    task: Callable[[Task, Memory], int],
    threads: int,
    stop: NDArray[np.uint8],
    bar: Any,
) -> None:
    """Do all tasks on ``threads`` threads; ``task`` returns how far the progress bar moves.

    A thread has memory of its own. ``stop[0]`` becomes 1 at the first error or interrupt: compiled code that looks at
    it ends early, and threads take no further task.
    """
    waiting, one_at_a_time = iter(tasks), threading.Lock()

    def work() -> None:
        memory = make_memory()
        while not stop[0]:
            with one_at_a_time:
                found = next(waiting, None)
            if found is None:
                return
            try:
                done = task(found, memory)
            except ValueError:
                stop[0] = 1
                raise
            with one_at_a_time:
                bar.update(done)

    with ThreadPoolExecutor(threads) as pool:
        workers = [pool.submit(work) for _ in range(threads)]
        try:
            for worker in workers:
                worker.result()
        finally:
            stop[0] = 1  # after an interrupt: every thread leaves at its next step


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
