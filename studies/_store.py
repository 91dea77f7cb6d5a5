"""Results on disk: one SQLite file that holds every cell that was ever solved, written one transaction a cell.

The file survives kills and power cuts (write-ahead log, synchronised at every commit) and may be written by several
runs at once. A cell that is done is never overwritten.
"""

from __future__ import annotations

import json
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from studies._study import Row

VERSION = 1
_APPLICATION = 0x53524B56  # "SRKV": tells the file from other SQLite files
_RESERVE = 1 << 20  # bytes that are given back when the disk is full, so that running cells can still be stored
_PATIENCE = 60.0  # seconds to wait for another run's transaction
_PAUSE = 0.001  # seconds until a lock is asked for again
_SCHEMA = """
CREATE TABLE cells (
    key TEXT PRIMARY KEY,
    study TEXT NOT NULL,
    parameters TEXT NOT NULL,
    code TEXT NOT NULL,
    rows TEXT,
    message TEXT,
    cost REAL NOT NULL,
    seconds REAL NOT NULL,
    host TEXT NOT NULL,
    finished TEXT NOT NULL,
    CHECK ((rows IS NULL) != (message IS NULL))
);
CREATE INDEX cells_of_study ON cells (study);
"""


class StoreFullError(OSError):
    """The disk holds no more; what was handed in before has been stored."""


@dataclass(frozen=True)
class Entry:
    """What is known of a cell.

    Attributes
    ----------
    key : str
        Digest of the study, the cell's parameters and the version of the code.
    study, parameters, code : str
        What the key was made of; parameters as JSON.
    rows : list of rows, or None if the cell failed.
    message : why it failed, or None.
    cost : processor seconds as foreseen by the study.
    seconds : processor seconds that it took.
    """

    key: str
    study: str
    parameters: str
    code: str
    rows: list[Row] | None
    message: str | None
    cost: float
    seconds: float


class Store:
    """A file of results; a context manager.

    Parameters
    ----------
    path : Path
        Made if it does not exist.

    Raises
    ------
    ValueError
        If the file is not a store, or one of a later version.
    OSError
        If it cannot be opened or made, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reserve: Any = None
        try:
            self._connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        except sqlite3.Error as problem:
            raise OSError(f"{path}: {problem}") from None
        try:
            self._begin()
        except sqlite3.Error as problem:
            self._connection.close()
            if "not a database" in str(problem):
                raise self._foreign() from None
            raise OSError(f"{path}: {problem}") from None
        except ValueError:
            self._connection.close()
            raise

    def _begin(self) -> None:
        """Make the tables, or see that they are there."""
        execute = self._connection.execute
        self._when_free("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        with self._transaction():
            (application,), (version,) = (
                execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
            )
            if application == version == 0 and not execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    execute(statement)
                execute(f"PRAGMA application_id = {_APPLICATION}")
                execute(f"PRAGMA user_version = {VERSION}")
            elif application != _APPLICATION:
                raise self._foreign()
            elif version > VERSION:
                raise ValueError(
                    f"store must be of version <= {VERSION}; got {self.path}, of version {version}: "
                    "a later srkverify has written it"
                )

    def _foreign(self) -> ValueError:
        return ValueError(f"store must be a file that the studies have written, or new; got {self.path}")

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        if self._reserve is not None:
            self._reserve.close()

    def entries(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return what is known of the cells with these keys."""
        found = {}
        wanted = list(keys)
        for begin in range(0, len(wanted), 500):  # SQLite takes a limited number of parameters
            some = wanted[begin : begin + 500]
            marks = ",".join("?" * len(some))
            for row in self._connection.execute(
                f"SELECT key, study, parameters, code, rows, message, cost, seconds FROM cells WHERE key IN ({marks})",
                some,
            ):
                key, study, parameters, code, rows, message, cost, seconds = row
                solved = None if rows is None else json.loads(rows)
                found[key] = Entry(key, study, parameters, code, solved, message, cost, seconds)
        return found

    def pace(self, study: str) -> float:
        """Return processor seconds over foreseen ones of the cells of a study that are stored; 1 if there are none."""
        total, foreseen = self._connection.execute(
            "SELECT sum(seconds), sum(cost) FROM cells WHERE study = ? AND rows IS NOT NULL", (study,)
        ).fetchone()
        return float(total / foreseen) if foreseen else 1.0

    def reserve(self) -> None:
        """Set space on the disk aside for the cells that run when it fills up.

        Raises
        ------
        StoreFullError
            If there is none even now.
        """
        if self._reserve is not None:
            return
        try:
            self._reserve = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115, held until it is needed
            self._reserve.write(bytes(_RESERVE))
            self._reserve.flush()
        except OSError as problem:
            raise StoreFullError(f"{self.path.parent}: {problem.strerror}") from None

    def put(self, entry: Entry) -> None:
        """Store an entry, unless the cell is done already.

        Raises
        ------
        StoreFullError
            If the disk is full. The entry is stored nevertheless, in the space that was set aside.
        """
        try:
            self._write(entry)
        except sqlite3.OperationalError as problem:
            if self._reserve is not None:
                self._reserve.close()
                self._reserve = None
            try:
                self._write(entry)
            except sqlite3.OperationalError:
                raise StoreFullError(f"{self.path}: {problem}, and a result could not be stored") from None
            raise StoreFullError(f"{self.path}: {problem}") from None

    def _write(self, entry: Entry) -> None:
        rows = None if entry.rows is None else json.dumps(entry.rows)
        values = (entry.key, entry.study, entry.parameters, entry.code, rows, entry.message, entry.cost, entry.seconds)
        with self._transaction():
            self._connection.execute(
                "INSERT INTO cells VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (key) DO UPDATE SET rows = excluded.rows, "
                "message = excluded.message, seconds = excluded.seconds, host = excluded.host, "
                "finished = excluded.finished WHERE cells.rows IS NULL",
                (*values, platform.node(), datetime.now(UTC).isoformat(timespec="seconds")),
            )

    def _when_free(self, statement: str) -> None:
        """Execute a statement that locks the file, as soon as no other run writes, or is suspended as it does."""
        while True:
            try:
                self._connection.execute(statement)
                return
            except sqlite3.OperationalError as problem:
                if problem.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
            time.sleep(_PAUSE)  # SQLite itself waits for its time-out only where that cannot lock two runs for good

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._when_free("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
