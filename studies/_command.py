"""What the studies' commands share: argument types, output directory, one-line errors, atomic files."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from srkverify import __version__, _check

Value = TypeVar("Value")

# What lists that several studies take hold.
_WORDS = {
    "families": "families of targets",
    "schemes": "samplers",
    "dimensions": "dimensions",
    "steps": "numbers of steps",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line on stderr and exit status 2."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print ``message`` on one line and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def add_output_options(self) -> None:
        """Add --out and --quick, which every study takes."""
        self.add_argument(
            "--out",
            type=output_directory,
            default="results",
            metavar="DIR",
            help="directory for rows and figures (default: results)",
        )
        self.add_argument("--quick", action="store_true", help="smaller default grids: a look in seconds")

    def add_names(self, plural: str, kind: str, allowed: Iterable[str], default: Iterable[str] | None = None) -> None:
        """Add --PLURAL, a list of names of a kind; the help says which are the default, all if None."""
        known = ", ".join(names := list(allowed))
        said = f"all): {known}" if default is None else f"{', '.join(default)}); known: {known}"
        self.add_argument(
            f"--{plural}",
            type=listed(name_of(kind, names)),
            metavar="NAME,…",
            help=f"{_WORDS[plural]} (default: {said}",
        )

    def add_integers(self, plural: str, kind: str, at_least: int, at_most: int, default: str | Iterable[int]) -> None:
        """Add --PLURAL, a list of integers; the help says which are the default."""
        said = default if isinstance(default, str) else ",".join(f"{value:g}" for value in default)
        self.add_argument(
            f"--{plural}",
            type=listed(integer(kind, at_least, at_most)),
            metavar=f"{'D' if plural == 'dimensions' else 'K'},…",
            help=f"{_WORDS[plural]} (default: {said})",
        )

    def add_sweep_options(self) -> None:
        """Add what the sweep engine takes of every study."""
        sweep = self.add_argument_group("running")
        sweep.add_argument(
            "--workers",
            type=integer("workers", 1, 1 << 12),
            metavar="N",
            help="processes that solve cells (default: one a processor)",
        )
        sweep.add_argument(
            "--scheduler",
            metavar="ADDRESS",
            help="solve cells on a dask.distributed cluster, as in tcp://host:8786 (pip install 'srkverify[cluster]')",
        )
        sweep.add_argument(
            "--store",
            type=Path,
            metavar="FILE",
            help="SQLite file of all cells ever solved, from which a stopped run goes on (default: DIR/results.sqlite)",
        )
        sweep.add_argument("--dry-run", action="store_true", help="say what the run would cost, and stop")
        sweep.add_argument(
            "--parquet",
            action=_Parquet,
            help="write the tables as Parquet too (pip install 'srkverify[parquet]')",
        )


class _Parquet(argparse.Action):
    """A switch that is refused where Parquet cannot be written, before anything is computed."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(nargs=0, default=False, **settings)

    def __call__(self, parser: argparse.ArgumentParser, options: Namespace, *_: Any) -> None:
        """Switch on."""
        if find_spec("pyarrow") is None:
            parser.error("--parquet needs pyarrow: pip install 'srkverify[parquet]'")
        setattr(options, self.dest, True)


def fill_in(options: Namespace, full: Mapping[str, Any], quick: Mapping[str, Any]) -> None:
    """Give options that the user left out their defaults: those of ``full``, or of ``quick`` where it has them."""
    for name, default in ({**full, **quick} if options.quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, default)


def _argument(check: Callable[[str], Value]) -> Callable[[str], Value]:
    """Make a check that raises ``ValueError`` into an argument type whose message argparse shows as it is."""

    def parse(text: str) -> Value:
        try:
            return check(text)
        except ValueError as problem:
            raise argparse.ArgumentTypeError(str(problem)) from None

    return parse


def listed(each: Callable[[str], Value]) -> Callable[[str], tuple[Value, ...]]:
    """Return the argument type of a comma-separated list, each item once, in the order given."""

    def parse(text: str) -> tuple[Value, ...]:
        return tuple(dict.fromkeys(each(item.strip()) for item in text.split(",")))

    return parse


def name_of(kind: str, allowed: Iterable[str]) -> Callable[[str], str]:
    """Return the argument type of one of ``allowed``; an unknown name suggests the nearest."""
    names = list(allowed)
    return _argument(lambda text: _check.choice(kind, text, names))


def number(kind: str, **bounds: float) -> Callable[[str], float]:
    """Return the argument type of a finite number; ``bounds`` are above, at_least and below."""
    return _argument(lambda text: _check.number(kind, text, **bounds))


def integer(kind: str, at_least: int, at_most: int) -> Callable[[str], int]:
    """Return the argument type of an integer in [at_least, at_most]; 1e5 is read as 100000."""

    def check(text: str) -> int:
        try:
            value = float(text)
            whole = int(value) if value.is_integer() else None
        except ValueError:
            whole = None
        if whole is None or not at_least <= whole <= at_most:
            raise ValueError(f"{kind} must be an integer >= {at_least} and <= {at_most}; got {text!r}")
        return whole

    return _argument(check)


def output_directory(text: str) -> Path:
    """Return ``text`` as a directory that can be written to, made if need be; an argument type."""
    path = Path(text)
    allowed = "--out must be a directory, existing or new, that can be written to"
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as problem:
        raise argparse.ArgumentTypeError(f"{allowed}; got {text!r}: {problem.strerror}") from None
    return path


def write_text(path: Path, text: str) -> None:
    """Write ``path`` in one move, so that a reader or an interrupted run never sees half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with equal keys as CSV, floats with every digit."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in row.items()} for row in rows)
    write_text(path, buffer.getvalue())


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with equal keys as Parquet; a column with any float is of floats."""
    import pyarrow
    import pyarrow.parquet

    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    for name, values in columns.items():
        if any(isinstance(value, float) for value in values):
            columns[name] = [None if value is None else float(value) for value in values]
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        pyarrow.parquet.write_table(pyarrow.table(columns), name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write_metadata(path: Path, options: Mapping[str, Any], **more: Any) -> None:
    """Write the options of a run and the versions it was made with as JSON."""
    packages = {name: version(name) for name in ("numpy", "scipy", "numba", "matplotlib")}
    versions = {"srkverify": __version__, "python": platform.python_version(), **packages}
    record = {"options": dict(options), "versions": versions, **more}
    write_text(path, json.dumps(record, indent=2, default=str) + "\n")


def progress(total: int, unit: str) -> Any:
    """Return a progress bar on stderr, silent when stderr is not a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, file=sys.stderr, disable=not sys.stderr.isatty(), leave=False)


@contextmanager
def workers(threads: int | None, total: int, unit: str) -> Iterator[tuple[ThreadPoolExecutor, Any]]:
    """Yield a pool of threads and a progress bar; an interrupt ends the body and drops the work not yet begun."""
    with ThreadPoolExecutor(threads) as pool, progress(total, unit) as bar:
        try:
            yield pool, bar
        except BaseException as problem:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(problem, KeyboardInterrupt):
                raise
            print("interrupted: writing the cells that are done", file=sys.stderr)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 2) -> str:
    """Return an aligned table; the first ``left`` columns are flush left, the others flush right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def aligned(line: Sequence[str]) -> str:
        cells = [
            f"{cell:<{width}}" if column < left else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([aligned(lines[0]), rule, *map(aligned, lines[1:])])


def _plain(value: Any) -> Any:
    return repr(float(value)) if isinstance(value, float) else value
