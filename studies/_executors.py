"""Where cells run: processes of this machine, or a dask.distributed cluster, both behind ``concurrent.futures``."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future, ProcessPoolExecutor
from queue import SimpleQueue
from typing import Any, Protocol

from tqdm import tqdm

_TIMEOUT = "10s"  # to reach a scheduler


class Executor(Protocol):
    """What the sweep asks of the place where cells run."""

    def slots(self) -> int:
        """Return how many cells to keep submitted."""

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin a task. Its future raises ``BrokenExecutor`` if the process that ran it has died."""

    def stop(self) -> None:
        """End, at once: running tasks are abandoned."""


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """Processes of this machine, each with an interpreter and compiled code of its own.

    Each is a pool of one: if a process of a larger pool dies, the pool gives up what its others were doing.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pools: set[ProcessPoolExecutor] = set()
        self._free: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        for _ in range(count):
            self._free.put(self._begin())

    def _begin(self) -> ProcessPoolExecutor:
        # Not by fork: threads of compiled code and of BLAS do not survive it.
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare)
        self._pools.add(pool)
        return pool

    def slots(self) -> int:
        """Return the number of processes: a cell is begun when one is free."""
        return self._count

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin a task in a free process."""
        pool = self._free.get()

        def free(future: Future[Any]) -> None:
            lost = not future.cancelled() and isinstance(future.exception(), BrokenExecutor)
            if lost:
                self._pools.discard(pool)
            self._free.put(self._begin() if lost else pool)

        try:
            future = pool.submit(task, *arguments)
        except BrokenExecutor as problem:  # the process has died while it had nothing to do
            future = Future()
            future.set_exception(problem)
        future.add_done_callback(free)
        return future

    def stop(self) -> None:
        """Kill the processes."""
        for pool in list(self._pools):
            for worker in list((pool._processes or {}).values()):
                worker.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


class Cluster:
    """A dask.distributed cluster; its workers need this package. The scheduler moves the tasks of lost workers.

    Raises
    ------
    ValueError
        If dask.distributed is not installed, or the scheduler does not answer.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise ValueError("--scheduler needs dask.distributed: pip install 'srkverify[cluster]'") from None
        try:
            self._client = Client(address, timeout=_TIMEOUT)
        except (OSError, ValueError) as problem:
            raise ValueError(
                f"--scheduler must be the address of a dask scheduler that answers, as in tcp://host:8786; "
                f"got {address!r}: {' '.join(str(problem).split())}"
            ) from None
        self._executor = self._client.get_executor(pure=False)

    def slots(self) -> int:
        """Return twice the cluster's threads, which may grow: a worker finds its next cell there already."""
        return 2 * max(1, sum(self._client.nthreads().values()))

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin a task on some worker."""
        future: Future[Any] = self._executor.submit(task, *arguments)
        return future

    def stop(self) -> None:
        """Cancel what is left and close the connection; the cluster stays."""
        self._executor.shutdown(wait=False)
        self._client.close()


def failure(problem: BaseException) -> str:
    """Return a sentence on why a task gave no answer."""
    if isinstance(problem, BrokenExecutor):
        return "the process that ran it was killed, perhaps for want of memory"
    if isinstance(problem, CancelledError):
        return "cancelled by the scheduler"
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"


def _prepare() -> None:
    """Set a new process up: an interrupt is its parent's business, and it dies with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Its own lock is a semaphore of the system, which a process that is ended leaves behind.
    tqdm.set_lock(threading.RLock())
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    # A killed parent cannot say so, and the pool's queue would keep its orphans waiting for ever.
    threading.Thread(target=follow, daemon=True).start()
