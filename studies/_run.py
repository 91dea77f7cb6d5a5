"""The command of a study: options, sweep, files, report, figures."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies import _command
from studies._executors import Cluster, Executor, Processes, processors
from studies._say import say
from studies._store import Store
from studies._study import Report, Study, Tables
from studies._sweep import Outcome, Price, price, sweep, version

INTERRUPTED = 130  # what shells report of an interrupted command
_FRAMEWORK = ("out", "quick", "workers", "scheduler", "dry_run", "parquet", "store")


@dataclass(frozen=True)
class Result:
    """What a run of a study leaves: its tables, what they say, and the figures by file name."""

    study: Study
    options: Namespace
    outcome: Outcome
    tables: Tables
    report: Report
    figures: dict[str, Any]
    files: tuple[Path, ...]

    @property
    def status(self) -> int:
        """The command's exit status: 0, or 1 if a cell has no result, or 130 after an interrupt."""
        if self.outcome.interrupted:
            return INTERRUPTED
        return 0 if self.outcome.complete else 1


def run_command(study: Study, argv: Sequence[str] | None = None) -> int:
    """Run a study from its command line; returns the exit status.

    0 if every cell is done; 1 if a cell failed or the disk is full, with a line for each reason; 2 for a wrong
    argument; 130 after an interrupt. In every case what has been computed is kept, and the next run goes on from there.
    """
    command = parser(study)
    try:
        options = parsed(study, command.parse_args(argv))
        if options.dry_run:
            say(priced(study, options))
            return 0
        result = run(study, options)
    except (ValueError, OSError) as problem:
        command.error(str(problem))
    say(text(result.report))
    for line in complaints(result.outcome):
        print(line, file=sys.stderr)
    say("\nWritten: " + " ".join(str(path) for path in result.files))
    return result.status


def parser(study: Study) -> _command.Parser:
    """Return the command line of a study."""
    result = _command.Parser(
        prog=f"python -m studies.{study.name}",
        description=study.described.strip(),
        epilog="example:\n" + "\n".join(f"  {line.strip()}" for line in study.example.strip().splitlines()),
    )
    study.add_options(result)
    result.add_output_options()
    result.add_sweep_options()
    return result


def parsed(study: Study, options: Namespace) -> Namespace:
    """Fill in what the user left out."""
    _command.fill_in(options, study.full, study.quick)
    if options.store is None:
        options.store = options.out / "results.sqlite"
    return options


def priced(study: Study, options: Namespace) -> str:
    """Say what a run would cost, without running it."""
    with Store(options.store) as store:
        left = price(study, study.cells(options), store)
    workers = _workers(study, options)
    return price_text(study.name, left, workers if options.scheduler is None else None)


def run(study: Study, options: Namespace) -> Result:
    """Solve what is not stored yet, fold, write tables and figures.

    Raises
    ------
    ValueError
        If the options do not make a grid, or name a store or scheduler that is none, or a package is missing.
    OSError
        If a file cannot be written.
    """
    started = time.perf_counter()
    if study.missing:
        raise ValueError(study.missing)
    grid = study.cells(options)
    with Store(options.store) as store:
        outcome = sweep(study, grid, store, _executor(study, options))
    tables = study.fold(outcome.rows, options)
    files = _write(study, options, tables, outcome, time.perf_counter() - started)
    report = study.report(tables, options)
    figures, drawn = _draw(study, options, tables)
    return Result(study, options, outcome, tables, report, figures, (*files, *drawn))


def text(report: Report) -> str:
    """Return a report as a terminal shows it."""
    parts = []
    for table in report.tables:
        heading = f"{table.title}\n" if table.title else ""
        parts.append(heading + _command.table(table.header, table.rows, table.left))
    return "\n\n".join([*parts, "\n".join(report.verdict)]).strip()


def complaints(outcome: Outcome) -> list[str]:
    """Return a line for every reason why something is missing."""
    lines = [f"failed: {line}" for line in outcome.failures]
    if outcome.stopped is not None:
        lines.append(f"stopped: {outcome.stopped}; what is done is stored, and the same command goes on from there")
    return lines


def _executor(study: Study, options: Namespace) -> Executor:
    return Processes(_workers(study, options)) if options.scheduler is None else Cluster(options.scheduler)


def _workers(study: Study, options: Namespace) -> int:
    asked: int = options.workers or processors()
    return asked if study.workers is None else min(asked, study.workers)


def price_text(name: str, left: Price, workers: int | None) -> str:
    """Return a line on what is left to do, on so many processes of this machine, or on a cluster if None."""
    todo = left.cells - left.stored
    took = f"about {duration(left.seconds)} of processor time"
    if workers is not None:
        took += f", {duration(left.seconds / workers)} on {workers} process{'es' * (workers > 1)}"
    return f"{name}: {left.cells} cells, {left.stored} stored, {todo} to solve: {took if todo else 'nothing to do'}"


def duration(seconds: float) -> str:
    """Return a time as one says it."""
    if seconds < 100.0:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000.0 else f"{seconds / 3600:.3g} h"


def _write(study: Study, options: Namespace, tables: Tables, outcome: Outcome, elapsed: float) -> list[Path]:
    """Write tables and metadata; return their paths."""
    stem, written = options.out / study.name, []
    for suffix, rows in tables.items():
        written.append(Path(f"{stem}{suffix}.csv"))
        _command.write_rows(written[-1], rows)
        if options.parquet:
            written.append(Path(f"{stem}{suffix}.parquet"))
            _command.write_parquet(written[-1], rows)
    written.append(Path(f"{stem}.json"))
    settings = {key: value for key, value in vars(options).items() if key not in _FRAMEWORK or key == "quick"}
    counted = dataclasses.asdict(dataclasses.replace(outcome, rows=[]))
    del counted["rows"]
    _command.write_metadata(written[-1], settings, sweep=counted, code=version(study), seconds=round(elapsed, 1))
    return written


def _draw(study: Study, options: Namespace, tables: Tables) -> tuple[dict[str, Any], list[Path]]:
    """Draw and write the figures; none, with a line on stderr, if there is nothing to draw."""
    from figures import style

    drawing = importlib.import_module(study.drawing)
    with style.style():
        try:
            figures = drawing.draw(tables)
        except ValueError as problem:
            print(f"no figure: {problem}", file=sys.stderr)
            return {}, []
        return figures, [path for stem, figure in figures.items() for path in style.save(figure, options.out / stem)]
