"""What a study is: a grid of cells, a pure function that solves one, and what is made of the rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from studies._command import Parser

Row = dict[str, Any]
Tables = dict[str, list[Row]]


@dataclass(frozen=True)
class Table:
    """A table of text as a report shows it; the first ``left`` columns are names, the others numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 2


@dataclass(frozen=True)
class Report:
    """What a study says: tables of text, and its verdict in sentences with numbers and intervals."""

    tables: Sequence[Table]
    verdict: Sequence[str]


@dataclass(frozen=True)
class Study:
    """A question, as a grid of cells and a fold.

    Attributes
    ----------
    name : str
        Of the module ``studies.NAME``, which holds this object as ``STUDY``; of ``figures.NAME``, whose
        ``draw(tables)`` returns the figures by file name; and of the files that a run writes.
    described : str
        The module's docstring: the question on its first line.
    example : str
        Command lines, for --help.
    cell : type
        A frozen dataclass of str, int, float, bool, None and tuples of these, with a property ``cost``: processor
        seconds, roughly. All that a result depends on but the code.
    cells : function of the options
        The grid, in the order of the rows. A ``ValueError`` is the command's one-line error.
    solve : function of a cell
        Its rows, of JSON values. Depends on nothing but the cell; runs in a process of its own.
    fold : function of the rows and the options
        Tables to write, by file suffix; ``""`` is the main one. Copes with missing cells.
    report : function of the tables and the options
        What is said of them. Copes with missing rows.
    add_options : function of the parser
        The study's own options, with default None where ``full`` and ``quick`` have one.
    full, quick : mappings
        Defaults of options that the user left out; ``quick`` overrides ``full`` with --quick.
    workers : int or None
        Most cells that may run at once on a machine: 1 for a study that measures time.
    module : str
        Where ``STUDY`` is, if not in ``studies.NAME``.
    needs : mapping
        Packages that only this study needs, and the extra of setup.cfg that installs each.
    """

    name: str
    described: str
    example: str
    cell: Callable[..., Any]
    cells: Callable[[Namespace], Sequence[Any]]
    solve: Callable[[Any], list[Row]]
    fold: Callable[[list[Row], Namespace], Tables]
    report: Callable[[Tables, Namespace], Report]
    add_options: Callable[[Parser], None]
    full: Mapping[str, Any]
    quick: Mapping[str, Any]
    workers: int | None = None
    module: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """Say which optional package is not installed, and how to install it; empty if none is missing."""
        for package in self.needs:
            if find_spec(package) is None:
                extras = ",".join(dict.fromkeys(self.needs.values()))
                return f"{self.name} needs {package}, which is not installed: pip install 'srkverify[{extras}]'"
        return ""

    @property
    def home(self) -> str:
        """The module that holds the study, also while it runs as a program."""
        return self.module or f"studies.{self.name}"

    @property
    def drawing(self) -> str:
        """The module whose ``draw(tables)`` returns the figures."""
        return f"{self.module}_figure" if self.module else f"figures.{self.name}"


def seed_of(cell: Any, purpose: str = "") -> int:
    """Return a seed in [0, 2⁵⁶) of the cell's own (a dataclass), whatever else the grid holds; one for each purpose."""
    name = json.dumps([type(cell).__name__, dataclasses.asdict(cell), purpose], sort_keys=True)
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")
