"""The sweep engine: solve the cells of a study that are not stored yet, in parallel, and store each when it is done."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from studies._executors import Executor, failure
from studies._fingerprint import fingerprint
from studies._store import Entry, Store, StoreFullError
from studies._study import Row, Study

_QUIET = 2.0  # seconds before a progress bar shows
_CHANCES = 2  # of a cell whose process dies, perhaps through no fault of its own


@dataclass(frozen=True)
class Solved:
    """What a process sends back: rows, or why there are none."""

    rows: list[Row] | None
    message: str | None
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a sweep leaves.

    Attributes
    ----------
    rows : of all cells that are done, in the order of the grid.
    cells, stored, failed : numbers of cells, of those that were done before this run, and of those that failed now.
    failures : a line for each cell that failed.
    stopped : why the sweep ended before all cells were tried, or None.
    interrupted : whether the user did it.
    seconds : processor seconds that the cells took, stored ones included.
    """

    rows: list[Row]
    cells: int
    stored: int
    failures: tuple[str, ...]
    stopped: str | None
    interrupted: bool
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every cell of the grid is done."""
        return not self.failures and self.stopped is None


@dataclass(frozen=True)
class Price:
    """What is left to do: cells, those stored, and processor seconds of the rest."""

    cells: int
    stored: int
    seconds: float


@dataclass(frozen=True)
class Job:
    """A cell with what it is stored under."""

    cell: Any
    key: str
    parameters: str
    cost: float

    def __str__(self) -> str:
        fields = json.loads(self.parameters)
        return ", ".join(f"{name} {value}" for name, value in fields.items() if not isinstance(value, list))


def jobs(study: Study, grid: Sequence[Any]) -> list[Job]:
    """Return the cells of a grid, each once, with their keys."""
    code = version(study)
    found = {}
    for cell in grid:
        parameters = json.dumps(_parameters(cell), sort_keys=True)
        key = hashlib.sha256(f"{study.name} {code} {parameters}".encode()).hexdigest()
        found[key] = Job(cell, key, parameters, float(cell.cost))
    return list(found.values())


def version(study: Study) -> str:
    """Return the version of the code that a study's results depend on."""
    where = study.solve.__module__
    return fingerprint(study.home if where == "__main__" else where, study.solve.__name__, study.cell.__name__)


def price(study: Study, grid: Sequence[Any], store: Store) -> Price:
    """Return what a sweep would cost, by the cells' own estimates and the pace of those that are stored."""
    todo = jobs(study, grid)
    done = {key for key, entry in store.entries(job.key for job in todo).items() if entry.rows is not None}
    left = sum(job.cost for job in todo if job.key not in done)
    return Price(len(todo), len(done), left * store.pace(study.name))


def sweep(study: Study, grid: Sequence[Any], store: Store, executor: Executor) -> Outcome:
    """Solve the cells of ``grid`` that ``store`` lacks, dearest first; cells that failed before are tried again.

    An interrupt ends the sweep; so does a full disk, once what runs is stored. A cell that raises, or whose process
    dies twice, is recorded with the reason, and the rest goes on.
    """
    todo = jobs(study, grid)
    run = _Run(study, store, executor, {job.key: job for job in todo})
    stopped, interrupted = None, False
    try:
        run.all()
    except KeyboardInterrupt:
        stopped, interrupted = "interrupted", True
    except StoreFullError as problem:
        stopped = str(problem)
    finally:
        executor.stop()
    entries = store.entries(job.key for job in todo)
    done = [entries[job.key] for job in todo if job.key in entries and entries[job.key].rows is not None]
    return Outcome(
        rows=[row for entry in done for row in entry.rows or ()],
        cells=len(todo),
        stored=run.stored,
        failures=tuple(run.failures),
        stopped=stopped,
        interrupted=interrupted,
        seconds=sum(entry.seconds for entry in done),
    )


