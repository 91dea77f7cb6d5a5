"""A study for the tests of the sweep engine: squares, with cells that fail, are slow, or kill their process."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from studies._run import run_command
from studies._study import Report, Study, Table


@dataclass(frozen=True)
class Cell:
    """A number to square, and what happens on the way."""

    number: int
    log: str  # a file that gets a line for each time that a cell is solved
    seconds: float = 0.0
    fate: str = "well"
    size: int = 0  # of the row, in characters

    @property
    def cost(self) -> float:
        """Processor seconds."""
        return 0.01 + self.seconds


def solve(cell):
    with open(cell.log, "a", encoding="utf-8") as log:
        log.write(f"{cell.number} {os.getpid()}\n")
    time.sleep(cell.seconds)
    if cell.fate == "raises":
        raise ValueError(f"number must be lucky; got {cell.number}")
    if cell.fate == "dies" or (cell.fate == "dies once" and not _again(cell)):
        os.kill(os.getpid(), signal.SIGKILL)
    return [{"number": cell.number, "square": cell.number**2, "tenth": cell.number / 10, "text": "x" * cell.size}]


def _again(cell):
    lines = Path(cell.log).read_text(encoding="utf-8").splitlines()
    return sum(line.split()[0] == str(cell.number) for line in lines) > 1


def cells(options):
    fates = dict(each.split(":") for each in options.fates.split(",")) if options.fates else {}
    return [
        Cell(n, str(options.log), options.seconds, fates.get(str(n), "well"), options.size)
        for n in range(options.count)
    ]


def add_options(parser):
    parser.add_argument("--count", type=int)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--fates", default="")


def report(tables, options):
    rows = [[str(row["number"]), str(row["square"])] for row in tables[""]]
    return Report([Table("Squares", ["number", "square"], rows, left=0)], [f"{len(rows)} squares."])


STUDY = Study(
    name="toy_study",
    described="Are squares squares.",
    example="python -m toy_study",
    cell=Cell,
    cells=cells,
    solve=solve,
    fold=lambda rows, options: {"": rows},
    report=report,
    add_options=add_options,
    full={"count": 6},
    quick={"count": 3},
    module="toy_study",
)

if __name__ == "__main__":
    sys.exit(run_command(STUDY))