class _Run:
    """A sweep under way: the cells that wait, those that run, and how often each has lost its process."""

    def __init__(self, study: Study, store: Store, executor: Executor, todo: Mapping[str, Job]) -> None:
        self.study, self.store, self.executor = study, store, executor
        self.code = version(study)
        done = {key for key, entry in store.entries(todo).items() if entry.rows is not None}
        self.stored = len(done)
        left = [job for job in todo.values() if job.key not in done]
        self.waiting = deque(sorted(left, key=lambda job: job.cost, reverse=True))
        self.running: dict[Future[Solved], Job] = {}
        self.losses: dict[str, int] = {}
        self.failures: list[str] = []
        self.bar: Any = None

    def all(self) -> None:
        """Run until nothing waits."""
        if not self.waiting:
            return
        self.store.reserve()
        try:
            with self._progress():
                while self.waiting or self.running:
                    while self.waiting and len(self.running) < self.executor.slots():
                        self._submit(self.waiting.popleft())
                    if self.running:
                        finished, _ = wait(self.running, return_when=FIRST_COMPLETED)
                        self._collect(finished)
        except (KeyboardInterrupt, StoreFullError) as problem:
            self._rescue(wait_for_all=isinstance(problem, StoreFullError))
            raise

    def _submit(self, job: Job) -> None:
        known = self.store.entries([job.key]).get(job.key)
        if known is not None and known.rows is not None:  # by another run on the same file
            self.stored += 1
            self._count(job)
            return
        self.running[self.executor.submit(solve, self.study.home, self.code, _parameters(job.cell))] = job

    def _collect(self, finished: set[Future[Solved]]) -> None:
        for future in finished:
            job = self.running.pop(future)
            if not future.cancelled() and isinstance(future.exception(), BrokenExecutor):
                self.losses[job.key] = self.losses.get(job.key, 0) + 1
                if self.losses[job.key] < _CHANCES:
                    self.waiting.append(job)
                    continue
            self._store(job, _answer(future))
            self._count(job)

    def _store(self, job: Job, solved: Solved) -> None:
        if solved.rows is None:
            self.failures.append(f"{self.study.name}: {job}: {solved.message}")
        self.store.put(
            Entry(
                job.key,
                self.study.name,
                job.parameters,
                self.code,
                solved.rows,
                solved.message,
                job.cost,
                solved.seconds,
            )
        )

    def _rescue(self, wait_for_all: bool) -> None:
        """Store what is done, or after a full disk what is still being computed, before the sweep ends."""
        self.waiting.clear()
        while self.running:
            ready = [future for future in self.running if future.done()]
            if not ready and not wait_for_all:
                break
            finished = set(ready) or wait(self.running, return_when=FIRST_COMPLETED)[0]
            for future in finished:
                job = self.running.pop(future)
                if not future.cancelled() and future.exception() is None:
                    self._store(job, future.result())

    def _count(self, job: Job) -> None:
        self.bar.update(job.cost)
        elapsed = max(time.monotonic() - self.started, 1e-3)
        self.finished += 1
        self.bar.set_postfix_str(f"{self.finished}/{self.total} cells, {self.finished / elapsed:.2g}/s", refresh=False)

    @contextmanager
    def _progress(self) -> Iterator[None]:
        """Show how much of the foreseen work is done; dear cells come first, so their number would mislead."""
        self.started, self.finished, self.total = time.monotonic(), 0, len(self.waiting)
        with tqdm(
            desc=self.study.name,
            total=sum(job.cost for job in self.waiting),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            leave=False,
            delay=_QUIET,
        ) as self.bar:
            yield


def solve(module: str, code: str, parameters: Mapping[str, Any]) -> Solved:
    """Solve one cell; what a process or a cluster's worker runs. Never raises, so that any problem can be recorded."""
    started = 0.0
    try:
        study: Study = importlib.import_module(module).STUDY
        started = time.process_time()
        if version(study) != code:
            raise RuntimeError("this worker has another version of the code")
        cell = study.cell(**parameters)
        rows = [{name: _plain(value) for name, value in row.items()} for row in study.solve(cell)]
        json.dumps(rows)
    except Exception as problem:
        return Solved(None, failure(problem), time.process_time() - started)
    return Solved(rows, None, time.process_time() - started)


def _answer(future: Future[Solved]) -> Solved:
    try:
        return future.result()
    except BaseException as problem:  # CancelledError is not an Exception
        if isinstance(problem, KeyboardInterrupt):
            raise
        return Solved(None, failure(problem), 0.0)


def _parameters(cell: Any) -> dict[str, Any]:
    return {field.name: getattr(cell, field.name) for field in dataclasses.fields(cell)}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
